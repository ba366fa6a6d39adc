"""Geometric means of what changed, over the rows that are valid wherever they are compared."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from statistics import fmean

from msgspec.structs import replace

from kdbench.comparison import Change, Comparison, Mean, Row
from kdbench.metric import METRICS
from kdbench.spec import Cell

Place = tuple[Cell, str]
"""A cell of base and the name of a metric."""


def means(rows: Sequence[Row], among: Collection[Place] | None = None) -> tuple[Mean, ...]:
    """Give the geometric mean of each metric's ratios, where at least two rows are valid on both sides.

    among: the only ones to look at, None for all.
    """
    logs: dict[str, list[float]] = {name: [] for name, metric in METRICS.items() if metric.scale == "ratio"}
    for place, change in _valid(rows):
        if among is None or place in among:
            logs[change.metric].append(math.log(change.effect or 1.0))
    return tuple(
        Mean(metric=name, effect=math.exp(fmean(found)), rows=len(found))
        for name, found in logs.items()
        if len(found) > 1
    )


def in_common(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Take the means of several comparisons with one base over the rows that are valid in all of them."""
    if len(comparisons) < 2:
        return list(comparisons)
    valid = [{place for place, _ in _valid(one.rows)} for one in comparisons]
    common = set.intersection(*valid)
    return [replace(one, means=means(one.rows, common)) for one in comparisons]


def _valid(rows: Sequence[Row]) -> Iterator[tuple[Place, Change]]:
    """Give what has a ratio that may be judged."""
    for row in rows:
        for change in row.changes:
            if change.scale == "ratio" and change.effect and change.verdict != "not comparable":
                yield (row.base, change.metric), change
