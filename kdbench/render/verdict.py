"""Say in sentences what the tables mean: who leads, what is to be doubted, and what was not measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdbench.records import BackendRecord, CellRecord, Check, Gain, Lead, Result
from kdbench.render.figures import count, listed, percent, plain, ratio, significant
from kdbench.render.rows import NOT_RANKED, Row, Section, name
from kdbench.spec import SCENARIOS, Scenario
from kdbench.summary import allowed_drop

UNREACHED = "not reached"
UNDECIDED = 1.0
"""Where even twice as fast would not have shown, calling it a tie would say too much."""

LARGEST_FOLD = 1000
TIMES = "\N{MULTIPLICATION SIGN}"
_SEVERITY = ("ok", "doubtful", "bad")


FEW_ABSENT = 2
"""More backends than this that are not here are told by name only."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that was not measured, or not to its end. `trouble`: it is a fault, and no mere lack."""

    what: str
    status: str
    reason: str
    fix: str = ""
    log: str = ""
    trouble: bool = True


def sentences(section: Section, result: Result) -> Iterator[tuple[str, str]]:
    """Say of each scenario who leads and by how much, which faster rows are not ranked, and why.

    Then what distillation buys, where the teacher was measured too.
    """
    for scenario in SCENARIOS:
        lead = section.leads.get(scenario)
        if lead:
            yield scenario.capitalize(), _lead(lead, result)
        elif any(scenario in row.cells for row in section.rows if row.cell.network == "student"):
            yield scenario.capitalize(), "no row may be ranked."
    for row in section.rows:
        if row.cell.network == "student" and any(
            _would_lead(row, scenario, section.leads.get(scenario), result) for scenario in SCENARIOS
        ):
            what = "is faster" if section.leads else "has figures"
            yield "Not ranked", f"{name(row.cell, result)} {what}, but {_objection(row)}."
    for scenario in SCENARIOS:
        own = {row.cells[scenario][0] for row in section.rows if scenario in row.cells}
        if gains := [gain for gain in result.gains if gain.scenario == scenario and gain.student in own]:
            # A teacher that looks at a coarser view of the image may be the smaller network.
            buys = any(gain.ratio >= 1 for gain in gains)
            subject = "Distillation buys" if buys else "Beside its teacher the student has"
            yield subject, f"{scenario} {_bought(gains, result)}."


def _bought(gains: Sequence[Gain], result: Result) -> str:
    """Say how many times as fast as its teacher the student is on each backend, the most first."""
    told, fewest = [], min(gain.blocks for gain in gains)
    for gain in sorted(gains, key=lambda gain: -gain.ratio):
        where, by = name(result.cells[gain.student].cell, result), significant(gain.ratio, 0.01)
        if gain.low is None or gain.high is None:
            told.append(f"{TIMES}{by} (perhaps by chance) on {where}")
        elif math.sqrt(gain.high / max(gain.low, 1e-300)) - 1 > UNDECIDED:
            told.append(f"{TIMES}{by} (its blocks disagree too much to tell) on {where}")
        else:
            by, low, high = ratio(gain.ratio, gain.low, gain.high)
            told.append(f"{TIMES}{by} [{low}, {high}] on {where}")
    return f"{', '.join(told)} ({count(fewest, 'block')})"


def _lead(lead: Lead, result: Result) -> str:
    first = name(result.cells[lead.leader].cell, result)
    if lead.runner_up is None or lead.ratio is None:
        return f"{first} is the only row to rank."
    second = name(result.cells[lead.runner_up].cell, result)
    if lead.low is None or lead.high is None:
        why = "one block cannot tell" if lead.blocks else "they never ran side by side, so nobody can tell"
        return f"{first} is {lead.ratio:.2f} times as fast as {second}, perhaps by chance: {why}."
    by, low, high = ratio(lead.ratio, lead.low, lead.high)
    apart = "" if lead.alternated else ", not alternated: they run on unlike devices"
    interval = f"95 % interval {low} to {high}, {count(lead.blocks, 'block')}{apart}"
    if lead.verdict == "ahead":
        return f"{first} is {by} times as fast as {second} ({interval})."
    if lead.detectable is not None and lead.detectable > UNDECIDED:
        fold = min(1 + lead.detectable, LARGEST_FOLD)
        return (
            f"{first} and {second} cannot be told apart: their blocks disagree so much that less than "
            f"{fold:,.0f} times would not have shown ({count(lead.blocks, 'block')}). A quieter machine "
            "would tell."
        )
    seen = percent(lead.detectable or 0.0)
    return f"{first} and {second} tie: {by} times ({interval}); a lead above {seen} would have shown."


def _would_lead(row: Row, scenario: Scenario, lead: Lead | None, result: Result) -> bool:
    if scenario not in row.cells or row.cells[scenario][1].eligible is not False:
        return False
    best = _cost(result.cells[lead.leader], scenario) if lead else math.inf
    return _cost(row.cells[scenario][1], scenario) < best


