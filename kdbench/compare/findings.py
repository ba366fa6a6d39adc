"""What is found about two cells: one finding a metric, before anything is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, median

from kdbench.compare import effect, single
from kdbench.compare.evidence import Evidence, Logs, Values, statistic, values
from kdbench.compare.options import Options
from kdbench.compare.settle import trial
from kdbench.compare.spread import spread
from kdbench.compare.verdict import Finding
from kdbench.comparison import Verdict
from kdbench.metric import METRICS, STATUS, Metric
from kdbench.records import CellRecord, Floor, Result
from kdbench.strict import clean

BROKEN = ("failed", "timed out", "invalid")
"""A status that says something against what is new; the others say something about the machine."""

ABSENT = ("unavailable", "unsupported")
"""A status that says that a cell cannot be had."""

LONGEST_READING_NS = 1e3
"""No clock takes longer to be read; what a file claims beyond it would make everything the same."""

_SETTLED_BY_TRIAL = ("slices", "calls", "windows")
_STATUS = Metric(name=STATUS, title="status", unit="", scale="count", margin=0.0, origin="once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What two cells are compared under.

    paired: whether both are of one run. base_floors, new_floors: those that hold on each side's machine.
    slower: log of how much slower the yardstick was in new. clock_ns: what reading the clock takes.
    """

    options: Options
    paired: bool
    base_floors: tuple[Floor, ...] = ()
    new_floors: tuple[Floor, ...] = ()
    slower: float | None = None
    clock_ns: float = 0.0


def findings(base: Evidence, new: Evidence, setting: Setting) -> list[Finding]:
    """Compare two cells in every metric that is wanted and that either has; their statuses come first."""
    state = _status(base.record, new.record, paired=setting.paired)
    wanted = [metric for metric in METRICS.values() if setting.options.wants(metric)]
    if state is not None and not _has_figures(base, new):
        return [state]
    found = [state, *(_finding(metric, base, new, setting) for metric in wanted)]
    return [one for one in found if one is not None]


def _has_figures(base: Evidence, new: Evidence) -> bool:
    return all(one.record.status in ("measured", "invalid") for one in (base, new))


def _status(base: CellRecord, new: CellRecord, *, paired: bool) -> Finding | None:
    """Say what a change of status, or of being accurate enough, means; None where there is none to tell."""
    if base.status == new.status == "measured":
        return _accurate_enough(base, new)
    told = [f"{base.status} in base, {new.status} in new"]
    if base.status == new.status:
        told = [f"{new.status} on both sides"]
    reasons = dict.fromkeys(clean(one.reason) for one in (base, new) if one.reason)
    if reasons:
        told.append(" / ".join(reasons))
    verdict = _of_states(base.status, new.status, paired=paired)
    return Finding(metric=_STATUS, margin=0.0, forced=verdict, reason=": ".join(told))


def _of_states(base: str, new: str, *, paired: bool) -> Verdict:
    """Judge two states; whether what cannot be had any more would be worse, nobody can tell.

    In a trial both sides were meant to work: one that does not is worse, whichever it is.
    """
    if paired and (base in BROKEN or new in BROKEN):
        return "worse"
    if base == "measured" and new in BROKEN:
        return "worse"
    if new == "measured" and base in BROKEN:
        return "better"
    return "inconclusive" if base == "measured" and new in ABSENT else "not comparable"


def _accurate_enough(base: CellRecord, new: CellRecord) -> Finding | None:
    """Say whether a cell is no longer as accurate as is allowed, or is so again; None where nobody knows."""
    if None in (base.eligible, new.eligible) or base.eligible == new.eligible:
        return None
    verdict: Verdict = "better" if new.eligible else "worse"
    for side, record in (("base", base), ("new", new)):
        if record.placement is not None and record.placement.fallback:
            why = f"fell back to {clean(record.placement.device)} in {side}"
            return Finding(metric=_STATUS, margin=0.0, forced=verdict, reason=why)
    why = f"less accurate than is allowed in {'base' if new.eligible else 'new'}"
    return Finding(metric=_STATUS, margin=0.0, forced=verdict, reason=why)


