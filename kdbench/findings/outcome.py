"""The word at the end: what follows from a comparison and from a report, as the exit code has it."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.comparison import VERDICTS, Change, Comparison, Report, Verdict
from kdbench.figures import count, listed, plain
from kdbench.findings.effect import margin, timed
from kdbench.findings.standing import real
from kdbench.metric import METRICS

INCONCLUSIVE = 5
"""The exit code."""


def counts(change: Change, report: Report) -> bool:
    """Tell whether a change decides the exit code; a status always does."""
    if change.metric in METRICS and report.gates:
        return change.metric in report.gates
    return judged(change, report)


def judged(change: Change, report: Report) -> bool:
    """Tell whether a change is news: what is only measured beside is none unless it was asked for."""
    known = METRICS.get(change.metric)
    return known is None or known.judged or change.metric in (*report.gates, *report.metrics)


def refused(comparison: Comparison) -> bool:
    """Tell whether the two sides are too different for any figure to be judged."""
    return bool(comparison.mismatches) and not comparison.allowed


def _counting(comparison: Comparison, report: Report) -> list[Change]:
    return [change for row in comparison.rows for change in row.changes if counts(change, report)]


def conclusion(comparison: Comparison, report: Report) -> str:
    """Say the verdict on one comparison, with how many figures have it, and what no gate asked for."""
    counting, verdict = _counting(comparison, report), comparison.verdict
    if not comparison.rows and not comparison.mismatches:
        return "A side does not work: nothing to compare" if verdict == "worse" else "Nothing to compare"
    if comparison.across and counting:
        sure = sum(map(real, counting))
        return f"{sure} of {count(len(counting), 'difference')} between leaders and others are real"
    lacking = _lacking(counting, report)
    if lacking and verdict == "not comparable" and not refused(comparison):
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
    verdicts = [comparison.verdict for comparison in report.comparisons]
    worst: Verdict = next((one for one in VERDICTS if one in verdicts), "not comparable")
    code = f"exit code {report.exit_code}{_strictly(report, verdicts)}"
    if len(report.comparisons) == 1:
        return worst, f"{conclusion(report.comparisons[0], report)} ({code})"
    return worst, f"{_tally(worst, verdicts)} ({code})"


def _strictly(report: Report, verdicts: Sequence[Verdict]) -> str:
    """Say what `--strict` makes of what is not known: it is 5, or would be."""
    unsure = "inconclusive" in verdicts
    alone = [one for each in report.comparisons for one in each.unmatched]
    missing = any(one.only == "base" and one.status == "measured" for one in alone)
    if report.exit_code == INCONCLUSIVE and not unsure and missing:
        return ": rows of base are missing in new"
    return "; 5 with --strict" if report.exit_code == 0 and (unsure or missing) else ""


def _tally(worst: Verdict, verdicts: Sequence[Verdict]) -> str:
    """Count the verdicts of several comparisons, the gravest first."""
    whole = count(len(verdicts), "comparison")
    words = {"same": "no change"}
    told = [
        f"{words.get(one, one)} in {verdicts.count(one)}"
        for one in VERDICTS
        if one in verdicts and one != worst
    ]
    first = words.get(worst, worst).capitalize()
    if not told:
        return f"{first} in {whole}" if worst == "same" else f"{first} in {len(verdicts)} of {whole}"
    return ", ".join([f"{first} in {verdicts.count(worst)} of {whole}", *told])
