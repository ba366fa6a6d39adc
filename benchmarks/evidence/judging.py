"""Ask kdbench itself for its verdict on the median latency, as `kdbench ab` and `kdbench compare` give it."""

from __future__ import annotations

from kdbench import compare
from kdbench.comparison import Change, Comparison
from kdbench.metric import METRICS
from kdbench.records import Result

METRIC = "latency.p50"

CALLED = ("better", "worse")
"""The verdicts that claim a change."""

REGRESSION = 1
"""The exit code by which a trial says that something became worse."""


def tried(result: Result) -> Comparison:
    """Compare the two sides of a trial."""
    return compare.compare_trial(result)


def compared(base: Result, new: Result) -> Change:
    """Give the verdict on two separate runs of one cell, with nothing known of the machine but the prior."""
    loaded = compare.Loaded(base, "base"), compare.Loaded(new, "new")
    return median_latency(compare.compare(*loaded))


def median_latency(comparison: Comparison) -> Change:
    """Give what was found of the median latency of the only cell."""
    [found] = [one for row in comparison.rows for one in row.changes if one.metric == METRIC]
    return found


def found(change: Change, slow: float = 0.0) -> bool:
    """Tell whether the interval of a ratio excludes 1.

    With a slow-down planted only an interval of slower ones has found it; without any, either alarms.
    """
    slower = change.low is not None and change.low > 1
    return slower or (not slow and change.high is not None and change.high < 1)


def called(change: Change, slow: float = 0.0) -> bool:
    """Tell whether kdbench calls it a change; with a slow-down planted, one for the worse."""
    return change.verdict == "worse" or (not slow and change.verdict == "better")


def any_called(comparison: Comparison) -> bool:
    """Tell whether any figure that counts unasked is called better or worse, not the median latency alone."""
    changes = [one for row in comparison.rows for one in row.changes]
    return any(one.verdict in CALLED and _counts(one) for one in changes)


def fails(comparison: Comparison) -> bool:
    """Tell whether a trial that found this exits with 1, by the rules of the kdbench that reads it now."""
    return compare.report([comparison]).exit_code == REGRESSION


def _counts(change: Change) -> bool:
    metric = METRICS.get(change.metric)
    return metric is None or metric.judged
