"""Judge how far the measurement of a cell can be trusted: value, limit and outcome of every check.

A check never changes a number and never drops a slice; it says what to doubt. The limits stand in two tables,
`rules.RULES` for what is measured and the functions below for what is merely so or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from kdbench import contention
from kdbench.checks.evidence import Evidence, Index as Index, index as index
from kdbench.checks.rule import Rule, apart
from kdbench.checks.rules import RULES as RULES
from kdbench.ranking import homes, latency_costs, pair
from kdbench.records import Check, Outcome, Result

DISPATCH_NS = 100_000
"""Below this a call is mostly the runtime's own overhead."""

TAIL_NS = 10_000_000_000
"""A shorter stretch is no basis for tails: LoadGen's own minimum."""

MARGIN = 0.03
"""By how much two ways of comparing may differ before it is worth telling."""


def judge(cell: int, result: Result, known: Index | None = None) -> tuple[Check, ...]:
    """Check the measurement of one cell, whose `summary` and the result's `leads` are filled in.

    Every check that the data allow is in the answer, with its value and limit; its message is empty where
    nothing is worth telling. known: the result's `index`, for who judges many cells.
    """
    known = known or index(result)
    evidence = known.evidence(cell)
    if not evidence.slices and not evidence.windows:
        return ()
    ruled = [_ruled(rule, evidence) for rule in RULES]
    measured = [check for check in ruled if check is not None]
    return (*measured, *_contention(evidence), *_states(evidence), *_statistics(cell, known))


def _ruled(rule: Rule, evidence: Evidence) -> Check | None:
    value = rule.measure(evidence)
    if value is None:
        return None
    outcome: Outcome = "bad" if value > rule.bad else "doubtful" if value > rule.doubtful else "ok"
    message = "" if outcome == "ok" else rule.message.format(value=value, percent=100 * value)
    return Check(id=rule.id, outcome=outcome, value=value, limit=rule.doubtful, message=message)


def _contention(evidence: Evidence) -> Iterator[Check]:
    """Tell how many blocks a comparison will count as half, from half of them on as bad."""
    value = contention.contended_share(evidence.slices)
    if value is None:
        return
    outcome: Outcome = "bad" if value >= contention.BLOCKS else "doubtful" if value else "ok"
    some = f"{100 * value:.0f} % of its blocks were under heavy contention: compare counts them as half"
    all_ = "under heavy contention: compare counts its blocks as half"
    message = {"ok": "", "doubtful": some, "bad": all_}[outcome]
    yield Check(id="contention", outcome=outcome, value=value, limit=contention.BLOCKS, message=message)


def _states(evidence: Evidence) -> Iterator[Check]:
    """Check what has no measure: it is so, or it is not; unknown is no check."""
    record, summary = evidence.record, evidence.record.summary
    if record.warm_up_settled is not None:
        yield _state("warm-up", not record.warm_up_settled, "it had not settled when warm-up had to end")
    if record.placement is not None:
        asked = f"{record.cell.precision} on {record.placement.requested}"
        placed = f"it runs {record.placement.precision} on {record.placement.device} instead of {asked}"
        yield _state("fallback", record.placement.fallback, placed)
        yield from _threads(evidence)
        computed, stored = record.placement.precision, record.cell.precision
        if computed != stored:
            yield _state("precision", True, f"it computes in {computed} what is stored in {stored}")
    yield from _gpu_throttle(evidence)
    governor = evidence.fact("cpu", "governor")
    if governor is not None:
        yield _state("governor", governor != "performance", f"the CPU's governor is {governor!s:.40}")
    battery = evidence.fact("power", "on_battery")
    if battery is not None:
        yield _state("battery", bool(battery), "the machine runs on its battery")
    short = [one.duration_ns for one in evidence.stretches if one.duration_ns < TAIL_NS]
    if evidence.stretches:
        yield _state("tail", bool(short), "its uninterrupted stretch is too short for percentiles above p90")
    if summary is not None and summary.median_ns is not None:
        bound = summary.median_ns < DISPATCH_NS
        message = "dispatch-bound: it ranks runtimes, not hardware" if bound else ""
        yield Check(id="dispatch", outcome="ok", value=summary.median_ns, limit=DISPATCH_NS, message=message)


def _gpu_throttle(evidence: Evidence) -> Iterator[Check]:
    """Name what lowered the clock of a cell's GPU, whenever it was read."""
    readings = [one.gpu_throttle for one in (*evidence.visits, *evidence.stretches)]
    known = [one for one in readings if one is not None]
    if known:
        names = dict.fromkeys(name for one in known for name in one)
        yield _state("gpu-throttle", bool(names), f"its GPU's clock was lowered: {', '.join(names)[:200]}")


def _threads(evidence: Evidence) -> Iterator[Check]:
    """Check that a session computes with as many threads as were asked for, where it tells."""
    asked, placed = evidence.record.cell.threads, evidence.record.placement
    usable = evidence.fact("cpu", "usable")
    count = len(usable) if asked == "cores" and isinstance(usable, list) else asked
    if placed is None or placed.threads is None or not isinstance(count, int):
        return
    message = f"it computes with {placed.threads} threads instead of {count}"
    yield _state("threads", placed.threads != count, message)


def _state(id: str, wrong: bool, message: str) -> Check:  # noqa: A002  # named as the record's field
    return Check(id=id, outcome="doubtful" if wrong else "ok", message=message if wrong else "")


def _statistics(cell: int, known: Index) -> Iterator[Check]:
    """Check that a leader leads by p10 about as far as by the median; else it leads in some states only."""
    for lead in known.leads.get(cell, ()):
        if lead.runner_up is None or lead.scenario != "latency" or not lead.ratio:
            continue
        members = known.members[known.result.cells[cell].cell.group]
        slices = [one for member in members for one in known.slices.get(member, ())]
        places = homes(known.result.cells)
        gap = pair(latency_costs(slices, set(members), "p10_ns", places), lead.runner_up, cell)
        if gap is None:
            continue
        value, limit = apart(math.exp(gap.estimate), lead.ratio), max(MARGIN, lead.detectable or 0.0)
        message = f"its lead is {lead.ratio:.2f} by medians but {math.exp(gap.estimate):.2f} by p10"
        doubtful = value > limit
        outcome: Outcome = "doubtful" if doubtful else "ok"
        yield Check(id="p10", outcome=outcome, value=value, limit=limit, message=message if doubtful else "")
