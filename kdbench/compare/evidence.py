"""What a result holds about each of its cells, found once, and the values that a metric has in its blocks.

A file of 2,000 cells has tens of thousands of slices, so everything is filed by cell beforehand.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, median
from typing import Any

from kdbench import stats
from kdbench.checks import TAIL_NS
from kdbench.contention import contended_blocks
from kdbench.metric import Metric
from kdbench.ranking import at_settled_depth, images_per_s
from kdbench.records import CellRecord, Result, Samples, Slice, Stretch, Subject, Window

_LONGEST_NS = 2.0**63

Logs = Mapping[int, float]
"""The logarithm of a metric's value, by block."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that speaks about one cell.

    subject: what was measured in it, which a trial has two of. contended: its blocks that were measured under
    heavy contention, by `kdbench.contention`. They stay in every estimate, for leaving slow ones out does not
    make it better; each counts as half a replication, in the standard error and in the degrees of freedom.
    Only slices tell of contention. Windows tell their CPU time and nothing of others, so a cell of the
    scenario throughput has no contended block, whatever disturbed it.
    """

    result: Result
    index: int
    subject: Subject
    slices: Sequence[Slice] = ()
    windows: Sequence[Window] = ()
    samples: Sequence[Samples] = ()
    stretches: Sequence[Stretch] = ()
    contended: frozenset[int] = frozenset()

    @property
    def record(self) -> CellRecord:
        """The cell's own record."""
        return self.result.cells[self.index]


@dataclass(frozen=True, slots=True)
class Values:
    """A metric of one cell: its figure as people read it, its logs by block, or a `fault` of the data.

    withheld: whether the fault is only that there are too few calls, which nobody needs to hear unasked.
    """

    figure: float | None = None
    logs: Logs | None = None
    fault: str = ""
    withheld: bool = False


def evidence(result: Result) -> tuple[Evidence, ...]:
    """File a result by cell; one pass over each list."""
    slices, windows, samples, stretches = (
        _by_cell(items) for items in (result.slices, result.windows, result.samples, result.stretches)
    )
    return tuple(
        Evidence(
            result,
            index,
            _subject(result, record.cell.side),
            slices[index],
            windows[index],
            samples[index],
            stretches[index],
            contended_blocks(slices[index]),
        )
        for index, record in enumerate(result.cells)
    )


def _by_cell(items: Iterable[Any]) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for item in items:
        found[item.cell].append(item)
    return found


def _subject(result: Result, side: str) -> Subject:
    for one in result.trial.sides if result.trial else ():
        if one.side == side and one.subject is not None:
            return one.subject
    return result.subject


def values(metric: Metric, found: Evidence) -> Values:
    """Give what a metric is in each block of a cell; nothing at all where it was not measured."""
    if metric.scenario not in (None, found.record.cell.scenario):
        return Values()
    return _READERS[metric.origin](found)


def _of_slices(found: Evidence) -> Values:
    return statistic(found, "median_ns")


def statistic(found: Evidence, name: str) -> Values:
    """Give one statistic of the slices: the median over a block of its logarithms."""
    if not found.slices:
        return Values()
    blocks: dict[int, list[float]] = defaultdict(list)
    for one in found.slices:
        blocks[one.block].append(getattr(one, name))
    extremes = (min(map(min, blocks.values())), max(map(max, blocks.values())))
    for value in extremes:
        if not 0 < value < _LONGEST_NS:
            what = name.removesuffix("_ns")
            return Values(fault=f"a slice has a {what} of {value:g} ns, which no call takes")
    return Values(
        figure=median(median(block) for block in blocks.values()),
        logs={block: median(map(math.log, costs)) for block, costs in blocks.items()},
    )


def _of_calls(found: Evidence) -> Values:
    return _percentile(90, [one for one in found.samples if one.kind == "slices"])


