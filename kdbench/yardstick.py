"""A fixed piece of work, timed: how fast is the machine just now, whatever is measured on it?

It hashes 64 KiB with SHA-256 on one thread: no runtime, no plugin, nothing that a new version would speed up
by much, and little memory, so it shows the clock of the CPU and who else wants it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter_ns

WORK = bytes(range(256)) * 256
DURATION_S = 0.03
LEAST = 20


@dataclass(frozen=True, slots=True)
class Timing:
    """Repetitions of the work, the median and the first decile of their times in nanoseconds."""

    started_ns: int
    calls: int
    median_ns: float
    p10_ns: float


def time_yardstick(duration_s: float = DURATION_S, clock: Callable[[], int] = perf_counter_ns) -> Timing:
    """Repeat the work for `duration_s`, at least 20 times; the first two repetitions do not count."""
    for _ in range(2):
        hashlib.sha256(WORK).digest()
    times: list[int] = []
    started = clock()
    while len(times) < LEAST or clock() - started < duration_s * 1e9:
        begin = clock()
        hashlib.sha256(WORK).digest()
        times.append(clock() - begin)
    deciles = quantiles(times, n=10)
    return Timing(started, len(times), deciles[4], deciles[0])
