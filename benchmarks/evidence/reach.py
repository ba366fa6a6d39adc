"""What the evidence was to show, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.evidence import chance
from benchmarks.evidence.chance import Share
from benchmarks.evidence.judging import CALLED, excludes_none, median_latency, tried
from benchmarks.evidence.lines import BLOCKS
from benchmarks.evidence.reading import Record
from benchmarks.evidence.separate import separate
from benchmarks.evidence.tables import Table, percent

LEVEL = 0.05
WHOLE = 60
"""Whole A/A verdicts in all."""

POWER = {(0.05, 1): 0.95, (0.05, 2): 0.85, (0.03, 1): 0.8}
"""By true slow-down and threads: the share to be found at a budget of 30 s."""

TOLD = "torch-cpu"
"""Told as it is: nothing was demanded of it."""

Records = Mapping[str, Record]


def reach(records: Records) -> Table:
    """Compare what was demanded with what was found; a row only where something was measured."""
    table = Table("What was to be reached", ("demand", "found", "reached"))
    table.rows += [*_alarms(records), *_power(records), *_others(records)]
    return table


def _alarms(records: Records) -> Iterable[tuple[str, str, str]]:
    alike = [one for one in records.values() if one.line.kind == "alike" and one.trials]
    told = [median_latency(tried(trial.result)) for record in alike for trial in record.trials]
    if not told:
        return
    found = Share(sum(map(excludes_none, told)), len(told))
    beyond = Share(sum(one.verdict in CALLED for one in told), len(told))
    fewest = min(len(record.blocks) for record in alike)
    yield f"at least {WHOLE} whole A/A verdicts", str(len(told)), _yes(len(told) >= WHOLE)
    yield f"at least {BLOCKS} recorded blocks a line", f"fewest {fewest}", _yes(fewest >= BLOCKS)
    yield "false alarms of whole verdicts consistent with 5 %", _rate(found), _consistent(found)
    yield "no false alarm beyond the margin of 3 %", _rate(beyond), _yes(beyond.count == 0)


def _power(records: Records) -> Iterable[tuple[str, str, str]]:
    for record in records.values():
        line, blocks, usual = record.line, record.blocks, record.usual_blocks
        if line.kind != "slowed" or len(blocks) < usual or usual < 2:
            continue
        rates = chance.power(blocks, usual)
        demand = POWER[line.slow, line.threads]
        threads = f"{line.threads} thread{'s' if line.threads > 1 else ''}"
        asked = f"at least {percent(demand, 0)}" if line.backend != TOLD else "told as it is"
        yield (
            f"{line.backend}, {threads}: {percent(line.slow, 0)} found at a budget of 30 s: {asked}",
            f"{percent(rates.found)} with {usual} blocks",
            _yes(rates.found >= demand) if line.backend != TOLD else "",
        )


def _others(records: Records) -> Iterable[tuple[str, str, str]]:
    ranking = [one for one in records.values() if one.line.kind == "ranking"]
    leads = [lead for record in ranking for trial in record.trials for lead in trial.result.leads]
    if leads:
        ahead = Share(sum(lead.verdict == "ahead" for lead in leads), len(leads))
        yield "kdbench run: a leader among two alike in at most 5 %", _rate(ahead), _consistent(ahead)
    found = separate(one for one in records.values() if one.line.kind in ("alike", "ranking"))
    if found:
        alarms = found.found[0.0]
        yield "kdbench compare of separate runs: false alarms at most 5 %", _rate(alarms), _consistent(alarms)


def _consistent(share: Share) -> str:
    """Tell whether a rate of 5 % or less is not refuted."""
    return _yes(share.bounds[0] <= LEVEL)


def _rate(share: Share) -> str:
    return f"{share.count} of {share.trials}, at most {percent(share.bounds[1])}"


def _yes(reached: bool) -> str:
    return "yes" if reached else "NO"
