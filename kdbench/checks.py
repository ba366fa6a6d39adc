"""Judge how far the measurement of a cell can be trusted: value, limit and outcome of every check.

A check never changes a number and never drops a slice; it says what to doubt. The limits stand in two tables,
`RULES` for what is measured and the functions below them for what is merely so or not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from kdbench import stats
from kdbench.ranking import at_settled_depth, latency_costs, pair
from kdbench.records import CellRecord, Check, Outcome, Result, Slice, Stretch, Window

DISPATCH_NS = 100_000
"""Below this a call is mostly the runtime's own overhead."""

TAIL_NS = 10_000_000_000
"""A shorter stretch is no basis for tails: LoadGen's own minimum."""

MARGIN = 0.03
"""By how much two ways of comparing may differ before it is worth telling."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that speaks about one cell."""

    record: CellRecord
    slices: Sequence[Slice]
    windows: Sequence[Window]
    stretches: Sequence[Stretch]
    environment: dict[str, Any]

    def fact(self, *path: str) -> Any:
        """Give a fact of the host, None where it is not known."""
        found: Any = self.environment
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def number(self, *path: str) -> float | None:
        """Give a fact of the host that must be a number, the first where it is a list."""
        found = self.fact(*path)
        found = found[0] if isinstance(found, list) and found else found
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    @property
    def levels(self) -> list[tuple[int, float]]:
        """Block and cost, per call or per image, of each slice or window, in the order of time."""
        timed: list[tuple[int, int, float]] = [
            (one.started_ns, one.block, one.median_ns) for one in self.slices
        ]
        timed += [
            (one.started_ns, one.block, one.duration_ns / one.images)
            for one in at_settled_depth(self.windows)
        ]
        return [(block, max(1e-9, cost)) for _, block, cost in sorted(timed)]

    @property
    def threads(self) -> int | None:
        """How many threads the cell computes with, where that is known."""
        placed = self.record.placement.threads if self.record.placement else None
        asked = self.record.cell.threads
        if placed is None and asked == "cores":
            usable = self.fact("cpu", "usable")
            return len(usable) if isinstance(usable, list) and usable else None
        return placed or (asked if isinstance(asked, int) else None)


@dataclass(frozen=True, slots=True)
class Rule:
    """A measured value and its limits; above `doubtful` or `bad` the message is told."""

    id: str
    measure: Callable[[Evidence], float | None]
    doubtful: float
    bad: float
    message: str


def _spread(evidence: Evidence) -> float | None:
    return evidence.record.summary.spread if evidence.record.summary else None


def _between_slices(evidence: Evidence) -> float | None:
    several = [stats.log_spread(costs) for costs in _by_block(evidence) if len(costs) > 2]
    return median(several) if several else None


def _between_blocks(evidence: Evidence) -> float | None:
    middles = [median(costs) for costs in _by_block(evidence)]
    return max(middles) / min(middles) - 1 if len(middles) > 1 else None


def _by_block(evidence: Evidence) -> list[list[float]]:
    blocks: dict[int, list[float]] = defaultdict(list)
    for block, cost in evidence.levels:
        blocks[block].append(cost)
    return list(blocks.values())


def _drift(evidence: Evidence) -> float | None:
    costs = [cost for _, cost in evidence.levels]
    third = len(costs) // 3
    if third < 2:
        return None
    return _apart(median(costs[-third:]), median(costs[:third]))


def _apart(a: float, b: float) -> float:
    return math.expm1(abs(math.log(a / b)))


def _share(name: str) -> Callable[[Evidence], float | None]:
    def share(evidence: Evidence) -> float | None:
        duration = sum(one.duration_ns for one in evidence.slices)
        return sum(getattr(one, name) for one in evidence.slices) / duration if duration else None

    return share


def _switches(evidence: Evidence) -> float | None:
    calls = sum(one.calls for one in evidence.slices)
    return sum(one.switches for one in evidence.slices) / calls if calls else None


def _timer(evidence: Evidence) -> float | None:
    reading_ns, summary = evidence.number("clock", "reading_ns"), evidence.record.summary
    if reading_ns is None or summary is None or not summary.median_ns:
        return None
    return reading_ns / summary.median_ns


def _load(evidence: Evidence) -> float | None:
    load, cpus = evidence.number("load_average"), evidence.number("cpu", "logical")
    return load / cpus if load is not None and cpus else None


def _oversubscribed(evidence: Evidence) -> float | None:
    quota, threads = evidence.number("cpu", "quota"), evidence.threads
    return threads / quota if quota and threads else None


def _throttling(evidence: Evidence) -> float | None:
    """How much slower the last third of the longest stretch was than its first."""
    longest = max(evidence.stretches, key=lambda one: one.duration_ns, default=None)
    medians = [one for one in longest.medians_ns if one] if longest else []
    third = len(medians) // 3
    return median(medians[-third:]) / median(medians[:third]) - 1 if third else None


