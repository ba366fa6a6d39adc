"""How far new lies from base in one metric; the interval rests on blocks and on runs, never on calls.

Within one run both sides met the same machine: neighbouring slices are compared, and each block gives one
estimate. Two runs met two machines, as it were: their blocks say how far each run's figure is
certain, and how far apart this machine puts two runs of the same thing comes on top.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from kdbench import stats
from kdbench.compare.evidence import Evidence, Logs, values
from kdbench.compare.spread import Spread
from kdbench.metric import Metric
from kdbench.ranking import latency_costs, throughput_costs

Part = tuple[float, float]
"""A variance and its degrees of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """New against base: logarithm of the ratio, or points, or images.

    low, high: its 95 % interval; None where too little is known for any, for the `reason` beside it.
    p: two-sided probability where nothing differs. detectable: smallest effect that could have shown.
    block_sd: of the log ratio of one block of a trial. The rest is as in `comparison.Change`.
    """

    estimate: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    detectable: float | None = None
    reason: str = ""
    blocks: tuple[int, int] = (0, 0)
    paired: bool = False
    run_sd: float | None = None
    run_sd_from: str = ""
    block_sd: float | None = None
    contended: str = ""


def paired(metric: Metric, base: Evidence, new: Evidence, statistic: str = "median_ns") -> Effect | None:
    """Compare two cells of one run by their neighbouring visits; None where they share no block."""
    logs = _paired_logs(metric, base, new, statistic)
    found = of_estimates(logs, base, new) if logs else None
    return _as_coarse(found, metric) if found else None


def of_estimates(logs: Logs, base: Evidence, new: Evidence) -> Effect:
    """Give the effect that follows from one log ratio per block, by Student's t over the blocks."""
    weight = _weight(logs, base.contended | new.contended)
    effect = Effect(
        estimate=fmean(logs.values()),
        blocks=(len(logs), len(logs)),
        paired=True,
        contended=_contended((base, new), (logs, logs)),
    )
    part = _part(logs, weight)
    if part is None:
        return replace(effect, reason=_too_few(len(logs), weight))
    return _with_interval(replace(effect, block_sd=stdev(logs.values())), [part])


def separate(
    metric: Metric, sides: tuple[Evidence, Evidence], logs: tuple[Logs, Logs], spreads: tuple[Spread, Spread]
) -> Effect:
    """Compare two cells of two runs by the logs of their blocks, each base first; at least one block each.

    The variance is s²/K of each side's log block values plus the square of each run's standard deviation
    from run to run, with the degrees of freedom of Welch and Satterthwaite. A tail comes from one stretch
    a run: there the scatter between runs is all that is known.
    """
    ours, theirs = logs
    effect = Effect(
        estimate=fmean(theirs.values()) - fmean(ours.values()),
        blocks=(len(ours), len(theirs)),
        contended=_contended(sides, logs),
        run_sd=math.sqrt((spreads[0].run_sd ** 2 + spreads[1].run_sd ** 2) / 2),
        run_sd_from="; ".join(dict.fromkeys(one.source for one in spreads)),
    )
    parts = _between_runs(spreads)
    if metric.origin == "tail":
        return _with_interval(effect, parts)
    for name, side, own in zip(("base", "new"), sides, logs, strict=True):
        weight = _weight(own, side.contended)
        part = _part(own, weight)
        if part is None:
            return replace(effect, reason=_too_few(len(own), weight, name))
        parts.append(part)
    return _with_interval(effect, parts)


def _paired_logs(metric: Metric, base: Evidence, new: Evidence, statistic: str) -> Logs:
    """Give log(new / base) for each block that both have."""
    if metric.origin == "slices":
        costs = latency_costs((*base.slices, *new.slices), {base.index, new.index}, statistic)
        return costs.estimates(new.index, base.index)
    if metric.origin == "windows":
        costs = throughput_costs((*base.windows, *new.windows), {base.index, new.index})
        return costs.estimates(base.index, new.index)  # time per image: the other way round
    ours, theirs = (values(metric, found).logs or {} for found in (base, new))
    return {block: theirs[block] - ours[block] for block in ours.keys() & theirs.keys()}


def _weight(blocks: Iterable[int], contended: Collection[int]) -> float:
    return sum(0.5 if block in contended else 1.0 for block in blocks)


def _part(logs: Logs, weight: float) -> Part | None:
    """Give the variance of a mean over blocks and its degrees of freedom, None where nothing is known of it.

    Two blocks need to be whole. More of them leave at least one degree of freedom, however contended: the
    interval is then wider than that of two whole ones.
    """
    if len(logs) < 2 or (len(logs) == 2 and weight < 2):
        return None
    return stdev(logs.values()) ** 2 / weight, max(1.0, weight - 1)


def _between_runs(spreads: tuple[Spread, Spread]) -> list[Part]:
    base, new = spreads
    if (base.run_sd, base.source) == (new.run_sd, new.source):
        return [(2 * base.run_sd**2, base.df)]  # one estimate, used twice, has its degrees of freedom once
    return [(one.run_sd**2, one.df) for one in spreads]


def _with_interval(effect: Effect, parts: list[Part]) -> Effect:
    error, df = stats.combined(parts)
    half = stats.t_half(error, df)
    return replace(
        effect,
        low=effect.estimate - half,
        high=effect.estimate + half,
        detectable=half,
        p=stats.t_probability(effect.estimate, error, df),
    )


def _as_coarse(effect: Effect, metric: Metric) -> Effect:
    """Widen an interval that is narrower than what percentiles are known by: a bin of their histogram.

    Blocks whose percentiles all fall into one bin agree by the bins, and not by the calls.
    """
    step = math.log(stats.GROWTH)
    if metric.origin != "calls" or effect.detectable is None or effect.detectable >= step:
        return effect
    low, high = effect.estimate - step, effect.estimate + step
    return replace(effect, low=low, high=high, detectable=step, p=1.0 if low <= 0 <= high else effect.p)


def _too_few(blocks: int, weight: float, side: str = "") -> str:
    where = f" of {side}" if side else ""
    if blocks < 2:
        return f"one block{where} says nothing about how blocks differ"
    return f"{blocks} blocks{where} count as {weight:g}, because others disturbed them, and 2 are needed"


def _contended(sides: tuple[Evidence, Evidence], logs: tuple[Logs, Logs]) -> str:
    """Say how many blocks count half, empty where none does."""
    told = []
    for name, side, own in zip(("base", "new"), sides, logs, strict=True):
        count = len(side.contended & own.keys())
        if count:
            told.append(f"{count} of {len(own)} blocks of {name}")
    return f"under heavy contention, and counted as half: {' and '.join(told)}" if told else ""
