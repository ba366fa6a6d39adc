"""Which of the cells of one result wins, by how much, whether that is real, and where one overtakes another.

Cells that are alike but for one part of their key meet pair by pair. The base of each row is the winner of
its group. It was chosen by the same data, so Holm's family has every pair of every group, not its alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations, pairwise

from msgspec import structs

from kdbench.compare.assemble import source
from kdbench.compare.effect import Effect, of_estimates
from kdbench.compare.evidence import Evidence, evidence, values
from kdbench.compare.findings import clock_ns
from kdbench.compare.options import Options
from kdbench.compare.overall import overall
from kdbench.compare.settle import trial
from kdbench.compare.spread import spread
from kdbench.compare.verdict import LEVEL, Finding, judge
from kdbench.comparison import Change, Comparison, Overtaking, Row
from kdbench.errors import UsageError
from kdbench.findings.crossover import Names, sentence
from kdbench.metric import METRICS
from kdbench.problems import nearest, quote
from kdbench.ranking import Costs, homes, latency_costs, throughput_costs
from kdbench.records import Result
from kdbench.spec import Cell

KEYS = ("backend", "device", "precision", "variant", "threads")
"""The parts of a cell's key that may be compared across."""

_METRIC = {"latency": METRICS["latency.p50"], "throughput": METRICS["throughput"]}

METRICS_ACROSS = tuple(metric.name for metric in _METRIC.values())
"""What cells are compared in: each scenario has one."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two cells of a group; `cost` is log(new / base) of time, `effect` that of the metric."""

    base: Evidence
    new: Evidence
    effect: Effect

    @property
    def cost(self) -> float:
        latency = self.base.record.cell.scenario == "latency"
        return self.effect.estimate if latency else -self.effect.estimate


def across(result: Result, key: str, options: Options | None = None, *, file: str = "") -> Comparison:
    """Compare the cells of one result that are alike but for `key`, the winner of each group as base.

    Raises UsageError for a key that is none of `KEYS`.
    """
    options = options or Options()
    if key not in KEYS:
        meant = nearest(key, KEYS)
        hint = f"Did you mean {meant}?" if meant else f"There are {', '.join(KEYS)}."
        raise UsageError(f"Results are not compared across {quote(key)}.", hint=hint)
    found = evidence(result)
    costs = _costs(found)
    pairs: list[_Pair] = []
    winners: list[Evidence] = []
    for group in _groups(found, key, options):
        own = _winner_first(_pairs(group, costs))
        pairs += own
        winners.append(own[0].base)
    changes = judge([_finding(pair, options) for pair in pairs], options)
    chosen = {id(one) for one in winners}
    rows = [
        Row(base=pair.base.record.cell, new=pair.new.record.cell, changes=(change,))
        for pair, change in zip(pairs, changes, strict=True)
        if id(pair.base) in chosen
    ]
    alone = () if rows else (f"No two cells that may be ranked are alike but for their {key}.",)
    comparison = Comparison(
        base=source(result, "best", file),
        new=source(result, "other", file),
        across=key,
        rows=tuple(rows),
        # A search measured where they change places; between its batch sizes nothing need be guessed.
        overtakings=() if result.crossings else tuple(_overtakings(pairs, changes, key)),
        notes=(*_left_out(found), *_not_alternated(pairs, costs), *alone, *_searched(result, key)),
    )
    return structs.replace(comparison, verdict=overall(comparison, options))


def _left_out(found: Sequence[Evidence]) -> Iterator[str]:
    bad = [
        one.record.cell for one in found if one.record.status == "measured" and one.record.eligible is False
    ]
    if bad:
        others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        yield f"Left out, for it is less accurate than is allowed: {bad[0]}{others}."


def _not_alternated(pairs: Sequence[_Pair], costs: Mapping[Hashable, Costs]) -> Iterator[str]:
    for pair in pairs:
        base, new = pair.base, pair.new
        if not costs[_arena(base.record.cell)].alternated(base.index, new.index):
            yield (
                "Cells on unlike devices were not alternated: they are compared by the medians of their "
                "blocks, which is less sharp."
            )
            return


def _searched(result: Result, key: str) -> Iterator[str]:
    """Say what a search found about configurations that are alike but for `key`."""
    names = Names.of(result)
    for crossing in result.crossings:
        first, second = (result.cells[cell].cell for cell in (crossing.low.first, crossing.low.second))
        if replace(first, **{key: getattr(second, key)}) == second:
            yield sentence(crossing, names)


def _groups(found: Sequence[Evidence], key: str, options: Options) -> list[list[Evidence]]:
    """Give the cells that are alike but for `key` and may be ranked, where there are two or more."""
    names = [field.name for field in fields(Cell) if field.name != key]
    groups: dict[Hashable, list[Evidence]] = defaultdict(list)
    for one in found:
        metric = _METRIC[one.record.cell.scenario]
        ranked = one.record.status == "measured" and one.record.eligible is not False
        if ranked and options.wants(metric) and values(metric, one).logs:
            groups[tuple(getattr(one.record.cell, name) for name in names)].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _arena(cell: Cell) -> Hashable:
    """Cells that may have been visited at one moment; others cannot link two that never met."""
    return cell.scenario, cell.batch, cell.network, cell.boundary


