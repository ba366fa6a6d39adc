"""Which blocks of a cell were measured while something else took the machine's time.

A slow slice is no worse evidence than a fast one, and dropping slices was tried and does not help. But a
block in which calls scatter wildly, or in which the cell waited for its CPU, says less about the cell: a
comparison may count it as half.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from kdbench.raw import Slice

SPREAD = 2.0
"""p75 / p25 of the calls of a slice: the best sign of a disturbed slice, see `docs/measuring.md`."""

RUN_DELAY = 0.10
"""Share of the CPU time that the cell wanted for which it was ready to run and had no CPU."""

STEAL = 0.10
"""Share of that time that the hypervisor took."""

OTHER = 0.20
"""CPU time of everybody else on the cell's CPUs, see `other_share`."""

BLOCKS = 0.5
"""From this share of its blocks on a cell as a whole counts as contended."""


def contended_blocks(slices: Iterable[Slice]) -> frozenset[int]:
    """Give the numbers of the blocks that are contended, from the slices of one cell.

    A counter that the system does not keep is no sign of either.
    """
    blocks: dict[int, list[Slice]] = defaultdict(list)
    for one in slices:
        blocks[one.block].append(one)
    return frozenset(block for block, own in blocks.items() if _contended(own))


def contended_share(slices: Sequence[Slice]) -> float | None:
    """Give the share of a cell's blocks that are contended; None without slices."""
    blocks = {one.block for one in slices}
    return len(contended_blocks(slices)) / len(blocks) if blocks else None


def share(slices: Sequence[Slice], counter: str) -> float | None:
    """Give what a counter grew by during these slices, over their time; None where it was not kept."""
    known = [one for one in slices if getattr(one, counter) is not None]
    duration = sum(one.duration_ns + one.settle_ns for one in known)
    return sum(getattr(one, counter) for one in known) / duration if duration else None


def wanted_share(slices: Sequence[Slice], counter: str) -> float | None:
    """Give what was lost of the CPU time that the cell wanted: `run_delay_ns` or `steal_ns`.

    Both grow with the number of threads, as what was computed does, so the share does not. None where the
    system does not tell what was computed.
    """
    computed, lost = sum(one.cpu_ns for one in slices), sum(getattr(one, counter) for one in slices)
    return lost / (computed + lost) if computed else None


def other_share(slices: Sequence[Slice]) -> float | None:
    """Give the share of the cell's CPUs that everybody else used; None where it is not known."""
    known = [one for one in slices if one.other_ns is not None]
    passed = sum(one.duration_ns + one.settle_ns for one in known)
    return sum(one.other_ns or 0 for one in known) / passed if passed else None


def _contended(slices: Sequence[Slice]) -> bool:
    if median(one.p75_ns / max(1.0, one.p25_ns) for one in slices) > SPREAD:
        return True
    found = (*(wanted_share(slices, name) for name in ("run_delay_ns", "steal_ns")), other_share(slices))
    return any(
        value is not None and value > limit
        for value, limit in zip(found, (RUN_DELAY, STEAL, OTHER), strict=True)
    )
