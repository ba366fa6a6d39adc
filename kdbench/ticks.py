"""What each CPU of this machine has done since it was started, from /proc/stat.

The kernel counts in clock ticks, usually of 10 ms, and truncates each count: a difference of two readings is
off by up to one tick for each count and CPU in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from kdbench.sysfs import ROOT, text

ALL = "cpu"
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_UNUSED = ("idle", "iowait", "steal")


def read(root: Path = ROOT) -> dict[str, dict[str, int]]:
    """Give the nanoseconds of each state of each CPU by its name, `cpu0`; `ALL` is the sum of all.

    Empty where the system does not tell.
    """
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    found = {}
    for line in (text(root / "proc/stat") or "").splitlines():
        name, *counts = line.split()
        if not name.startswith(ALL):
            break  # the long list of interrupts follows, and nothing of the CPUs after it
        if len(counts) >= len(_FIELDS) and all(map(str.isdecimal, counts)):
            found[name] = {field: int(count) * tick_ns for field, count in zip(_FIELDS, counts, strict=False)}
    return found


def stolen_ns(times: Mapping[str, Mapping[str, int]], cpus: Collection[int] | None = None) -> int | None:
    """Sum what a hypervisor took from `cpus` (None: all); None where none of them is counted."""
    names = [ALL] if cpus is None else [f"{ALL}{number}" for number in cpus]
    known = [times[name]["steal"] for name in names if name in times]
    return sum(known) if known else None


def unused_ns(times: Mapping[str, Mapping[str, int]], cpus: Collection[int]) -> int | None:
    """Sum the time that `cpus` were idle or taken by a hypervisor; None unless all of them are counted.

    What is left of the time that went by is what somebody computed. That is steadier than the sum of the
    busy states: the idle time of a CPU that is never idle does not change, whatever the ticks.
    """
    names = [f"{ALL}{number}" for number in cpus]
    if not names or any(name not in times for name in names):
        return None
    return sum(times[name][field] for name in names for field in _UNUSED)
