"""Derive from raw slices, samples and windows what people read: medians, percentiles, leads, checks.

Everything here can be derived again from the same file, and comes out the same. A cell's latency is the
median over blocks of the block's median of slice medians, its p10 likewise. Cells are never
ranked by these, but by their neighbouring visits: see `kdbench.ranking`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from msgspec.structs import replace

from kdbench import stats
from kdbench.checks import TAIL_NS, Index, index as indexed, judge
from kdbench.crossover import crossings
from kdbench.journal import open_result
from kdbench.ranking import at_settled_depth, gains, images_per_s, leads
from kdbench.records import (
    AccuracyRecord,
    CellRecord,
    Percentile,
    Result,
    Samples,
    Slice,
    Subject,
    Summary,
    Window,
)

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
"""Up to p90 from all slices, above only from a long stretch in one go: switching makes tails of its own."""

SIGNIFICANCE = 0.05
"""Of McNemar's test for a loss of accuracy."""


def open_summarised(path: Path) -> Result:
    """Open a result file, or a journal, whose cells have no summaries of their own yet."""
    result = open_result(path)
    return result if result.run.status == "complete" else summarise(result)


def summarise(result: Result) -> Result:
    """Fill in each cell's `summary`, `eligible` and `checks`; `leads`, `gains` and `crossings` of the result.

    Checks that were there already stay, unless a new one has their id.
    """
    slices, windows, samples = (
        _by_cell(items) for items in (result.slices, result.windows, _telling(result))
    )
    allowed = allowed_drop(result)
    cells = tuple(
        replace(
            record,
            summary=_summary(slices[index], windows[index], samples[index]),
            eligible=_eligible(record, _subject(result, record).trained, allowed),
        )
        for index, record in enumerate(result.cells)
    )
    ranked = replace(result, cells=cells)
    ranked = replace(ranked, leads=leads(ranked), gains=gains(ranked), crossings=crossings(ranked))
    known = indexed(ranked)
    return replace(ranked, cells=tuple(_checked(index, known) for index in range(len(cells))))


def _subject(result: Result, record: CellRecord) -> Subject:
    """Give what was measured in a cell, which a trial may have two of."""
    own = [one.subject for one in result.trial.sides if one.side == record.cell.side] if result.trial else []
    return next((one for one in own if one is not None), result.subject)


def _checked(index: int, known: Index) -> CellRecord:
    record, found = known.result.cells[index], judge(index, known.result, known)
    others = tuple(one for one in record.checks if one.id not in {check.id for check in found})
    return replace(record, checks=(*others, *found))


def allowed_drop(result: Result) -> float | None:
    """Give the accuracy that a cell may lose and be ranked, in percentage points.

    None stands for the profile's `resolution`: no loss that the evaluation split can tell from none.
    """
    asked = result.run.profile.get("accuracy")
    drop = asked.get("max_drop") if isinstance(asked, dict) else None
    return float(drop) if isinstance(drop, int | float) and not isinstance(drop, bool) else None


def _telling(result: Result) -> Iterable[Samples]:
    """Give the samples that percentiles come from: those of a stretch only where it was long enough."""
    stretches = _by_cell(result.stretches)
    for one in result.samples:
        own = stretches[one.cell]
        if one.kind == "slices" or (own and all(stretch.duration_ns >= TAIL_NS for stretch in own)):
            yield one


def _by_cell(items: Iterable[Any]) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for item in items:
        found[item.cell].append(item)
    return found


def _summary(
    slices: Sequence[Slice], windows: Sequence[Window], samples: Sequence[Samples]
) -> Summary | None:
    if not slices and not windows:
        return None
    return Summary(**_latency(slices, samples), **_throughput(windows))


def _latency(slices: Sequence[Slice], samples: Sequence[Samples]) -> dict[str, Any]:
    if not slices:
        return {}
    timed = [one for one in slices if one.device_ns is not None]
    return {
        "calls": sum(one.calls for one in slices),
        "median_ns": over_blocks(slices, "median_ns"),
        "p10_ns": over_blocks(slices, "p10_ns"),
        "percentiles": tuple(_percentile(p, samples) for p in PERCENTILES),
        "spread": median(one.p75_ns / max(1.0, one.p25_ns) for one in slices),
        "device_ns": over_blocks(timed, "device_ns") if timed else None,
    }


def over_blocks(slices: Sequence[Slice], statistic: str) -> float:
    """Give the median over blocks of the block's median of one statistic of its slices."""
    blocks: dict[int, list[float]] = defaultdict(list)
    for one in slices:
        blocks[one.block].append(getattr(one, statistic))
    return median(median(values) for values in blocks.values())


def _percentile(p: float, samples: Sequence[Samples]) -> Percentile:
    """Give the median over blocks of a block's percentile, as the median of a cell is one: they go together.

    Over all calls at once, a fast block has more of them, and p90 could lie below the median.
    """
    kind = "slices" if p <= 90 else "tail"
    own = [one for one in samples if one.kind == kind]
    need, have = stats.percentile_need(p), sum(one.calls for one in own)
    if have < need:
        return Percentile(p=p, need=need, have=have)
    blocks: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for one in own:
        blocks[one.block] += _weighted(one)
    value = median(stats.weighted_quantile(found, p / 100) for found in blocks.values() if found)
    return Percentile(p=p, value_ns=round(value), need=need, have=have)


def _weighted(samples: Samples) -> Iterable[tuple[float, int]]:
    if samples.growth is None:
        return [(value, 1) for value in samples.values_ns]
    return stats.histogram_values(samples.bins, samples.counts, samples.growth)


def _throughput(windows: Sequence[Window]) -> dict[str, Any]:
    """Take the median over windows, and a t interval of the blocks' mean logarithms."""
    own = at_settled_depth(windows)
    if not own:
        return {}
    blocks: dict[int, list[float]] = defaultdict(list)
    for one in own:
        blocks[one.block].append(math.log(images_per_s(one)))
    interval = stats.t_interval([fmean(logs) for logs in blocks.values()])
    known = math.isfinite(interval.half)
    return {
        "throughput_per_s": median(images_per_s(one) for one in own),
        "throughput_low_per_s": math.exp(interval.low) if known else None,
        "throughput_high_per_s": math.exp(interval.high) if known else None,
        "depth": own[0].depth,
    }


def _eligible(record: CellRecord, trained: bool, allowed: float | None) -> bool | None:
    """Tell whether a cell may be ranked: measured, where it was to run, and no less accurate than is allowed.

    The answer is None where nothing is known about the accuracy of a measured cell.
    """
    if record.status != "measured" or (record.placement is not None and record.placement.fallback):
        return False
    if record.accuracy is None:
        return None
    if record.accuracy.non_finite:
        return False
    if trained and record.accuracy.correct is not None:
        return _accurate(record.accuracy, allowed)
    return _within(record.accuracy.flips, record.accuracy, allowed or 0.0)


def _accurate(accuracy: AccuracyRecord, allowed: float | None) -> bool:
    drop = accuracy.lost - accuracy.gained
    if allowed is not None:
        return _within(drop, accuracy, allowed)
    return drop <= 0 or stats.mcnemar(accuracy.lost, accuracy.gained) >= SIGNIFICANCE


def _within(images: int, accuracy: AccuracyRecord, allowed: float) -> bool:
    # the small number lets a drop of exactly the allowed share pass in spite of rounding
    return 100 * images <= allowed * accuracy.images + 1e-6
