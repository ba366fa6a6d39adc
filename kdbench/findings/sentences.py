"""What a comparison says, in sentences: what changed, what nobody can tell, and why.

The same sentences stand on a terminal and in a pull request; how they look is decided there. Text from files
is made plain here, and is escaped where it is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kdbench.comparison import Change, Comparison, Report, Row, Verdict
from kdbench.figures import count, duration, listed
from kdbench.findings.effect import margin, phrase, size, timed, weight
from kdbench.findings.finding import FEW, MOST, Finding, by, joined, offered, reason, several, unseen
from kdbench.findings.leads import leads, overtaking
from kdbench.findings.naming import Line, Names
from kdbench.findings.outcome import judged, refused
from kdbench.findings.remarks import contended, means, uncomparable, unmatched, widened
from kdbench.metric import STATUS


def folded(line: Line) -> bool:
    """Tell whether a line is told in a sentence: no news, and not about speed."""
    return line.change.verdict == "same" and not timed(line.change)


def also_same(lines: Sequence[Line], whole: int) -> str:
    """Say in one sentence what is the same and stands in no table; empty where nothing does.

    whole: how many configurations there are; a metric that is the same in all of them needs no names.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        found[line.label].append(line.name)
    told = []
    for what, names in found.items():
        distinct = list(dict.fromkeys(names))
        of = "" if len(distinct) == whole else f" of {listed(distinct[:3])}"
        told.append(what + of + (f" and {len(distinct) - 3} more" if of and len(distinct) > 3 else ""))
    return f"Also the same: {', '.join(told)}." if told else ""


def findings(comparison: Comparison, report: Report) -> Iterator[Finding]:
    """Say all that a comparison found beside its figures, the most important first."""
    names = Names.of(comparison)
    rows = () if refused(comparison) else comparison.rows
    pairs = [(row, change) for row in rows for change in row.changes if judged(change, report)]
    if comparison.across:
        yield from leads(comparison, names)
    else:
        yield from _changed("worse", pairs, names)
        yield from _changed("better", pairs, names)
        yield from _inconclusive(pairs, names)
    yield from uncomparable(pairs, names)
    yield from contended(pairs, names)
    yield from widened(pairs)
    yield from means(comparison, bool(rows))
    yield from overtaking(comparison, names)
    yield from unmatched(comparison, names)


def _changed(verdict: Verdict, pairs: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    """Say what became worse or better: first what has no figures, as a row that failed, then the largest."""
    subject = verdict.capitalize()
    found = [(row, change) for row, change in pairs if change.verdict == verdict]
    yield from _unsized(subject, [pair for pair in found if not _figures(pair[1])], names)
    sized = sorted((pair for pair in found if _figures(pair[1])), key=lambda pair: _rank(pair[1]))
    for row, change in sized[:MOST]:
        why = f"; {reason(change)}" if change.reason else ""
        told = f"{phrase(change.metric)} {by(change)}, margin {margin(change)}{why}."
        yield Finding(subject, joined(names.row(row), told), tabled=not why)
    if len(sized) > MOST:
        yield Finding(subject, f"{len(sized) - MOST:,} more; the table has all.", tabled=True)


def _figures(change: Change) -> bool:
    return change.base is not None and change.new is not None


def _rank(change: Change) -> tuple[bool, float]:
    """Sort key: what is too far apart for a ratio comes first, then the largest."""
    return change.effect is not None, -weight(change)


def _unsized(subject: str, found: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    """Say what has a reason in the place of figures, each reason once, with the names that it holds for."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row, change in found:
        groups[change.metric, reason(change) or "changed"].append(names.row(row))
    for (metric, why), cases in list(groups.items())[:MOST]:
        told = why if metric == STATUS else f"{phrase(metric)} {why}"
        yield Finding(subject, f"{joined(several(cases, FEW), told)}.")
    rest = [case for cases in list(groups.values())[MOST:] for case in cases]
    if rest:
        which = several(rest, FEW) or f"{len(rest):,} more"
        yield Finding(subject, f"{which}, for other reasons; the JSON has them.")


def _inconclusive(pairs: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    """Say what could have been seen, and the trial that would decide: the largest changes first."""
    found = [(row, change) for row, change in pairs if change.verdict == "inconclusive"]
    yield from _unsized("Inconclusive", [pair for pair in found if pair[1].metric == STATUS], names)
    rows: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for row, change in found:
        if change.metric != STATUS:
            rows[names.row(row), row.new.scenario].append(change)
    suspects = sorted(rows.items(), key=lambda item: -max(map(weight, item[1])))
    for (name, _), changes in suspects[:FEW]:
        told = ", ".join(f"{phrase(change.metric)} {size(change) or 'unknown'}" for change in changes)
        trial = max(changes, key=lambda change: (bool(offered(change)), change.settle_s or 0.0))
        settle = f" {_settle(trial)}" if offered(trial) else ""
        largest = max(changes, key=weight)
        yield Finding("Inconclusive", f"{joined(name, told)}{unseen(largest)}.{settle}", offered(trial))
    if len(suspects) > FEW:
        yield Finding("Inconclusive", f"{count(len(suspects) - FEW, 'cell')} more; the table has all.")


def _settle(trial: Change) -> str:
    if trial.settle_s is None:
        return "A trial would tell:"
    return f"About {duration(trial.settle_s)} of alternating would tell:"
