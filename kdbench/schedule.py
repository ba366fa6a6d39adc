"""Who is visited when: mirrored orders in which every worker follows every other equally often.

The machine's speed wanders by 10 to 20 % within seconds, so cells that are to be ranked take turns every
tenth of a second. A straight order favours whoever comes first and whoever follows a quiet neighbour;
a Williams design balances both: E. J. Williams, Experimental designs balanced for the estimation
of residual effects of treatments, Australian Journal of Scientific Research A 2 (1949), 149-168.
"""

from __future__ import annotations

from collections.abc import Sequence

ALTERNATING = 4
"""How many workers live together in a block; a larger field is split into cohorts."""


def _zigzag(count: int) -> list[int]:
    """0, 1, n-1, 2, n-2, …: the first row of a Williams design."""
    return [0, *((step + 1) // 2 if step % 2 else count - step // 2 for step in range(1, count))]


def orders(count: int) -> tuple[tuple[int, ...], ...]:
    """Give one full cycle of visiting orders of `count` workers, each order followed by its mirror image.

    Over the cycle each worker stands equally often in each position and directly follows each other one
    equally often within an order. For even `count` the cycle has `count` orders (two for two workers),
    for odd ones twice as many.
    """
    first = _zigzag(count)
    rows = [tuple((start + step) % count for step in first) for start in range(count)]
    if count % 2 == 0:
        return tuple(order for row in rows[: count // 2] for order in (row, row[::-1]))
    return tuple(order for row in rows for order in (row, row[::-1])) if count > 1 else ((0,),)


def visits(count: int, rounds: int, block: int) -> tuple[tuple[int, ...], ...]:
    """Give the orders of one block's rounds; from block to block the cycle is entered one pair later."""
    if not count:
        return ()
    cycle = orders(count)
    start = 2 * block % len(cycle)
    return tuple(cycle[(start + turn) % len(cycle)] for turn in range(rounds))


def cohorts(
    families: Sequence[Sequence[int]], anchor: int, size: int = ALTERNATING
) -> tuple[tuple[int, ...], ...]:
    """Split workers into cohorts of at most `size`; all of several cohorts hold the anchor.

    families: workers of which those of one live in the same cohort, at most `size`. Ratios between workers of
    different cohorts go through the anchor, or where a family fills a cohort, through its first one. With
    room for one worker each is alone, and nothing links them.
    """
    workers = tuple(worker for family in families for worker in family)
    if len(workers) <= size:
        return (workers,) if workers else ()
    if size == 1:
        return tuple((worker,) for worker in workers)
    found: list[list[int]] = []
    for family in families:
        others = [worker for worker in family if worker != anchor]
        if 1 + len(others) > size:  # the first of the family links it
            found += [[anchor, others[0]], others]
            continue
        home = next((one for one in found if anchor in one and len(one) + len(others) <= size), None)
        if others and home is None:
            found.append(home := [anchor])
        if home is not None:
            home += others
    return tuple(map(tuple, found))