def _of_tail(found: Evidence) -> Values:
    long = bool(found.stretches) and all(one.duration_ns >= TAIL_NS for one in found.stretches)
    return _percentile(99, [one for one in found.samples if one.kind == "tail"] if long else [])


def _percentile(p: float, samples: Sequence[Samples]) -> Values:
    """Give each block's percentile, or a fault where there are too few calls to show any.

    All calls of a block count together: a cell that links cohorts has more than one set of samples in each.
    """
    calls, need = sum(one.calls for one in samples), stats.percentile_need(p)
    if not calls:
        return Values()
    if calls < need:
        return Values(fault=f"p{p:g} needs {need} calls, and there are {calls}", withheld=True)
    own: dict[int, list[Samples]] = defaultdict(list)
    for one in samples:
        if one.calls:
            own[one.block].append(one)
    blocks = {block: _quantile(found, p / 100) for block, found in own.items()}
    if min(blocks.values()) <= 0:
        return Values(fault=f"p{p:g} of a block is {min(blocks.values()):g} ns, which no call takes")
    return Values(median(blocks.values()), {block: math.log(value) for block, value in blocks.items()})


def _quantile(samples: Sequence[Samples], p: float) -> float:
    if all(one.growth is None for one in samples):
        return stats.quantile(chain.from_iterable(one.values_ns for one in samples), p)
    return stats.weighted_quantile(chain.from_iterable(map(_weighted, samples)), p)


def _weighted(samples: Samples) -> Iterable[tuple[float, int]]:
    if samples.growth is None:
        return [(float(value), 1) for value in samples.values_ns]
    return stats.histogram_values(samples.bins, samples.counts, samples.growth)


def _of_windows(found: Evidence) -> Values:
    own = at_settled_depth(found.windows)
    if not own:
        return Values(fault="no window completed an image") if found.windows else Values()
    blocks: dict[int, list[float]] = defaultdict(list)
    for one in own:
        blocks[one.block].append(math.log(images_per_s(one)))
    return Values(
        median(images_per_s(one) for one in own), {block: fmean(logs) for block, logs in blocks.items()}
    )


def _of_loads(found: Evidence) -> Values:
    """Leave out the first load, from a disk not yet read: of a run's block 0, or of a trial's rehearsal."""
    first = found.record.first_output
    later = first.load_ns[1:] if first else ()
    if not later:
        return Values()
    if min(later) <= 0:
        return Values(fault=f"loading took {min(later)} ns, which cannot be")
    start = 1 if found.result.trial is None else 0
    return Values(median(later), {block: math.log(one) for block, one in enumerate(later, start)})


_READERS: dict[str, Callable[[Evidence], Values]] = {
    "slices": _of_slices,
    "calls": _of_calls,
    "tail": _of_tail,
    "windows": _of_windows,
    "loads": _of_loads,
}


def once(metric: Metric, record: CellRecord) -> float | None:
    """Give the value of a metric that was observed once, or is exact; None where it is not known."""
    if metric.name == "memory.peak":
        memory = record.memory
        known = memory is not None and memory.peak_bytes is not None and memory.base_bytes is not None
        return float(memory.peak_bytes - memory.base_bytes) if known else None  # type: ignore[union-attr,operator]
    if record.artifact is None:
        return None
    if metric.name == "artifact.bytes":
        return float(record.artifact.bytes)
    # What another machine took to compile says nothing of this one.
    return float(record.artifact.compile_s) if record.artifact.origin == "here" else None


def threads(found: Evidence) -> int | None:
    """Tell how many threads a cell computes with; None where the vendor chose and does not say."""
    record = found.record
    if record.placement is not None and record.placement.threads is not None:
        return record.placement.threads
    if isinstance(record.cell.threads, int):
        return record.cell.threads
    cpu = found.result.environment.get("cpu")
    usable = cpu.get("usable") if isinstance(cpu, dict) else None
    return len(usable) if record.cell.threads == "cores" and isinstance(usable, list) and usable else None