def _costs(found: Sequence[Evidence]) -> Mapping[Hashable, Costs]:
    arenas: dict[Hashable, list[Evidence]] = defaultdict(list)
    for one in found:
        arenas[_arena(one.record.cell)].append(one)
    costs: dict[Hashable, Costs] = {}
    places = homes(found[0].result.cells) if found else {}
    for arena, members in arenas.items():
        indices = {one.index for one in members}
        if members[0].record.cell.scenario == "latency":
            slices = (part for one in members for part in one.slices)
            costs[arena] = latency_costs(slices, indices, homes=places)
        else:
            windows = (part for one in members for part in one.windows)
            costs[arena] = throughput_costs(windows, indices, places)
    return costs


def _pairs(group: Sequence[Evidence], costs: Mapping[Hashable, Costs]) -> list[_Pair]:
    own = costs[_arena(group[0].record.cell)]
    return [_Pair(base, new, _effect(base, new, own)) for base, new in combinations(group, 2)]


def _effect(base: Evidence, new: Evidence, costs: Costs) -> Effect:
    """Compare by neighbouring visits, or else, which proves nothing, by the cells' own figures."""
    latency = base.record.cell.scenario == "latency"
    first, second = (new, base) if latency else (base, new)
    estimates = costs.estimates(first.index, second.index)
    if estimates:
        return of_estimates(estimates, base, new)
    metric = _METRIC[base.record.cell.scenario]
    ours, theirs = (values(metric, one).figure or 1.0 for one in (base, new))
    return Effect(estimate=math.log(theirs) - math.log(ours), reason="they were never measured side by side")


def _winner_first(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Turn the pairs of the winner, whose worst pair is best, so that it is base; those come first."""
    worst: dict[int, float] = defaultdict(lambda: -math.inf)
    for pair in pairs:
        worst[pair.base.index] = max(worst[pair.base.index], -pair.cost)
        worst[pair.new.index] = max(worst[pair.new.index], pair.cost)
    winner = min(worst, key=worst.__getitem__)
    turned = [_turned(pair) if pair.new.index == winner else pair for pair in pairs]
    return sorted(turned, key=lambda pair: (pair.base.index != winner, pair.cost))


def _turned(pair: _Pair) -> _Pair:
    effect = pair.effect
    low = None if effect.high is None else -effect.high
    high = None if effect.low is None else -effect.low
    swapped = replace(
        effect, estimate=-effect.estimate, low=low, high=high, contended=_swapped(effect.contended)
    )
    return _Pair(pair.new, pair.base, swapped)


def _swapped(text: str) -> str:
    return text.replace("of base", "of \0").replace("of new", "of base").replace("of \0", "of new")


def _finding(pair: _Pair, options: Options) -> Finding:
    metric = _METRIC[pair.base.record.cell.scenario]
    floor = max(metric.floor, 2 * clock_ns(pair.base.result)) if metric.floor else 0.0
    return Finding(
        metric=metric,
        margin=options.margin_of(metric),
        floor=floor,
        base=values(metric, pair.base).figure,
        new=values(metric, pair.new).figure,
        effect=pair.effect,
        trial=trial(pair.base, pair.new, spread(metric, pair.base, pair.base.result.floors)),
    )


def _overtakings(pairs: Sequence[_Pair], changes: Sequence[Change], key: str) -> Iterator[Overtaking]:
    """Find neighbouring batch sizes between which the better of two cells becomes the worse."""
    names = [field.name for field in fields(Cell) if field.name not in (key, "batch")]
    lines: dict[Hashable, list[tuple[int, float, bool, Cell, Cell]]] = defaultdict(list)
    for pair, change in zip(pairs, changes, strict=True):
        first, second, cost = pair.base.record.cell, pair.new.record.cell, pair.cost
        if min(first.batch, second.batch) < 1:
            continue  # no scale has a place for it
        if str(getattr(first, key)) > str(getattr(second, key)):
            first, second, cost = second, first, -cost
        alike = tuple(getattr(first, name) for name in names)
        line = (*alike, getattr(first, key), getattr(second, key))
        real = change.p_holm is not None and change.p_holm < LEVEL
        lines[line].append((first.batch, cost, real, first, second))
    for points in lines.values():
        for below, above in pairwise(sorted(points, key=lambda point: point[0])):
            if below[1] * above[1] < 0 and below[0] < above[0]:
                yield _overtaking(below, above)


def _overtaking(
    below: tuple[int, float, bool, Cell, Cell], above: tuple[int, float, bool, Cell, Cell]
) -> Overtaking:
    share = below[1] / (below[1] - above[1])
    logs = math.log(below[0]), math.log(above[0])
    ahead = below[1] > 0  # the second of the pair costs more, so the first is better at small batches
    return Overtaking(
        scenario=below[3].scenario,
        first=below[3] if ahead else below[4],
        second=above[4] if ahead else above[3],
        below=below[0],
        above=above[0],
        about=math.exp(logs[0] + share * (logs[1] - logs[0])),
        real=below[2] and above[2],
    )
