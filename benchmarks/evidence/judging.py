"""Ask kdbench itself for its verdict on the median latency, as `kdbench ab` and `kdbench compare` give it."""

from __future__ import annotations

from kdbench import compare
from kdbench.comparison import Change, Comparison
from kdbench.records import Result

METRIC = "latency.p50"


CALLED = ("better", "worse")
"""The verdicts that claim a change."""


def tried(result: Result) -> Comparison:
    """Compare the two sides of a trial."""
    return compare.compare_trial(result)


def compared(base: Result, new: Result) -> Change:
    """Give the verdict on two separate runs of one cell, with nothing known of the machine but the prior."""
    loaded = compare.Loaded(base, "base"), compare.Loaded(new, "new")
    return median_latency(compare.compare(*loaded))


def called(comparison: Comparison) -> bool:
    """Tell whether any figure of a comparison is called better or worse, not the median latency alone."""
    return any(one.verdict in CALLED for row in comparison.rows for one in row.changes)


def excludes_none(change: Change) -> bool:
    """Tell whether the interval of a ratio excludes 1."""
    return (change.low is not None and change.low > 1) or (change.high is not None and change.high < 1)


def median_latency(comparison: Comparison) -> Change:
    """Give what was found of the median latency of the only cell."""
    [found] = [one for row in comparison.rows for one in row.changes if one.metric == METRIC]
    return found
