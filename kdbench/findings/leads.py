"""Within one file: who leads, over whom by how much, who cannot be told from whom, who overtakes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kdbench.comparison import Change, Comparison, Row
from kdbench.figures import listed
from kdbench.findings.effect import phrase
from kdbench.findings.finding import MOST, Finding, by, unseen
from kdbench.findings.naming import Names
from kdbench.findings.standing import behind, beyond, real, too_little

Pairs = Sequence[tuple[Row, Change]]


def leads(comparison: Comparison, names: Names) -> Iterator[Finding]:
    """Say of each group who leads it, by a sentence for each way in which the others stand to it."""
    groups: dict[tuple[str, str], list[tuple[Row, Change]]] = defaultdict(list)
    for row in comparison.rows:
        for change in row.changes:
            if change.verdict != "not comparable":
                groups[change.metric, names.cell(row.base)].append((row, change))
    for (metric, leader), found in groups.items():
        for told in _group(leader, found, names):
            yield Finding(phrase(metric).capitalize(), told)


def _group(leader: str, found: Pairs, names: Names) -> Iterator[str]:
    """A lead within the margin is one all the same; only what may be chance is none."""
    who = f"{leader}," if ", " in leader else leader
    sure = [(row, change) for row, change in found if real(change)]
    far = [pair for pair in sure if behind(pair[1]) and beyond(pair[1])]
    if far:
        yield f"{who} leads; {_listed(far, names)}."
    near: dict[str, list[tuple[Row, Change]]] = defaultdict(list)
    for row, change in sure:
        if behind(change) and not beyond(change):
            near[too_little(change)].append((row, change))
    for little, pairs in near.items():
        yield f"{who} is ahead of {_listed(pairs, names)}, {little}."
    ahead = [pair for pair in sure if not behind(pair[1])]
    if ahead:
        yield f"{who} has the best worst case, yet behind {_listed(ahead, names)}."
    alike: dict[str, list[str]] = defaultdict(list)
    for row, change in found:
        if not real(change):
            alike[unseen(change)].append(names.configuration(row.new))
    for what, others in list(alike.items())[:MOST]:
        yield f"{leader} cannot be told from {listed(others)}{what}."


def _listed(pairs: Pairs, names: Names) -> str:
    told = [f"{names.configuration(row.new)} {by(change)}" for row, change in pairs[:MOST]]
    return listed([*told, f"{len(pairs) - MOST} more"] if len(pairs) > MOST else told)


def overtaking(comparison: Comparison, names: Names) -> Iterator[Finding]:
    """Say where one cell overtakes another as batches grow."""
    for one in comparison.overtakings:
        first, second = names.configuration(one.first), names.configuration(one.second)
        chance = "" if one.real else ", perhaps by chance"
        yield Finding(
            "Overtaking",
            f"{second} overtakes {first} in {one.scenario} between batch {one.below} and {one.above}, "
            f"at about {one.about:.0f}{chance}.",
        )
