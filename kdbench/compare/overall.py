"""The verdict on a comparison as a whole: what the exit code says, in a word."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.compare.findings import BROKEN
from kdbench.compare.options import Options
from kdbench.comparison import VERDICTS, Change, Comparison, Verdict
from kdbench.metric import STATUS


def overall(comparison: Comparison, options: Options) -> Verdict:
    """Give the verdict that `Comparison.verdict` describes, from rows, mismatches and gates.

    `worse` is that of exit code 1, `not comparable` that of 4. In a trial both sides were meant to work, so
    one that does not is worse, whichever it is.
    """
    if comparison.mismatches and not comparison.allowed:
        return "not comparable"
    counting = tuple(_counting(comparison, options))
    found = {change.verdict for change in counting} - {"not comparable"}
    if comparison.across:
        return "not comparable" if not found else "inconclusive" if "inconclusive" in found else "same"
    if "worse" in found or _broken(comparison):
        return "worse"
    judged = {change.metric for change in counting if _tells(change)}
    if not judged or options.gates.keys() - judged:
        return "not comparable"
    return next(one for one in VERDICTS if one in found)


def _counting(comparison: Comparison, options: Options) -> Iterator[Change]:
    for row in comparison.rows:
        for change in row.changes:
            if options.counts(change.metric):
                yield change


def _broken(comparison: Comparison) -> bool:
    """Tell whether a cell of a trial that has no counterpart does not work."""
    return bool(comparison.base.side) and any(one.status in BROKEN for one in comparison.unmatched)


def _tells(change: Change) -> bool:
    """Tell whether something was judged; that a row cannot be had any more is no figure."""
    lost = change.metric == STATUS and change.verdict == "inconclusive"
    return change.verdict != "not comparable" and not lost
