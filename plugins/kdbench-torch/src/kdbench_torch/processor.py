"""What the processor is called, and which precisions it has instructions for."""

from __future__ import annotations

import platform
from pathlib import Path

from kdbench.spec import Precision

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""As Linux names them: two for x86-64, the last for 64-bit Arm. Elsewhere torch emulates bf16."""


def identify(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, tuple[Precision, ...]]:
    """Give the processor's name and native precisions; without `cpuinfo`, what Python knows and fp32."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    # Read backwards, so that of the lines that repeat for every core the first one stays.
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))
    }
    flags = {*facts.get("flags", "").split(), *facts.get("Features", "").split()}
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, ("fp32", "bf16") if flags & BF16_FLAGS else ("fp32",)
