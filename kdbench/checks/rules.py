"""What is measured about a cell's measurement, with the limits of each value and where they come from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from statistics import median, stdev

from kdbench import contention, stats
from kdbench.checks import gpu
from kdbench.checks.evidence import Evidence
from kdbench.checks.rule import Rule, apart

TURN_NS = 10_000_000
"""A thread that shares its CPU gets turns of a few milliseconds."""

SEVERAL = 3
"""Fewer slices than this say nothing about what all of them have in common."""


def _spread(evidence: Evidence) -> float | None:
    return evidence.record.summary.spread if evidence.record.summary else None


def _between_slices(evidence: Evidence) -> float | None:
    several = [stats.log_spread(costs) for costs in _by_block(evidence) if len(costs) > 2]
    return median(several) if several else None


def _between_blocks(evidence: Evidence) -> float | None:
    """By what share blocks scatter: the standard deviation, which more blocks do not make larger."""
    middles = [math.log(median(costs)) for costs in _by_block(evidence)]
    return math.expm1(stdev(middles)) if len(middles) > 1 else None


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
    return apart(median(costs[-third:]), median(costs[:third]))


def _first_call(evidence: Evidence) -> float | None:
    """How many times as long as the others the first timed call after a switch takes, usually."""
    ratios = [one.first_ns / max(1.0, one.median_ns) for one in evidence.slices if one.first_ns is not None]
    return median(ratios) if len(ratios) >= SEVERAL else None


def _wanted(counter: str) -> Callable[[Evidence], float | None]:
    return lambda evidence: contention.wanted_share(evidence.slices, counter)


def _share(counter: str) -> Callable[[Evidence], float | None]:
    return lambda evidence: contention.share(evidence.slices, counter)


def _switches(evidence: Evidence) -> float | None:
    """How often a call lost the CPU; calls longer than the scheduler's turns do so anyway."""
    summary = evidence.record.summary
    if summary is None or (summary.median_ns or 0.0) > TURN_NS:
        return None
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


def _clocks(evidence: Evidence) -> list[float]:
    return sorted(one.clock_mhz for one in evidence.slices if one.clock_mhz)


def _below_top_clock(evidence: Evidence) -> float | None:
    clocks, highest = _clocks(evidence), evidence.number("cpu", "max_mhz")
    return max(0.0, 1 - median(clocks) / highest) if clocks and highest else None


def _unsteady_clock(evidence: Evidence) -> float | None:
    """By what share the clock differs from slice to slice, a tenth of them left out at either end."""
    clocks = _clocks(evidence)
    if len(clocks) < SEVERAL:
        return None
    tenth = len(clocks) // 10
    return clocks[-1 - tenth] / clocks[tenth] - 1


def _temperature(evidence: Evidence) -> float | None:
    return max((one.temperature_c for one in evidence.slices if one.temperature_c is not None), default=None)


def _throttling(evidence: Evidence) -> float | None:
    """How much slower the last third of the longest stretch was than its first."""
    longest = max(evidence.stretches, key=lambda one: one.duration_ns, default=None)
    medians = [one for one in longest.medians_ns if one] if longest else []
    third = len(medians) // 3
    return median(medians[-third:]) / median(medians[:third]) - 1 if third else None


RULES = (
    # The best sign of a disturbed slice: rank correlation 0.58 with the error of a pair, on a shared
    # machine with 2 cores. torch.utils.benchmark warns at an IQR of 10 % and calls 25 % gross.
    Rule(
        "spread", _spread, 1.25, contention.SPREAD, "calls within a slice spread by p75 / p25 = {value:.2f}"
    ),
    # pyperf warns where the standard deviation exceeds 10 % of the mean, and of 50 % from it.
    Rule("slices", _between_slices, 0.10, 0.50, "its level varied by {percent:.0f} % from visit to visit"),
    Rule("blocks", _between_blocks, 0.10, 0.50, "its blocks scatter by {percent:.0f} %"),
    # Half of what perf_analyzer allows between the windows of a stable measurement.
    Rule("drift", _drift, 0.05, 0.25, "its level drifted by {percent:.0f} % during the run"),
    # hyperfine's modified z of the first run needs one series whose first value stands alone; here every
    # slice has a first call, and their median is steady. After a switch call 1 takes 1.6 to 3.7 times as
    # long, calls 3 to 10 up to 14 % more, call 11 under 1 %: beyond a quarter settling was too short.
    Rule(
        "first-call", _first_call, 1.25, 2.0, "the first timed call takes {value:.1f} times as long as others"
    ),
    # A run delay under 1 % of a slice separated slices with and without a competitor on the same CPU.
    Rule(
        "run-delay",
        _wanted("run_delay_ns"),
        0.01,
        contention.RUN_DELAY,
        "for {percent:.0f} % of the CPU time that it wanted it waited",
    ),
    Rule(
        "steal",
        _wanted("steal_ns"),
        0.01,
        contention.STEAL,
        "the hypervisor took {percent:.0f} % of the CPU time that it wanted",
    ),
    # In the same experiment: quiet slices had less than 5 %; those with less than 20 % were the better half
    # beside a competitor.
    Rule(
        "other",
        lambda evidence: contention.other_share(evidence.slices),
        0.05,
        contention.OTHER,
        "other processes used {percent:.0f} % of its CPUs",
    ),
    # As steal: time that somebody else's rule took away. A period of a quota is 100 ms, one slice.
    Rule("throttled", _share("throttled_ns"), 0.01, 0.10, "a quota held it back {percent:.0f} % of the time"),
    # From one call in ten on, p90 shows the scheduler and not the runtime.
    Rule(
        "switches", _switches, 0.10, 1.0, "it lost the CPU to something else {percent:.0f} times in 100 calls"
    ),
    # An idle pool of threads that burned 46 ms beside a slice of 100 ms slowed it by 3 to 7 %.
    Rule("leak", _share("leaked_ns"), 0.01, 0.20, "idle workers used CPU for {percent:.0f} % of its time"),
    # nvbench discards what ran below 75 % of the clock; below half the clock, half the speed is missing.
    Rule("clock", _below_top_clock, 0.25, 0.50, "its CPUs ran {percent:.0f} % below their highest clock"),
    # What changes the clock by 5 % changes the time by as much: the limit of drift.
    Rule("clock-steady", _unsteady_clock, 0.05, 0.25, "its clock varied by {percent:.0f} % between slices"),
    # Processors slow themselves down at 95 to 105 degrees; within 10 of them the heat sets the clock.
    Rule("temperature", _temperature, 90.0, 100.0, "the processor was {value:.0f} degrees Celsius hot"),
    # torch.utils.benchmark batches calls from 0.1 % on; 1 % is the first that a table can show.
    Rule("timer", _timer, 0.01, 0.10, "reading the clock takes {percent:.0f} % of a call"),
    Rule("load", _load, 0.50, 1.50, "{value:.1f} processes per CPU were running when the run began"),
    Rule("quota", _oversubscribed, 1.0, 2.0, "it has {value:.1f} threads for each CPU that the quota pays"),
    # The limits of drift, in an uninterrupted stretch, where a cell slows down by heat or power alone.
    Rule(
        "throttling", _throttling, 0.05, 0.25, "it became {percent:.0f} % slower while it ran without a pause"
    ),
    *gpu.RULES,
)
