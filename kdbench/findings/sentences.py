"""What a comparison says, in sentences: what changed, what nobody can tell, and why.

The same sentences stand on a terminal and in a pull request; how they look is decided there. Text from files
is made plain here, and is escaped where it is shown.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdbench.comparison import Change, Comparison, Overtaking, Report, Row, Source, Verdict
from kdbench.figures import count, duration, listed, percent, plain
from kdbench.findings.effect import fast, label, margin, phrase, size, span, timed, visible
from kdbench.findings.naming import Line, Names
from kdbench.findings.outcome import judged, refused

LEVEL = 0.05
"""A probability below it, uncorrected, makes the reason worth more than the sizes."""

MOST, FEW = 6, 3
"""Sentences of one kind, and of one that is no news; the table and the JSON have all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence: what it is about, and a command to copy where one is of use."""

    subject: str
    text: str
    command: str = ""


def side(source: Source) -> str:
    """Say what a table calls a side: `A` and `B` of a trial, else its label."""
    return source.side.upper() or plain(source.label)


def described(source: Source) -> str:
    """Say what stands behind a side: its file and when that was, or the label of a side of a trial."""
    when = plain(source.started_utc)[:16].replace("T", " ")
    what = source.label if source.side else source.file or source.run
    return plain(" · ".join(part for part in (what, when if not source.side else "") if part))


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
        yield from _leads(comparison, names)
    else:
        yield from _changed("worse", pairs, names)
        yield from _changed("better", pairs, names)
        yield from _inconclusive(pairs, names)
    yield from _uncomparable(pairs, names)
    yield from _contended(pairs, names)
    yield from _widened(pairs)
    yield from _means(comparison, bool(rows))
    for one in comparison.overtakings:
        yield Finding("Overtaking", _overtaking(one, names))
    yield from _unmatched(comparison, names)


def _means(comparison: Comparison, valid: bool) -> Iterator[Finding]:
    """Give the geometric means of speed; the JSON has those of sizes too."""
    means = [mean for mean in comparison.means if valid and fast(mean.metric)]
    if means:
        told = ", ".join(f"{label(mean.metric)} {100 * (mean.effect - 1):+.1f} %" for mean in means)
        rows = sorted({mean.rows for mean in means})
        over = count(rows[0], "row") if len(rows) == 1 else f"{rows[0]} to {rows[-1]} rows"
        yield Finding("Geometric mean", f"{told} (over {over} valid on both sides).")


def _leads(comparison: Comparison, names: Names) -> Iterator[Finding]:
    """Say of each group within one file who leads, over whom by how much, and who cannot be told from it."""
    groups: dict[tuple[str, str], list[tuple[Row, Change]]] = defaultdict(list)
    for row in comparison.rows:
        for change in row.changes:
            groups[change.metric, names.cell(row.base)].append((row, change))
    for (metric, leader), found in groups.items():
        behind = [
            f"{names.configuration(row.new)} {_by(change)}"
            for row, change in found
            if change.verdict == "worse"
        ]
        alike: dict[str, list[str]] = defaultdict(list)
        for row, change in found:
            if change.verdict in ("same", "inconclusive"):
                alike[_unseen(change)].append(names.configuration(row.new))
        subject = phrase(metric).capitalize()
        if behind:
            yield Finding(subject, f"{leader}, leads; {listed(behind[:MOST])}.")
        for unseen, others in list(alike.items())[:MOST]:
            yield Finding(subject, f"{leader} cannot be told from {listed(others)}{unseen}.")


def _changed(verdict: Verdict, pairs: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    found = [(row, change) for row, change in pairs if change.verdict == verdict]
    subject = {"worse": "Worse", "better": "Better"}[verdict]
    for row, change in found[:MOST]:
        yield Finding(subject, f"{names.row(row)}: {phrase(change.metric)} {_judged(change)}.")
    if len(found) > MOST:
        yield Finding(subject, f"{len(found) - MOST} more; the table has all.")


def _judged(change: Change) -> str:
    """Say by how much against which margin; where there is no size, as of a status, only the reason."""
    reason = plain(change.reason).rstrip(".")
    if change.effect is None:
        return reason or "changed"
    return f"{_by(change)}, margin {margin(change)}" + (f"; {reason}" if reason else "")


def _by(change: Change) -> str:
    """Say by how much, how surely, and from how many replications."""
    told = [f"95 %: {span(change)}"] if span(change) else []
    base, new = change.blocks
    if change.scale != "ratio":
        told += [count(new, "image")] if change.paired and new else []
    elif change.paired and new:
        told.append(count(new, "block"))
    elif base or new:
        told.append(f"{base} and {count(new, 'block')}")
    if change.p_holm is not None and change.scale == "count":
        told.append(f"p = {change.p_holm:.2g}")
    return size(change) + (f" ({', '.join(told)})" if told else "")


def _inconclusive(pairs: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    """Say what could have been seen, and the trial that would decide: the largest changes first."""
    rows: dict[str, list[Change]] = defaultdict(list)
    for row, change in pairs:
        if change.verdict == "inconclusive":
            rows[f"{names.row(row)}, {row.new.scenario}"].append(change)
    suspects = sorted(rows.items(), key=lambda item: -max(map(_suspicion, item[1])))
    for name, changes in suspects[:FEW]:
        told = ", ".join(f"{phrase(change.metric)} {size(change) or 'unknown'}" for change in changes)
        trial = max(changes, key=lambda change: (bool(change.command), change.settle_s or 0.0))
        settle = f" {_settle(trial)}" if trial.command else ""
        first = max(changes, key=_suspicion)
        yield Finding(
            "Inconclusive",
            f"{name.rpartition(', ')[0]}: {told}{_unseen(first)}.{settle}",
            plain(trial.command),
        )
    if len(suspects) > FEW:
        yield Finding("Inconclusive", f"{count(len(suspects) - FEW, 'cell')} more; the table has all.")


def _suspicion(change: Change) -> float:
    """Sort key: how large a change is, on its own scale of margins."""
    if change.effect is None:
        return 0.0
    size = abs(math.log(max(change.effect, 1e-9))) if change.scale == "ratio" else abs(change.effect)
    return size / change.margin if change.margin else size


def _unseen(change: Change) -> str:
    suspicious = change.p is not None and change.p < LEVEL and change.reason
    if visible(change) and not suspicious:
        return f"; less than {visible(change).lstrip('±')} would not have shown"
    return f"; {plain(change.reason).rstrip('.')}" if change.reason else ""


def _settle(trial: Change) -> str:
    if trial.settle_s is None:
        return "A trial would tell:"
    return f"About {duration(trial.settle_s)} of alternating would tell:"


def _uncomparable(pairs: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    """Say why figures were not compared, each reason once."""
    found: dict[str, list[str]] = defaultdict(list)
    for row, change in pairs:
        if change.verdict == "not comparable":
            found[plain(change.reason) or "no figure on one side"].append(
                f"{names.row(row)}: {phrase(change.metric)}"
            )
    for reason, cases in found.items():
        yield Finding("Not comparable", f"{_first(cases)}: {reason.rstrip('.')}.")


def _contended(pairs: Sequence[tuple[Row, Change]], names: Names) -> Iterator[Finding]:
    """Say what counts for less, and why, each reason once."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row, change in pairs:
        if change.contended:
            found[plain(change.contended)][names.row(row)] = None
    for why, cases in list(found.items())[:FEW]:
        yield Finding("Weaker evidence", f"{_first(list(cases))}: {why.rstrip('.')}.")
    if len(found) > FEW:
        yield Finding("Weaker evidence", f"{len(found) - FEW} more of the kind.")


