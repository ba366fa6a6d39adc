"""What the control groups of this process allow it (versions 1 and 2), and how often they held it back.

A limit may sit on the process's own group or on any group above it; the tightest one holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kdbench.sysfs import ROOT, integer, text

_UNLIMITED_BYTES = 2**60
"""Version 1 writes `no limit` as a number just below 2**63."""


def cpu_quota(root: Path = ROOT) -> float | None:
    """Tell how many CPUs' worth of time may be used per period, 1.5 for one and a half; None: no limit."""
    quotas = []
    for folder in _folders("cpu", root):
        words = (text(folder / "cpu.max") or "").split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
        quota, period = integer(folder / "cpu.cfs_quota_us"), integer(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """Tell how much memory may be used before the kernel kills; None: no limit."""
    limits = []
    for folder in _folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = integer(folder / name)
            if limit is not None and limit < _UNLIMITED_BYTES:
                limits.append(limit)
    return min(limits, default=None)


def throttled_ns(root: Path = ROOT) -> int | None:
    """Tell how long a quota has held these groups back, summed from the own group upwards.

    Only grows; the difference of two readings belongs to the time between them. None: not counted here.
    """
    found = []
    for folder in _folders("cpu", root):
        for line in (text(folder / "cpu.stat") or "").splitlines():
            match line.split():
                case ["throttled_usec", count] if count.isdecimal():
                    found.append(int(count) * 1000)
                case ["throttled_time", count] if count.isdecimal():
                    found.append(int(count))
    return sum(found) if found else None


def _folders(controller: str, root: Path) -> Iterator[Path]:
    mounts = root / "sys/fs/cgroup"
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if controllers and controller not in controllers.split(","):
            continue
        base = mounts / (controller if controllers else "")
        if not controllers and (mounts / "unified").is_dir():
            base = mounts / "unified"
        # Inside a container the path may name groups that are mounted elsewhere; those do not exist here.
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth])
