"""What this process and this machine used up: read before and after a timed stretch, never inside."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kdbench.environment import steal_ns


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters that only grow; the difference of two readings belongs to the time between them.

    cpu_ns: of all threads of this process. run_delay_ns: how long they were ready but not running.
    switches: involuntary context switches. steal_ns: taken from the machine by its hypervisor.
    """

    cpu_ns: int
    run_delay_ns: int
    switches: int
    steal_ns: int

    def since(self, earlier: Usage) -> Usage:
        """Subtract an earlier reading; a counter that a vanished thread took along counts as zero."""
        return Usage(
            max(0, self.cpu_ns - earlier.cpu_ns),
            max(0, self.run_delay_ns - earlier.run_delay_ns),
            max(0, self.switches - earlier.switches),
            max(0, self.steal_ns - earlier.steal_ns),
        )


def usage() -> Usage:
    """Read the counters of this process."""
    return Usage(
        time.process_time_ns(),
        sum(delay for _, delay in _schedstats("self")),
        resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        steal_ns() or 0,
    )


def cpu_ns(pid: int) -> int:
    """Read the CPU time of all living threads of a process; 0 where the system does not tell."""
    return sum(ran for ran, _ in _schedstats(str(pid)))


def peak_memory_bytes() -> int | None:
    """Read the peak of this process's resident memory since it was started."""
    return _status_bytes("VmHWM")


def resident_bytes() -> int | None:
    """Read this process's resident memory now."""
    return _status_bytes("VmRSS")


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
