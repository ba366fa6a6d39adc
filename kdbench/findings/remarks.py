"""What limits a comparison: what could not be compared, weak evidence, spread of runs, cells of one side."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from kdbench.comparison import Change, Comparison, Row
from kdbench.figures import count, listed, plain
from kdbench.findings.effect import fast, label, mean, phrase, stray
from kdbench.findings.finding import FEW, MOST, Finding, joined, reason, several
from kdbench.findings.naming import Names, side
from kdbench.metric import STATUS

Pairs = Sequence[tuple[Row, Change]]

_NUMBER = re.compile(r"\d+", re.ASCII)


def uncomparable(pairs: Pairs, names: Names) -> Iterator[Finding]:
    """Say why figures were not compared, each reason once."""
    found: dict[str, list[str]] = defaultdict(list)
    for row, change in pairs:
        if change.verdict == "not comparable":
            what = "" if change.metric == STATUS else phrase(change.metric)
            case = joined(names.row(row), what) if what else names.row(row)
            found[reason(change) or "no figure on one side"].append(case)
    for why, cases in list(found.items())[:MOST]:
        yield Finding("Not comparable", f"{joined(several(cases), why)}.")
    rest = sum(len(cases) for cases in list(found.values())[MOST:])
    if rest:
        yield Finding(
            "Not comparable", f"{count(rest, 'figure')} more, for other reasons; the JSON has them."
        )


def contended(pairs: Pairs, names: Names) -> Iterator[Finding]:
    """Say what counts for less, and why: once of rows that differ only in how much, by the worst of them."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row, change in pairs:
        if change.contended:
            why, name = plain(change.contended).rstrip("."), names.row(row)
            kind = found[_NUMBER.sub("#", why)]
            kind[name] = max(kind.get(name, why), why, key=_extent)
    for kind in list(found.values())[:FEW]:
        worst = max(kind, key=lambda name: _extent(kind[name]))
        others = len(kind) - 1
        if others and len(set(kind.values())) > 1:
            told = f"{joined(worst, kind[worst])}; {others:,} more to a lesser degree."
        else:
            told = f"{joined(several(list(kind)), kind[worst])}."
        yield Finding("Weaker evidence", told)
    if len(found) > FEW:
        yield Finding("Weaker evidence", f"{len(found) - FEW} more of the kind.")


def _extent(why: str) -> list[float]:
    """Sort key: the numbers of a reason, the first one first."""
    return [float(number[:15]) for number in _NUMBER.findall(why)]


def widened(pairs: Pairs) -> Iterator[Finding]:
    """Say by how much separate runs differ of themselves here, and where that is known from."""
    found: dict[str, list[float]] = defaultdict(list)
    for _, change in pairs:
        if change.run_sd is not None:
            found[plain(change.run_sd_from)].append(change.run_sd)
    for source, spreads in found.items():
        low, high = stray(min(spreads)), stray(max(spreads))
        by = low if low == high else f"{low} to {high}"
        origin = f" ({source})" if source else ""
        told = f"a run strays by about {by} of itself, and the intervals allow for that{origin}."
        yield Finding("Separate runs", told)


def means(comparison: Comparison, valid: bool) -> Iterator[Finding]:
    """Give the geometric means of speed; the JSON has those of sizes too."""
    found = [one for one in comparison.means if valid and fast(one.metric)]
    if found:
        told = ", ".join(f"{label(one.metric)} {mean(one.effect)}" for one in found)
        rows = sorted({one.rows for one in found})
        over = count(rows[0], "row") if len(rows) == 1 else f"{rows[0]} to {rows[-1]} rows"
        yield Finding("Geometric mean", f"{told} (over {over} valid on both sides).")


def unmatched(comparison: Comparison, names: Names) -> Iterator[Finding]:
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