def _finding(metric: Metric, base: Evidence, new: Evidence, setting: Setting) -> Finding | None:
    options = setting.options
    match metric.origin:
        case "predictions":
            return single.top1(metric, base, new, options)
        case "flips":
            return single.flips(metric, base, new, options)
        case "once":
            return single.once(metric, base, new, options)
        case _:
            return _timed(metric, base, new, setting)


def _timed(metric: Metric, base: Evidence, new: Evidence, setting: Setting) -> Finding | None:
    if metric.scenario not in (None, base.record.cell.scenario):
        return None
    ours, theirs = values(metric, base), values(metric, new)
    finding = Finding(
        metric=metric,
        margin=setting.options.margin_of(metric),
        floor=max(metric.floor, 2 * setting.clock_ns) if metric.scenario == "latency" else metric.floor,
        base=ours.figure,
        new=theirs.figure,
    )
    if ours.logs and theirs.logs:
        return _compared(finding, base, new, setting, (ours.logs, theirs.logs))
    unsound = any(one.fault and not one.withheld for one in (ours, theirs))
    if unsound or metric.origin in ("slices", "windows") or setting.options.asks_for(metric):
        return replace(finding, forced="not comparable", reason=_missing(ours, theirs))
    return None


def _missing(ours: Values, theirs: Values) -> str:
    faults = [f"in {side}, {one.fault}" for side, one in (("base", ours), ("new", theirs)) if one.fault]
    where = "either side" if not ours.logs and not theirs.logs else "new" if ours.logs else "base"
    return "; ".join(faults) or f"there are no measurements of it in {where}"


def _compared(
    finding: Finding, base: Evidence, new: Evidence, setting: Setting, logs: tuple[Logs, Logs]
) -> Finding:
    metric = finding.metric
    spreads = spread(metric, base, setting.base_floors), spread(metric, new, setting.new_floors)
    if setting.paired and metric.origin != "tail":
        found = effect.paired(metric, base, new)
    else:
        found = effect.separate(metric, (base, new), logs, spreads)
    spoiled = single.spoiled(base.record, new.record)
    if found is None:
        return replace(finding, forced="not comparable", reason=spoiled or "the two sides share no block")
    gauged = setting.slower is not None and metric.scenario == "latency" and not found.paired
    return replace(
        finding,
        effect=found,
        forced="not comparable" if spoiled else None,
        reason=spoiled,
        normalised=found.estimate - (setting.slower or 0.0) if gauged else None,
        trial=trial(base, new, spreads[1]) if metric.origin in _SETTLED_BY_TRIAL else None,
        p10=_p10(metric, base, new, paired=setting.paired),
    )


def _p10(metric: Metric, base: Evidence, new: Evidence, *, paired: bool) -> float | None:
    """Compare the first deciles of the slices; None where that is not meant or they are unsound."""
    if metric.origin != "slices":
        return None
    logs = [statistic(one, "p10_ns").logs for one in (base, new)]
    if not logs[0] or not logs[1]:
        return None
    if paired:
        found = effect.paired(metric, base, new, "p10_ns")
        return found.estimate if found else None
    return fmean(logs[1].values()) - fmean(logs[0].values())


def slower(base: Result, new: Result) -> float | None:
    """Give the log of how much slower the yardstick was in new, None where a run has none."""
    medians = [
        [one.median_ns for one in result.yardsticks if one.scenario == "latency" and one.median_ns > 0]
        for result in (base, new)
    ]
    return math.log(median(medians[1])) - math.log(median(medians[0])) if all(medians) else None


def clock_ns(result: Result) -> float:
    """Give what reading the clock takes, at most a microsecond; 0 where it is not known."""
    clock = result.environment.get("clock")
    reading = clock.get("reading_ns") if isinstance(clock, dict) else None
    if isinstance(reading, bool) or not isinstance(reading, int | float):
        return 0.0
    return float(min(LONGEST_READING_NS, max(0.0, reading)))