RULES = (
    # The best sign of a disturbed slice: rank correlation 0.58 with the error of a pair, on a shared
    # machine with 2 cores. torch.utils.benchmark warns at an IQR of 10 % and calls 25 % gross.
    Rule("spread", _spread, 1.25, 2.0, "calls within a slice spread by p75 / p25 = {value:.2f}"),
    # pyperf warns where the standard deviation exceeds 10 % of the mean, and of 50 % from it.
    Rule("slices", _between_slices, 0.10, 0.50, "its level varied by {percent:.0f} % from visit to visit"),
    Rule("blocks", _between_blocks, 0.10, 0.50, "its blocks lie {percent:.0f} % apart"),
    # Half of what perf_analyzer allows between the windows of a stable measurement.
    Rule("drift", _drift, 0.05, 0.25, "its level drifted by {percent:.0f} % during the run"),
    # A run delay under 1 % of a slice separated slices with and without a competitor on the same CPU.
    Rule("run-delay", _share("run_delay_ns"), 0.01, 0.10, "it waited for a CPU {percent:.0f} % of the time"),
    Rule("steal", _share("steal_ns"), 0.01, 0.10, "the hypervisor took {percent:.0f} % of the CPU time"),
    # From one call in ten on, p90 shows the scheduler and not the runtime.
    Rule("switches", _switches, 0.10, 1.0, "{percent:.0f} % of its calls lost the CPU to something else"),
    # An idle pool of threads that burned 46 ms beside a slice of 100 ms slowed it by 3 to 7 %.
    Rule("leak", _share("leaked_ns"), 0.01, 0.20, "idle workers used CPU for {percent:.0f} % of its time"),
    # torch.utils.benchmark batches calls from 0.1 % on; 1 % is the first that a table can show.
    Rule("timer", _timer, 0.01, 0.10, "reading the clock takes {percent:.0f} % of a call"),
    Rule("load", _load, 0.50, 1.50, "{value:.1f} processes per CPU were running when the run began"),
    Rule("quota", _oversubscribed, 1.0, 2.0, "it has {value:.1f} threads for each CPU that the quota pays"),
    # The limits of drift, in an uninterrupted stretch, where a cell slows down by heat or power alone.
    Rule(
        "throttling", _throttling, 0.05, 0.25, "it became {percent:.0f} % slower while it ran without a pause"
    ),
)


def judge(index: int, result: Result) -> tuple[Check, ...]:
    """Check the measurement of one cell, whose `summary` and the result's `leads` are filled in.

    Every check that the data allow is in the answer, with its value and limit; its message is empty where
    nothing is worth telling.
    """
    evidence = Evidence(
        result.cells[index],
        [one for one in result.slices if one.cell == index],
        [one for one in result.windows if one.cell == index],
        [one for one in result.stretches if one.cell == index],
        result.environment,
    )
    if not evidence.slices and not evidence.windows:
        return ()
    ruled = [_ruled(rule, evidence) for rule in RULES]
    known = [check for check in ruled if check is not None]
    return (*known, *_states(evidence), *_statistics(index, result))


def _ruled(rule: Rule, evidence: Evidence) -> Check | None:
    value = rule.measure(evidence)
    if value is None:
        return None
    outcome: Outcome = "bad" if value > rule.bad else "doubtful" if value > rule.doubtful else "ok"
    message = "" if outcome == "ok" else rule.message.format(value=value, percent=100 * value)
    return Check(id=rule.id, outcome=outcome, value=value, limit=rule.doubtful, message=message)


def _states(evidence: Evidence) -> Iterator[Check]:
    """Check what has no measure: it is so, or it is not; unknown is no check."""
    record, summary = evidence.record, evidence.record.summary
    if record.warm_up_settled is not None:
        yield _state("warm-up", not record.warm_up_settled, "it had not settled when warm-up had to end")
    if record.placement is not None:
        placed = f"it runs on {record.placement.device} instead of {record.placement.requested}"
        yield _state("fallback", record.placement.fallback, placed)
        computed, stored = record.placement.precision, record.cell.precision
        if computed != stored:
            yield _state("precision", True, f"it computes in {computed} what is stored in {stored}")
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


def _state(id: str, wrong: bool, message: str) -> Check:  # noqa: A002  # named as the record's field
    return Check(id=id, outcome="doubtful" if wrong else "ok", message=message if wrong else "")


def _statistics(index: int, result: Result) -> Iterator[Check]:
    """Check that a leader leads by p10 about as far as by the median; else it leads in some states only."""
    for lead in result.leads:
        if lead.leader != index or lead.runner_up is None or lead.scenario != "latency" or not lead.ratio:
            continue
        group = result.cells[index].cell.group
        members = {number for number, one in enumerate(result.cells) if one.cell.group == group}
        gap = pair(latency_costs(result.slices, members, "p10_ns"), lead.runner_up, index)
        if gap is None:
            continue
        value, limit = _apart(math.exp(gap.estimate), lead.ratio), max(MARGIN, lead.detectable or 0.0)
        message = f"its lead is {lead.ratio:.2f} by medians but {math.exp(gap.estimate):.2f} by p10"
        doubtful = value > limit
        outcome: Outcome = "doubtful" if doubtful else "ok"
        yield Check(id="p10", outcome=outcome, value=value, limit=limit, message=message if doubtful else "")