def _first(cases: Sequence[str]) -> str:
    return cases[0] + (f" and {len(cases) - 1} more" if len(cases) > 1 else "")


def _widened(pairs: Sequence[tuple[Row, Change]]) -> Iterator[Finding]:
    """Say by how much separate runs differ of themselves here, and where that is known from."""
    found: dict[str, list[float]] = defaultdict(list)
    for _, change in pairs:
        if change.run_sd is not None:
            found[plain(change.run_sd_from)].append(change.run_sd)
    for source, spreads in found.items():
        low, high = (percent(math.expm1(spread)) for spread in (min(spreads), max(spreads)))
        by = low if low == high else f"{low} to {high}"
        origin = f" ({source})" if source else ""
        told = f"a run strays by about {by} of itself, and the intervals allow for that{origin}."
        yield Finding("Separate runs", told)


def _overtaking(one: Overtaking, names: Names) -> str:
    first, second = names.configuration(one.first), names.configuration(one.second)
    chance = "" if one.real else ", perhaps by chance"
    return (
        f"{second} overtakes {first} in {one.scenario} between batch {one.below} and {one.above}, at about "
        f"{one.about:.0f}{chance}."
    )


def _unmatched(comparison: Comparison, names: Names) -> Iterator[Finding]:
    """List the cells that only one side has, those of one configuration together."""
    found: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for one in comparison.unmatched:
        name = ", ".join([names.configuration(one.cell), *names.mode(one.cell)])
        key = (one.only, name, plain(one.status))
        found[key].append((one.cell.batch, one.cell.scenario))
    sides = {"base": side(comparison.base), "new": side(comparison.new)}
    for (only, name, status), cells in list(found.items())[:MOST]:
        batches = listed([str(batch) for batch in sorted({batch for batch, _ in cells})])
        scenarios = listed(list(dict.fromkeys(scenario for _, scenario in cells)))
        yield Finding(f"Only in {sides[only]}", f"{name}, batch {batches}, {scenarios} ({status}).")
    if len(found) > MOST:
        yield Finding("Only on one side", f"{len(found) - MOST} configurations more; the JSON has all.")
