"""From which batch size on one configuration overtakes another, derived from slices and windows.

At each batch size the blocks decide who is ahead, by the interval of the pair's log ratio. A pair that never
changes places is measured at many sizes, and chance may turn it at any of them; so the interval is that of an
adjusted level, as for leads: of n sizes, each side errs with probability 5 % / n, and a false change of
places is told in at most 5 % of the pairs that have none.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from typing import Any, Literal

from msgspec.structs import replace

from kdbench import stats
from kdbench.bisection import Pair, Sign, brackets
from kdbench.ranking import Costs, costs_of, pair
from kdbench.records import Crossing, Result, Standing
from kdbench.spec import Cell, Group, Scenario

Field = dict[Cell, dict[int, int]]
"""Of each configuration, named by its cell at batch 1, the cell at each batch size."""


def crossings(result: Result) -> tuple[Crossing, ...]:
    """Tell where each two configurations change places, or that they do not; empty where nobody searched.

    Needs `summary` and `eligible` of the cells.
    """
    sizes = searched(result.run.profile)
    if not sizes:
        return ()
    found: list[Crossing] = []
    confidence = confidence_of(len(sizes))
    for field in _fields(result):
        costs = _costs(result, field)
        for first, second in combinations(field.values(), 2):
            found += _of_pair(result, standings(costs, first, second, confidence))
    return tuple(found)


def searched(profile: Mapping[str, Any]) -> tuple[int, ...]:
    """Give the batch sizes that a search began with, from a plan as plain JSON; empty for no search."""
    own, plan = profile.get("crossover"), profile.get("plan")
    largest = own.get("largest") if isinstance(own, dict) else 0
    batches = plan.get("batches") if isinstance(plan, dict) else ()
    if not isinstance(largest, int) or largest < 1 or not isinstance(batches, list | tuple):
        return ()
    return tuple(size for size in batches if isinstance(size, int))


def confidence_of(sizes: int) -> float:
    """Give the confidence of the intervals that decide who is ahead, of a search that begins with so many."""
    return 1 - 2 * (1 - stats.CONFIDENCE) / max(2, sizes)


def signs(result: Result, cells: Mapping[int, int], batch: int, sizes: int) -> dict[Pair, Sign]:
    """Tell of each pair of cells, by their keys, who is ahead at one batch size of a search with `sizes`."""
    ranked = {k: cell for k, cell in cells.items() if result.cells[cell].eligible}
    if len(ranked) < 2:
        return {}
    scenario = result.cells[next(iter(ranked.values()))].cell.scenario
    costs = {batch: costs_of(result, scenario, set(ranked.values()))}
    found: dict[Pair, Sign] = {}
    for first, second in combinations(sorted(ranked), 2):
        own = standings(costs, {batch: ranked[first]}, {batch: ranked[second]}, confidence_of(sizes))
        if batch in own:
            found[first, second] = sign(own[batch])
    return found


def sign(standing: Standing) -> Sign:
    """Tell who is ahead: 1 the first, -1 the second, 0 nobody can tell."""
    if standing.low is None or standing.high is None:
        return 0
    return 1 if standing.low > 1 else -1 if standing.high < 1 else 0


def standings(
    costs: Mapping[int, Costs], first: Mapping[int, int], second: Mapping[int, int], confidence: float
) -> dict[int, Standing]:
    """Give how two configurations stand at each batch size at which blocks compare them, the smallest first.

    costs: of each batch size. first, second: the cells of both, by batch size.
    """
    found: dict[int, Standing] = {}
    for batch in sorted(first.keys() & second.keys()):
        gap = pair(costs[batch], second[batch], first[batch], confidence)
        if gap is not None:
            known = math.isfinite(gap.half)
            found[batch] = Standing(
                batch=batch,
                first=first[batch],
                second=second[batch],
                ratio=math.exp(gap.estimate),
                low=math.exp(gap.low) if known else None,
                high=math.exp(gap.high) if known else None,
                blocks=gap.blocks,
                alternated=costs[batch].alternated(first[batch], second[batch]),
            )
    return found


def _fields(result: Result) -> Iterator[Field]:
    """Give configurations that are compared with one another, with their cells that may be ranked."""
    found: dict[Group, Field] = defaultdict(lambda: defaultdict(dict))
    for index, record in enumerate(result.cells):
        if record.eligible and record.summary is not None:
            key = dataclasses.replace(record.cell, batch=1)
            found[key.group][key][record.cell.batch] = index
    yield from found.values()


def _costs(result: Result, field: Field) -> dict[int, Costs]:
    by_batch: dict[int, set[int]] = defaultdict(set)
    for cells in field.values():
        for batch, index in cells.items():
            by_batch[batch].add(index)
    scenario = next(iter(field)).scenario
    return {batch: costs_of(result, scenario, cells) for batch, cells in by_batch.items()}


def _of_pair(result: Result, known: Mapping[int, Standing]) -> list[Crossing]:
    """Tell every change of places of one pair; without one, a single record says so."""
    if not known:
        return []
    signs = {batch: sign(standing) for batch, standing in known.items()}
    batches = tuple(known)
    scenario = result.cells[known[batches[0]].first].cell.scenario
    changes = brackets(signs)
    if not changes:
        verdict: Literal["never", "undecided"] = "never" if all(signs.values()) else "undecided"
        behind = -1 in signs.values()
        return [_crossing(scenario, verdict, known, (batches[0], batches[-1]), batches, signs, behind)]
    edges = [0, *(one.high for one in changes[:-1]), batches[-1]]
    found = []
    for one, (begin, end) in zip(changes, pairwise(edges), strict=True):
        own = tuple(batch for batch in batches if begin <= batch <= end)
        ends = (one.low, one.high)
        found.append(_crossing(scenario, "crosses", known, ends, own, signs, one.below < 0))
    return found


def _crossing(
    scenario: Scenario,
    verdict: Literal["crosses", "never", "undecided"],
    known: Mapping[int, Standing],
    ends: tuple[int, int],
    batches: tuple[int, ...],
    signs: Mapping[int, Sign],
    behind: bool,
) -> Crossing:
    """Put a record together. behind: whether the pair is turned, so that its first leads at the lower end."""
    low, high = (_turned(known[batch]) if behind else known[batch] for batch in ends)
    untold = tuple(batch for batch in batches if not signs[batch])
    return Crossing(scenario=scenario, verdict=verdict, low=low, high=high, batches=batches, untold=untold)


def _turned(one: Standing) -> Standing:
    low, high = (None if end is None else 1 / end for end in (one.high, one.low))
    return replace(one, first=one.second, second=one.first, ratio=1 / one.ratio, low=low, high=high)
