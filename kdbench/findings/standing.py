"""The verdict on one change in a word, as a table has it.

Within one file nothing has become worse: there a cell is behind its leader, level with it, or nobody knows.
"""

from __future__ import annotations

from kdbench.comparison import Change, Comparison
from kdbench.findings.effect import margin, weight
from kdbench.metric import METRICS

LEVEL = 0.05
"""A probability below it is more than chance."""

JUST = "just "
"""What stands before `behind` where the lead is real, and less than could matter."""

NOT_JUDGED = "not judged"


def real(change: Change) -> bool:
    """Tell whether a difference is more than chance, however small it is."""
    return change.p_holm is not None and change.p_holm < LEVEL


def beyond(change: Change) -> bool:
    """Tell whether a difference was found to be larger than the margin."""
    return change.verdict in ("worse", "better")


def behind(change: Change) -> bool:
    """Tell whether new is on the bad side of base, by however little."""
    if change.effect is None:
        return change.verdict == "worse"
    known = METRICS.get(change.metric)
    grown = change.effect > (1.0 if change.scale == "ratio" else 0.0)
    return grown == (known is None or known.worse == "up")


def word(change: Change, comparison: Comparison, *, judged: bool) -> str:
    """Give what the table says of a change.

    judged: whether it counts. Of what does not, a verdict that nothing tested is not told.
    """
    if comparison.across:
        return _standing(change)
    return change.verdict if judged or change.p is not None else NOT_JUDGED


def _standing(change: Change) -> str:
    if not real(change):
        return {"same": "tied", "not comparable": "not comparable"}.get(change.verdict, "unclear")
    return f"{'' if beyond(change) else JUST}{'behind' if behind(change) else 'ahead'}"


def too_little(change: Change) -> str:
    """Say of a real difference that is not beyond the margin how little it is."""
    if weight(change) > 1:
        return "by less than could matter"
    sure = "" if change.verdict == "same" else "probably "
    return f"{sure}by less than the margin of {margin(change)}"
