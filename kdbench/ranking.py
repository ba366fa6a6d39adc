"""Compare cells by their neighbouring visits, and tell who leads a group.

The machine's speed wanders, for all cells alike. Two slices a tenth of a second apart met nearly the
same speed, so their ratio is far steadier than either. Each block gives one estimate, and the interval comes
from the blocks alone: calls and slices within a block are no replications.

Cells alternate within one device only. Two of unlike devices, a CPU and a GPU, never met, and nothing links
them: they are compared by the medians of their blocks, which is told, for nothing cancels what happened in
between.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, mode
from typing import Any

from msgspec.structs import replace

from kdbench import stats
from kdbench.device import physical
from kdbench.records import CellRecord, Gain, Lead, Result, Slice, Summary, Window
from kdbench.spec import Group, Scenario

Moment = tuple[int, int, int]
"""Block, cohort and round: cells visited at one moment met the same machine."""

Timed = dict[Scenario, dict[int, list[Any]]]
"""What was timed, slices or windows, by scenario and cell."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The logarithm of what each cell cost at each moment; lower is better in both scenarios.

    combine: how the log ratios of one block become its estimate. homes: the physical device of each
    cell; none where all have the same.
    """

    at: dict[int, dict[Moment, list[float]]]
    combine: Callable[[list[float]], float]
    homes: Mapping[int, str] = field(default_factory=dict)

    def direct(self, a: int, b: int) -> dict[int, float]:
        """Give log(a / b) for each block in which both were visited in the same round of one cohort."""
        ratios: dict[int, list[float]] = defaultdict(list)
        others = self.at.get(b, {})
        for moment, costs in self.at.get(a, {}).items():
            ratios[moment[0]] += [x - y for x, y in zip(costs, others.get(moment, ()), strict=False)]
        return {block: self.combine(found) for block, found in ratios.items() if found}

    def estimates(self, a: int, b: int) -> dict[int, float]:
        """Give log(a / b) for each block that allows it, through an anchor where they never met.

        Cells of different cohorts are linked by those in both: log(a / anchor) less log(b / anchor), the
        median over anchors. Cells of unlike devices have no anchor: each block's own figures are compared.
        """
        met = self.direct(a, b)
        missing = (self._blocks(a) & self._blocks(b)) - met.keys()
        if not missing:
            return met
        if not self.alike(a, b):
            ours, theirs = self._levels(a), self._levels(b)
            return met | {block: ours[block] - theirs[block] for block in missing}
        links: dict[int, list[float]] = defaultdict(list)
        for anchor in self.at.keys() - {a, b}:
            if not self.alike(anchor, a):
                continue  # whoever met it elsewhere met another device
            mine, its = self.direct(a, anchor), self.direct(b, anchor)
            for block in missing & mine.keys() & its.keys():
                links[block].append(mine[block] - its[block])
        return met | {block: median(found) for block, found in links.items()}

    def alike(self, a: int, b: int) -> bool:
        """Tell whether two cells run on one physical device, so that they can be alternated."""
        return self.homes.get(a) == self.homes.get(b)

    def alternated(self, a: int, b: int) -> bool:
        """Tell whether an estimate of two cells rests on visits that took turns, if it rests on any."""
        return self.alike(a, b) or bool(self.direct(a, b))

    def _blocks(self, cell: int) -> set[int]:
        return {block for block, _, _ in self.at.get(cell, {})}

    def _levels(self, cell: int) -> dict[int, float]:
        """Give the logarithm of what a cell cost in each block, over all its visits there."""
        blocks: dict[int, list[float]] = defaultdict(list)
        for (block, _, _), costs in self.at[cell].items():
            blocks[block] += costs
        return {block: self.combine(costs) for block, costs in blocks.items()}


def homes(records: Sequence[CellRecord]) -> dict[int, str]:
    """Give the physical device of each cell, by its index."""
    return {
        index: physical(one.cell.device, one.placement.uuid if one.placement else "")
        for index, one in enumerate(records)
    }


def latency_costs(
    slices: Iterable[Slice],
    cells: Container[int],
    statistic: str = "median_ns",
    homes: Mapping[int, str] | None = None,
) -> Costs:
    """Arrange the slices of `cells`; of a block's log ratios the median counts.

    A shared machine jumps now and then between two slices: the median is much steadier than the mean.
    """
    at: dict[int, dict[Moment, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(slices, key=lambda one: one.position):
        if one.cell in cells:
            cost = math.log(max(1.0, getattr(one, statistic)))
            at[one.cell][one.block, one.cohort, one.round].append(cost)
    return Costs(at, median, homes or {})


def throughput_costs(
    windows: Iterable[Window], cells: Container[int], homes: Mapping[int, str] | None = None
) -> Costs:
    """Arrange the windows of `cells` as time per image, each at its own depth; the mean log ratio counts."""
    by_cell: dict[int, list[Window]] = defaultdict(list)
    for one in windows:
        by_cell[one.cell].append(one)
    at: dict[int, dict[Moment, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in by_cell:
        for one in at_settled_depth(by_cell[cell]) if cell in cells else ():
            at[cell][one.block, one.cohort, one.round].append(-math.log(images_per_s(one)))
    return Costs(at, fmean, homes or {})


def images_per_s(window: Window) -> float:
    """Give the rate of one window."""
    return window.images * 1e9 / window.duration_ns


def at_settled_depth(windows: Sequence[Window]) -> list[Window]:
    """Keep the windows of one cell at its most frequent depth, less those that completed nothing."""
    completed = [one for one in windows if one.images and one.duration_ns]
    depth = mode(one.depth for one in completed) if completed else 0
    return [one for one in completed if one.depth == depth]


def pair(costs: Costs, a: int, b: int, confidence: float = stats.CONFIDENCE) -> stats.Interval | None:
    """Estimate log(cost a / cost b) with its t interval over blocks; None where no block links them."""
    estimates = tuple(costs.estimates(a, b).values())
    return stats.t_interval(estimates, confidence) if estimates else None


def costs_of(result: Result, scenario: Scenario, cells: Container[int]) -> Costs:
    """Arrange what `result` holds of these cells of one group."""
    if scenario == "latency":
        return latency_costs(result.slices, cells, homes=homes(result.cells))
    return throughput_costs(result.windows, cells, homes(result.cells))


def _timed(result: Result) -> Timed:
    """Sort slices and windows by cell, so that looking at each group in turn takes linear time."""
    timed: Timed = {"latency": defaultdict(list), "throughput": defaultdict(list)}
    for slice_ in result.slices:
        timed["latency"][slice_.cell].append(slice_)
    for window in result.windows:
        timed["throughput"][window.cell].append(window)
    return timed


def _costs(timed: Timed, scenario: Scenario, cells: Collection[int], places: Mapping[int, str]) -> Costs:
    own = [one for cell in cells for one in timed[scenario].get(cell, ())]
    if scenario == "latency":
        return latency_costs(own, cells, homes=places)
    return throughput_costs(own, cells, places)


def leads(result: Result) -> tuple[Lead, ...]:
    """Tell for every group who is fastest among the eligible students, and whether that is more than chance.

    Needs `summary` and `eligible` of the cells. Teachers are there to be compared with their students only.
    """
    timed, places = _timed(result), homes(result.cells)
    return tuple(
        _lead(result, group, cells, _costs(timed, group.scenario, set(cells), places))
        for group, cells in _eligible(result).items()
        if group.network == "student"
    )


def gains(result: Result) -> tuple[Gain, ...]:
    """Compare each eligible student with its teacher on the same backend, device, precision and so on.

    Needs `summary` and `eligible` of the cells.
    """
    groups = _eligible(result)
    students = {result.cells[index].cell: index for cells in groups.values() for index in cells}
    found, timed, places = [], _timed(result), homes(result.cells)
    for group, teachers in groups.items():
        if group.network == "student":
            continue
        fellows = groups.get(dataclasses.replace(group, network="student"), [])
        costs = _costs(timed, group.scenario, {*teachers, *fellows}, places)
        for teacher in teachers:
            student = students.get(dataclasses.replace(result.cells[teacher].cell, network="student"))
            if student is not None:
                found.append(_gain(result, costs, student, teacher))
    return tuple(found)


def _eligible(result: Result) -> dict[Group, list[int]]:
    groups: dict[Group, list[int]] = defaultdict(list)
    for index, record in enumerate(result.cells):
        if record.eligible and record.summary is not None and _cost(record.summary, record.cell.scenario):
            groups[record.cell.group].append(index)
    return groups


def _gain(result: Result, costs: Costs, student: int, teacher: int) -> Gain:
    gap = pair(costs, teacher, student) or _by_summary(result, teacher, student)
    known = math.isfinite(gap.half)
    return Gain(
        scenario=result.cells[student].cell.scenario,
        student=student,
        teacher=teacher,
        ratio=math.exp(gap.estimate),
        low=math.exp(gap.low) if known else None,
        high=math.exp(gap.high) if known else None,
        blocks=gap.blocks,
    )


def _lead(result: Result, group: Group, cells: Sequence[int], costs: Costs) -> Lead:
    """Find the leader of one group and the runner-up.

    The leader is the cell whose worst pair estimate is best. It is chosen by the very data that then judge
    it: any of n cells could have come out first. So it is declared ahead only if its interval against every
    other one excludes a tie, at an adjusted level. A false claim needs some cell to beat by chance another
    that is no slower; at level a that has probability a / 2 for each, for n candidates at most n a / 2. With
    a = 2 * 5 % / n false claims stay below 5 % in all, whatever the correlations; two cells have the plain
    95 % interval. The runner-up is the closest of the cells that the leader cannot be told from, or
    else the closest of all.
    """
    confidence = 1 - 2 * (1 - stats.CONFIDENCE) / max(2, len(cells))

    def behind(cell: int, other: int) -> stats.Interval:
        return pair(costs, cell, other, confidence) or _by_summary(result, cell, other)

    leader = min(cells, key=lambda cell: max(behind(cell, other).estimate for other in cells))
    alone = Lead(
        scenario=group.scenario, batch=group.batch, boundary=group.boundary, leader=leader, verdict="alone"
    )
    rivals = [(behind(cell, leader), cell) for cell in cells if cell != leader]
    if not rivals:
        return alone
    undecided = [(gap, cell) for gap, cell in rivals if gap.low <= 0]
    gap, runner_up = min(undecided or rivals, key=lambda rival: rival[0].estimate)
    known = math.isfinite(gap.half)
    return replace(
        alone,
        runner_up=runner_up,
        verdict="tie" if undecided else "ahead",
        ratio=math.exp(gap.estimate),
        low=math.exp(gap.low) if known else None,
        high=math.exp(gap.high) if known else None,
        blocks=gap.blocks,
        alternated=costs.alternated(leader, runner_up),
        detectable=math.expm1(gap.half) if known else None,
    )


def _by_summary(result: Result, a: int, b: int) -> stats.Interval:
    """Fall back on the cells' own figures where no block links them: an estimate that proves nothing."""
    mine, theirs = (
        _cost(result.cells[cell].summary or Summary(), result.cells[cell].cell.scenario) for cell in (a, b)
    )
    return stats.Interval(math.log(mine / theirs) if mine and theirs else 0.0, math.inf, 0)


def _cost(summary: Summary, scenario: Scenario) -> float | None:
    if scenario == "latency":
        return summary.median_ns
    return 1 / summary.throughput_per_s if summary.throughput_per_s else None
