"""Who lives together so that each two meet: where every pair is compared, no anchor stands in for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from kdbench.schedule import ALTERNATING


def meetings(places: Sequence[str], room: Mapping[str, int] | None = None) -> tuple[tuple[int, ...], ...]:
    """Give cohorts of at most four workers such that each two of one place meet in one of them.

    places: the physical device of each worker. room: how many may live at once in a place, where that is
    fewer; where it is one, nobody meets anybody. Workers of unlike places are in unlike cohorts, since
    alternating a CPU and a GPU would let the clock of the GPU fall; their cohorts follow one another within a
    block. A larger field is cut into halves of cohorts, each two of which make one: n workers then have about
    n / 2 - 1 turns each.
    """
    homes: dict[str, list[int]] = defaultdict(list)
    for worker, place in enumerate(places):
        homes[place].append(worker)
    found: list[tuple[int, ...]] = []
    for place, own in homes.items():
        size = (room or {}).get(place, ALTERNATING)
        half = max(1, size // 2)
        parts = [own[first : first + half] for first in range(0, len(own), half)]
        if len(own) <= size:
            found.append(tuple(own))
        elif size < 2:
            found += map(tuple, parts)
        else:
            found += [(*one, *other) for one, other in combinations(parts, 2)]
    return tuple(found)
