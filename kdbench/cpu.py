"""What the processor is, how its cores are laid out, and which of them are worth computing on."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from kdbench.sysfs import ROOT, integer, numbers, parse_list, text

FEATURES = frozenset(
    {"fma", "f16c", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
    | {"avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16"}
    | {"asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16", "svei8mm", "sme"}
)
"""Instruction sets that inference runtimes have kernels for, as /proc/cpuinfo spells them."""

PERFORMANCE_SHARE = 0.75
"""A core of at least this share of the strongest one's capacity counts as a performance core.

Efficiency cores have about half and less; cores of one kind differ by a few percent of top frequency.
"""

_CPUS = "sys/devices/system/cpu"


def affinity(root: Path = ROOT) -> tuple[int, ...]:
    """List the logical CPUs that the calling thread may run on, in ascending order."""
    online = numbers(root / _CPUS / "online")
    for line in (text(root / "proc/thread-self/status") or "").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = parse_list(line.partition(":")[2])
            # The mask may name CPUs that could be plugged in but are not.
            return tuple(cpu for cpu in allowed if cpu in online) or allowed
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def performance_cores(allowed: Collection[int], root: Path = ROOT) -> tuple[int, ...]:
    """Choose one logical CPU of each physical core among `allowed`, efficiency cores left out.

    Where no core is known for performance, as on a process tied to efficiency cores, all are taken.
    """
    declared = numbers(root / "sys/devices/cpu_core/cpus")
    chosen = [cpu for cpu in sorted(allowed) if cpu in declared] or sorted(allowed)
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        chosen = _strongest(chosen, [integer(root / _CPUS / f"cpu{cpu}" / name) for cpu in chosen])
    first_of: dict[tuple[int, ...], int] = {}
    for cpu in chosen:
        first_of.setdefault(siblings(cpu, root), cpu)
    return tuple(first_of.values())


def siblings(cpu: int, root: Path = ROOT) -> tuple[int, ...]:
    """List the logical CPUs of the physical core that `cpu` belongs to, itself included."""
    return numbers(root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list") or (cpu,)


def describe(root: Path = ROOT) -> dict[str, Any]:
    """Give what is known about the processor as plain JSON; None for what this system does not tell.

    physical: cores, all online ones. features: those of `FEATURES` that it has. max_mhz: the highest
    frequency allowed now. virtual: whether a hypervisor shows itself. caches: of the first usable CPU.
    """
    fields = _cpuinfo(root)
    online = numbers(root / _CPUS / "online") or tuple(range(os.cpu_count() or 1))
    first = (affinity(root) or online)[0]
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    policy = root / _CPUS / f"cpu{first}/cpufreq"
    max_khz = integer(policy / "scaling_max_freq")
    smt = integer(root / _CPUS / "smt/active")
    return {
        "model": fields.get("model name") or _arm_model(fields) or platform.processor() or None,
        "vendor": fields.get("vendor_id") or fields.get("CPU implementer"),
        "logical": len(online),
        "physical": _physical(online, root),
        "features": sorted(FEATURES & flags) if flags else None,
        "virtual": "hypervisor" in flags if "flags" in fields else None,
        "smt": None if smt is None else bool(smt),
        "numa_nodes": len(numbers(root / "sys/devices/system/node/online")) or None,
        "caches": _caches(root / _CPUS / f"cpu{first}/cache"),
        "frequency_driver": text(policy / "scaling_driver"),
        "governor": text(policy / "scaling_governor"),
        "max_mhz": None if max_khz is None else max_khz / 1000,
        "turbo": _turbo(root),
    }


def _cpuinfo(root: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _arm_model(fields: dict[str, str]) -> str | None:
    """ARM kernels give numbers instead of a name; they name the core's design all the same."""
    if "CPU part" not in fields:
        return None
    parts = [
        f"{key.lower()} {fields[f'CPU {key}']}" for key in ("implementer", "part", "variant", "revision")
    ]
    return "ARM " + ", ".join(parts)


def _physical(online: Sequence[int], root: Path) -> int | None:
    if (root / _CPUS / f"cpu{online[0]}/topology").is_dir():
        return len({siblings(cpu, root) for cpu in online})
    import psutil

    return psutil.cpu_count(logical=False)


def _strongest(cpus: list[int], strengths: list[int | None]) -> list[int]:
    best = max((strength for strength in strengths if strength), default=0)
    return [
        cpu
        for cpu, strength in zip(cpus, strengths, strict=True)
        if not strength or strength >= PERFORMANCE_SHARE * best
    ]


def _caches(folder: Path) -> list[dict[str, Any]] | None:
    caches = []
    for index in sorted(folder.glob("index[0-9]*"), key=lambda path: path.name):
        size = (text(index / "size") or "").removesuffix("K")
        caches.append(
            {
                "level": integer(index / "level"),
                "type": (text(index / "type") or "").lower(),
                "bytes": int(size) * 1024 if size.isdecimal() else None,
                "shared_by": len(numbers(index / "shared_cpu_list")) or None,
            }
        )
    return caches or None


def _turbo(root: Path) -> bool | None:
    disabled = integer(root / _CPUS / "intel_pstate/no_turbo")
    if disabled is not None:
        return not disabled
    enabled = integer(root / _CPUS / "cpufreq/boost")
    return None if enabled is None else bool(enabled)
