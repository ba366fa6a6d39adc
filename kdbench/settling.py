"""Keep a device busy until its clock settles: a GPU that was idle takes a while to reach its speed.

Where the time goes: a GPU lowers its clock within a fraction of a second without work, and a worker that was
stopped while others were visited comes back to a slow one. Nothing here is timed; the clocks are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

READ_NS = 20_000_000
"""Between two readings of the device's clock. Chosen, not measured: drivers may update theirs less often."""

AGREEING = 3
"""Readings in a row that must agree."""

WITHIN = 0.01
"""By what share they may differ, and how near the highest clock counts as it."""

LIMIT_NS = 500_000_000
"""A device that is still changing its clock by then is measured as it is, and that is recorded."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How settling went. settled: None where there is no device whose clock could be read."""

    calls: int = 0
    duration_ns: int = 0
    settled: bool | None = None


def settle(
    call: Callable[[], object],
    read_mhz: Callable[[], float | None],
    highest_mhz: float | None = None,
    clock: Callable[[], int] = perf_counter_ns,
) -> Settled:
    """Call until the device's clock agrees with itself three times, or is at its highest, or half a second.

    call: gives the device work, and returns when it is done. read_mhz: the device's clock now, None where it
    is not told, which ends settling at once. highest_mhz: the highest that it can have, or None where nobody
    knows.
    """
    begin = clock()
    reads: list[float] = []
    calls = 0
    while True:
        since = clock()
        while True:
            call()
            calls += 1
            now = clock()
            if now - since >= READ_NS:
                break
        mhz = read_mhz()
        if mhz is None:
            return Settled(calls, clock() - begin)
        reads = [*reads, mhz][-AGREEING:]
        if _agree(reads) or _at_top(mhz, highest_mhz):
            return Settled(calls, clock() - begin, settled=True)
        if now - begin >= LIMIT_NS:
            return Settled(calls, clock() - begin, settled=False)


def _agree(reads: list[float]) -> bool:
    return len(reads) == AGREEING and max(reads) <= (1 + WITHIN) * min(reads)


def _at_top(mhz: float, highest_mhz: float | None) -> bool:
    return highest_mhz is not None and mhz >= (1 - WITHIN) * highest_mhz
