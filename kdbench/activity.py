"""What this machine is doing now: who computes, what a hypervisor or a quota takes, its clock and its heat.

Two samples, about a second apart, give one `Activity`. What is not told is None, never zero.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdbench import cgroup, cpu, sensors, ticks
from kdbench.strict import clean
from kdbench.sysfs import ROOT

TOLD = 5
"""Processes that are told of at most, the busiest ones."""

NOTICED = 0.01
"""A process below this share of a CPU is not told of."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at one moment. processes: CPU seconds and name, by number and time of start; not this one."""

    at_s: float
    times: Mapping[str, Mapping[str, int]]
    own_ns: int
    processes: Mapping[tuple[int, float], tuple[float, str]]
    throttled_ns: int | None = None
    throttle_count: int | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened between two samples; shares are of one CPU's time, or of the time that passed.

    other: CPU time of everybody but this process, on all CPUs, in CPUs. processes: the busiest of them by
    name, those of one name together. steal: what a hypervisor took, in CPUs. throttled: for what share of
    the time a quota held this control group back, throttled_before_s: how long before. throttles: how often
    heat slowed a CPU, throttles_before: how often before.
    """

    seconds: float
    cpus: int
    other: float | None = None
    processes: tuple[tuple[str, float], ...] = ()
    steal: float | None = None
    throttled: float | None = None
    throttled_before_s: float | None = None
    throttles: int | None = None
    throttles_before: int | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None


def sample(root: Path = ROOT) -> Sample:
    """Read the counters now."""
    return Sample(
        at_s=time.monotonic(),
        times=ticks.read(root),
        own_ns=time.process_time_ns(),
        processes=_processes(),
        throttled_ns=cgroup.throttled_ns(root),
        throttle_count=sensors.throttle_count(root),
    )


def between(first: Sample, second: Sample, root: Path = ROOT) -> Activity:
    """Tell what happened between two samples, with clock and temperature as they are now."""
    seconds = max(1e-3, second.at_s - first.at_s)
    clock_mhz, temperature_c = sensors.read(sensors.find(cpu.affinity(root), root))
    cpus = [name for name in second.times if name != ticks.ALL]
    return Activity(
        seconds=seconds,
        cpus=len(cpus) or os.cpu_count() or 1,
        other=_other(first, second, seconds),
        processes=_busiest(first, second, seconds),
        steal=_share(ticks.stolen_ns(first.times), ticks.stolen_ns(second.times), seconds),
        throttled=_share(first.throttled_ns, second.throttled_ns, seconds),
        throttled_before_s=None if first.throttled_ns is None else first.throttled_ns / 1e9,
        throttles=_grown(first.throttle_count, second.throttle_count),
        throttles_before=first.throttle_count,
        clock_mhz=clock_mhz,
        temperature_c=temperature_c,
    )


def _other(first: Sample, second: Sample, seconds: float) -> float | None:
    names = [name for name in second.times if name != ticks.ALL]
    cpus = [int(name.removeprefix(ticks.ALL)) for name in names]
    unused = _grown(ticks.unused_ns(first.times, cpus), ticks.unused_ns(second.times, cpus))
    if unused is None:
        return None
    busy_s = len(cpus) * seconds - unused / 1e9 - (second.own_ns - first.own_ns) / 1e9
    return max(0.0, busy_s / seconds)


def _busiest(first: Sample, second: Sample, seconds: float) -> tuple[tuple[str, float], ...]:
    """Sum by name; a process that has just begun counts from its beginning."""
    used: dict[str, float] = {}
    for key, (cpu_s, name) in second.processes.items():
        before_s, _ = first.processes.get(key, (0.0, name))
        used[name] = used.get(name, 0.0) + max(0.0, cpu_s - before_s) / seconds
    noticed = [(name, share) for name, share in used.items() if share >= NOTICED]
    return tuple(sorted(noticed, key=lambda one: -one[1])[:TOLD])


def _processes() -> dict[tuple[int, float], tuple[float, str]]:
    """List all processes but this one; those that may not be read are left out."""
    import psutil

    found = {}
    for one in psutil.process_iter(["name", "cpu_times", "create_time"]):
        times = one.info["cpu_times"]
        if one.pid != os.getpid() and times is not None:
            used = (times.user + times.system, clean(one.info["name"] or "?")[:40])
            found[one.pid, one.info["create_time"] or 0.0] = used
    return found


def _share(first: int | None, second: int | None, seconds: float) -> float | None:
    grown = _grown(first, second)
    return None if grown is None else grown / 1e9 / seconds


def _grown(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else max(0, second - first)
