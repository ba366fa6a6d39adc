"""What the processor is called."""

from __future__ import annotations

import platform
from pathlib import Path

KEYS = ("model name", "Model", "Hardware")
"""Of /proc/cpuinfo, on x86-64 and on boards."""


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Give the processor's name; without `cpuinfo`, what Python knows."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    named = (facts[key] for key in KEYS if facts.get(key))
    return next(named, platform.processor() or platform.machine())
