"""What this process and this machine used up: read before and after a timed stretch, never inside."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kdbench import cgroup, sensors, ticks


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters that only grow; the difference of two readings belongs to the time between them.

    cpu_ns: of all threads of this process. run_delay_ns: how long they were ready but not running.
    switches: involuntary context switches. steal_ns: taken by a hypervisor from the CPUs that it is bound to.
    other_ns: computed by everybody but this process on these CPUs, the mean over them; only differences mean
    something. throttled_ns: for how long the control group was held back. cpus: those that it is bound to.
    """

    cpu_ns: int
    run_delay_ns: int
    switches: int
    steal_ns: int
    other_ns: int | None = None
    throttled_ns: int | None = None
    cpus: frozenset[int] = frozenset()

    def since(self, earlier: Usage) -> Usage:
        """Subtract an earlier reading; a counter that a vanished thread took along counts as zero.

        What is not known at both ends is None, and so is `other_ns` where the process was bound anew.
        """
        same = self.cpus == earlier.cpus
        return Usage(
            max(0, self.cpu_ns - earlier.cpu_ns),
            max(0, self.run_delay_ns - earlier.run_delay_ns),
            max(0, self.switches - earlier.switches),
            max(0, self.steal_ns - earlier.steal_ns),
            _grown(self.other_ns, earlier.other_ns) if same else None,
            _grown(self.throttled_ns, earlier.throttled_ns),
            self.cpus,
        )


def usage() -> Usage:
    """Read the counters of this process."""
    cpus = _bound()
    times = ticks.read()
    now_ns, own_ns = time.monotonic_ns(), time.process_time_ns()
    unused_ns = ticks.unused_ns(times, cpus)
    return Usage(
        own_ns,
        sum(delay for _, delay in _schedstats("self")),
        resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        ticks.stolen_ns(times, cpus or None) or 0,
        None if unused_ns is None else now_ns - (unused_ns + own_ns) // len(cpus),
        cgroup.throttled_ns(),
        cpus,
    )


def conditions() -> tuple[float | None, float | None]:
    """Read the mean clock of this process's CPUs (MHz) and the processor's temperature (degrees Celsius).

    None for what the system does not tell. To be read just after a timed stretch, before a CPU cools down.
    """
    return sensors.read(_sensors(_bound()))


def cpu_ns(pid: int) -> int:
    """Read the CPU time of all living threads of a process; 0 where the system does not tell."""
    return sum(ran for ran, _ in _schedstats(str(pid)))


def peak_memory_bytes() -> int | None:
    """Read the peak of this process's resident memory since it was started."""
    return _status_bytes("VmHWM")


def resident_bytes() -> int | None:
    """Read this process's resident memory now."""
    return _status_bytes("VmRSS")


def _grown(now: int | None, earlier: int | None) -> int | None:
    return None if now is None or earlier is None else max(0, now - earlier)


@cache
def _sensors(cpus: frozenset[int]) -> sensors.Sensors:
    return sensors.find(sorted(cpus))


def _bound() -> frozenset[int]:
    """Give the CPUs that any thread of this process may run on; a vendor may have bound single threads."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    cpus = set(os.sched_getaffinity(0))
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # a thread that has just ended
                cpus |= os.sched_getaffinity(int(thread.name))
    return frozenset(cpus)


def _schedstats(pid: str) -> list[tuple[int, int]]:
    """Give the time that each living thread of a process ran, and that it waited for a CPU."""
    stats = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    for thread in threads:
        with suppress(OSError, ValueError):  # a thread that has just ended
            ran, delay, _ = (thread / "schedstat").read_text().split()
            stats.append((int(ran), int(delay)))
    return stats


def _status_bytes(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) * 1024 if values else None