def _cost(record: CellRecord, scenario: Scenario) -> float:
    summary = record.summary
    if summary is None:
        return math.inf
    rate = summary.throughput_per_s
    cost = summary.median_ns if scenario == "latency" else (1 / rate if rate else None)
    return math.inf if cost is None else cost


def _objection(row: Row) -> str:
    """Say why a row is not ranked."""
    accuracy = row.accuracy
    placed = next((one.placement for one in row.records if one.placement and one.placement.fallback), None)
    if placed is not None:
        return f"it fell back to {placed.precision} on {placed.device}"
    if row.status != NOT_RANKED or accuracy is None or not accuracy.images:
        return f"it is {row.status}"
    if accuracy.non_finite:
        return f"{count(accuracy.non_finite, 'image')} had outputs that are no numbers"
    if accuracy.correct is None:
        return f"{count(accuracy.flips, 'label')} of {accuracy.images:,} flipped"
    points = 100 * (accuracy.lost - accuracy.gained) / accuracy.images
    return f"it loses {points:.1f} points of accuracy ({accuracy.lost} images lost, {accuracy.gained} gained)"


def allowed(result: Result) -> str:
    """Say which loss of accuracy a row may have and still be ranked, or how many labels it may change."""
    drop, subject = allowed_drop(result), result.subject
    if not (subject.trained and subject.labelled):
        return f"at most {drop:g} % of its labels flipped" if drop else "no label flipped"
    if drop is not None:
        return f"a loss of {drop:g} points of accuracy"
    images = max((one.accuracy.images for one in result.cells if one.accuracy), default=result.subject.images)
    return f"no loss of accuracy that {images:,} images can tell (McNemar, 5 %)"


def doubts(result: Result) -> list[tuple[str, bool]]:
    """Merge the checks of all cells: a sentence for each kind, bad ones first, and whether it is bad."""
    found: dict[str, list[tuple[Check, CellRecord]]] = defaultdict(list)
    for record in result.cells:
        for check in record.checks:
            if check.outcome != "ok":
                found[check.id].append((check, record))
    told = [_doubt(cases, result) for cases in found.values()]
    return sorted(told, key=lambda case: not case[1])


def _doubt(cases: Sequence[tuple[Check, CellRecord]], result: Result) -> tuple[str, bool]:
    """Tell the worst of the cases of one kind, and how many there are."""
    worst, record = max(cases, key=lambda case: (_SEVERITY.index(case[0].outcome), case[0].value or 0.0))
    message, bad = plain(worst.message), worst.outcome == "bad"
    everywhere = len(cases) == sum(one.summary is not None for one in result.cells) > 1
    if everywhere and len({check.message for check, _ in cases}) == 1:
        return f"All rows: {message}.", bad
    where = f"{name(record.cell, result)}, batch {record.cell.batch}, {record.cell.scenario}"
    of = f" (worst of {len(cases)})" if len(cases) > 1 and worst.value is not None else ""
    more = f" (one of {len(cases)})" if len(cases) > 1 and worst.value is None else ""
    return f"{where}: {message}{of}{more}.", bad


def missing(result: Result) -> list[Missing]:
    """List what has no figures or failed later, each reason once, then the backends that do not work here."""
    found: dict[tuple[str, ...], list[CellRecord]] = defaultdict(list)
    for record in result.cells:
        if record.status != "measured":
            key = (name(record.cell, result), record.status, record.phase, record.reason)
            found[key].append(record)
        elif record.summary is None:
            found[name(record.cell, result), UNREACHED, "", "the run did not come to it."].append(record)
    told = [
        Missing(
            f"{what}, {_batches(records)}",
            status,
            _phased(phase, reason),
            plain(records[0].fix),
            plain(records[0].log),
            status not in ("unsupported", "unavailable", UNREACHED),
        )
        for (what, status, phase, reason), records in found.items()
    ]
    broken = [lacking(one) for one in result.backends if one.status == "failed"]
    return told + broken + _absent([one for one in result.backends if one.status == "unavailable"])


def _absent(records: Sequence[BackendRecord]) -> list[Missing]:
    """Say which backends are not here: a few with the reason, many by name, since nobody asked for them."""
    if len(records) <= FEW_ABSENT:
        return [lacking(one) for one in records]
    names = listed([plain(one.name) for one in records])
    return [
        Missing(
            names, "unavailable", "", "kdbench backends  (says of each why, and what mends it)", "", False
        )
    ]


def lacking(record: BackendRecord) -> Missing:
    """Say why a backend does not work here, and what mends it."""
    reason = _phased(record.phase if record.status == "failed" else "", record.reason)
    trouble = record.status == "failed"
    return Missing(plain(record.name), record.status, reason, plain(record.fix), plain(record.log), trouble)


def _phased(phase: str, reason: str) -> str:
    return plain(f"in {phase}: {reason}" if phase and phase != "plan" else reason)


def _batches(records: Sequence[CellRecord]) -> str:
    sizes = sorted({one.cell.batch for one in records})
    scenarios = dict.fromkeys(one.cell.scenario for one in records)
    return f"batch {listed([str(size) for size in sizes])}, {listed(list(scenarios))}"
