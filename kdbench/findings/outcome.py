"""The word at the end: the verdict on a comparison and on a report, as the exit code has it."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.comparison import Change, Comparison, Report, Verdict
from kdbench.figures import count, listed, plain
from kdbench.findings.effect import margin, timed
from kdbench.metric import METRICS, STATUS

NOT_COMPARABLE = 4
"""The exit code."""

_GRAVITY: tuple[Verdict, ...] = ("worse", "inconclusive", "better", "same")


def counts(change: Change, report: Report) -> bool:
    """Tell whether a change decides the exit code."""
    if report.gates and change.metric != STATUS:
        return change.metric in report.gates
    return judged(change, report)


def judged(change: Change, report: Report) -> bool:
    """Tell whether a change is news: what is only measured beside is none unless it was asked for."""
    known = METRICS.get(change.metric)
    return known is None or known.judged or change.metric in report.gates


def refused(comparison: Comparison) -> bool:
    """Tell whether the two sides are too different for any figure to be judged."""
    return bool(comparison.mismatches) and not comparison.allowed


def outcome(comparison: Comparison, report: Report) -> Verdict:
    """Give the verdict on one comparison by what counts: the gates, or all that is judged."""
    if refused(comparison):
        return "not comparable"
    found = {change.verdict for change in _counting(comparison, report)}
    return next((one for one in _GRAVITY if one in found), "not comparable")


def _counting(comparison: Comparison, report: Report) -> list[Change]:
    return [change for row in comparison.rows for change in row.changes if counts(change, report)]


def conclusion(comparison: Comparison, report: Report) -> str:
    """Say the verdict on one comparison, with how many figures have it, and what no gate asked for."""
    counting, verdict = _counting(comparison, report), outcome(comparison, report)
    if not comparison.rows and not comparison.mismatches:
        return "Nothing to compare"
    if comparison.across and counting:
        real = sum(change.verdict in ("worse", "better") for change in counting)
        return f"{real} of {count(len(counting), 'difference')} between leaders and others are real"
    lacking = _lacking(counting, report)
    if lacking and not refused(comparison) and verdict != "worse":
        return f"Not comparable: no figures on both sides for {listed(lacking)}"
    if verdict == "same":
        told = f"No change beyond {_margins(counting)}"
    else:
        having = sum(change.verdict == verdict for change in counting)
        of = f": {having} of {count(len(counting), 'judged figure')}"
        told = f"{verdict.capitalize()}{of if having and not refused(comparison) else ''}"
    beside = sum(
        change.verdict == "worse" and not counts(change, report)
        for row in comparison.rows
        for change in row.changes
    )
    return f"{told}; {count(beside, 'figure')} beside worse" if beside else told


def _lacking(counting: Sequence[Change], report: Report) -> list[str]:
    """List the gates that no figure could be held to."""
    found = {change.metric for change in counting if change.verdict != "not comparable"}
    return [plain(name) for name in report.gates if name not in found]


def _margins(counting: Sequence[Change]) -> str:
    """List the margins of speed, else all."""
    shown = [change for change in counting if timed(change)] or counting
    margins = list(dict.fromkeys(margin(change) for change in shown if change.scale != "count"))
    return listed(margins[:3]) if margins else "the margin"


def overall(report: Report) -> tuple[Verdict, str]:
    """Say what the exit code says, over all comparisons: the verdict, and the sentence with the code."""
    code = f"exit code {report.exit_code}"
    verdicts = [outcome(comparison, report) for comparison in report.comparisons]
    if report.exit_code == NOT_COMPARABLE:
        verdicts = ["not comparable" if one != "worse" else one for one in verdicts]
    elif report.exit_code == 0 and "inconclusive" in verdicts:
        code += "; 5 with --strict"
    worst: Verdict = next((one for one in _GRAVITY if one in verdicts), "not comparable")
    if report.exit_code == NOT_COMPARABLE:
        worst = "not comparable"
    if len(report.comparisons) == 1:
        return worst, f"{conclusion(report.comparisons[0], report)} ({code})"
    of = f"{verdicts.count(worst)} of {count(len(verdicts), 'comparison')}"
    if worst == "same":
        return worst, f"No change in {count(len(verdicts), 'comparison')} ({code})"
    return worst, f"{worst.capitalize()} in {of} ({code})"
