"""Statistics of timings: quantiles, intervals over blocks, paired counts, compact histograms.

One definition of a quantile of samples for the whole project: the smallest sample that at least the share
`p` of all samples does not exceed (the inverse of the empirical distribution function). It is always a value
that was measured, never a mean of two. Medians of *estimates* (of slices, of blocks) are the
usual ones, which average the middle two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev
from typing import TypedDict

GROWTH = 1.002
"""Ratio of neighbouring histogram bins: half a step is 0.1 %, the error that a result file may have."""

CONFIDENCE = 0.95
"""Of every interval that is shown."""

_PERCENTILE_CONFIDENCE = 0.99


class SliceStatistics(TypedDict):
    """The shape of one slice's samples, in nanoseconds; the fields of `records.Slice`."""

    median_ns: float
    p10_ns: float
    p25_ns: float
    p75_ns: float
    min_ns: int
    max_ns: int
    mean_ns: float


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate in log terms, plus or minus `half`; infinitely wide where one block gave it."""

    estimate: float
    half: float
    blocks: int

    @property
    def low(self) -> float:
        """Lower end."""
        return self.estimate - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.estimate + self.half


def quantile(samples: Iterable[int], p: float) -> int:
    """Give the smallest sample that at least the share `p` (0 to 1) of all samples does not exceed."""
    ordered = sorted(map(int, samples))
    return ordered[_rank(p, len(ordered))]


def slice_statistics(samples: Iterable[int]) -> SliceStatistics:
    """Summarise the samples (integer nanoseconds, at least one) of one slice."""
    ordered = sorted(map(int, samples))
    p10, p25, p50, p75 = (ordered[_rank(p, len(ordered))] for p in (0.1, 0.25, 0.5, 0.75))
    return SliceStatistics(
        median_ns=p50,
        p10_ns=p10,
        p25_ns=p25,
        p75_ns=p75,
        min_ns=ordered[0],
        max_ns=ordered[-1],
        mean_ns=fmean(ordered),
    )


def _rank(p: float, count: int) -> int:
    # the small number undoes rounding such as 0.07 * 100 = 7.000000000000001
    return max(0, math.ceil(p * count - 1e-9) - 1)


def weighted_quantile(weighted: Iterable[tuple[float, int]], p: float) -> float:
    """Give the quantile `p` of values that stand for `count` samples each: (value, count) pairs."""
    ordered = sorted(weighted)
    rank = _rank(p, sum(count for _, count in ordered))
    for value, count in ordered:
        if rank < count:
            return value
        rank -= count
    raise ValueError("a quantile needs at least one sample")


def percentile_need(p: float, confidence: float = _PERCENTILE_CONFIDENCE) -> int:
    """Count the samples that percentile `p` (90 for p90) needs before it may be shown.

    The smallest n for which P(Binomial(n, 1 - p/100) <= 1) < 1 - confidence: with fewer, not even
    one sample beyond the true percentile can be relied on. It is MLPerf LoadGen's rule for stopping early,
    with one sample allowed beyond the limit. Samples are taken as independent; calls in a row are not
    quite, so the number is necessary rather than sufficient.
    """
    q = 1 - p / 100

    def enough(n: int) -> bool:
        return (1 - q) ** n + n * q * (1 - q) ** (n - 1) < 1 - confidence

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def t_interval(estimates: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Give the mean of one estimate per block, and its interval by Student's t over the blocks.

    It has one degree of freedom less than there are blocks. A single block says nothing about how
    blocks differ: its interval is infinite.
    """
    blocks = len(estimates)
    if blocks < 2:
        return Interval(estimates[0], math.inf, blocks)
    half = t_half(stdev(estimates), blocks - 1, confidence) / math.sqrt(blocks)
    return Interval(fmean(estimates), half, blocks)


def mcnemar(lost: int, gained: int) -> float:
    """Give the exact two-sided probability of McNemar's test.

    `lost` and `gained` count the images that only the reference, or only the candidate, labels rightly. Were
    both equally good, each would fall on either side like a coin. Exact at any count: the
    binomial sum is taken as a regularised incomplete beta function.
    """
    discordant, fewer = lost + gained, min(lost, gained)
    if 2 * fewer == discordant:
        return 1.0
    from scipy.special import betainc

    return min(1.0, 2 * float(betainc(discordant - fewer, fewer + 1, 0.5)))


def holm(probabilities: Sequence[float]) -> tuple[float, ...]:
    """Correct the probabilities of a family of tests by Holm's step-down method, in the order given.

    The chance of even one false alarm among them then stays below the level, whatever the correlations.
    """
    count, worst = len(probabilities), 0.0
    corrected = [1.0] * count
    for rank, index in enumerate(sorted(range(count), key=probabilities.__getitem__)):
        worst = max(worst, (count - rank) * probabilities[index])
        corrected[index] = min(1.0, worst)
    return tuple(corrected)


def combined(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Give standard error and degrees of freedom of a sum of independent parts: (variance, df) each.

    Welch and Satterthwaite: (sum of v)^2 / sum of v^2 / df. Without any variance the least df holds.
    """
    variance = sum(part for part, _ in parts)
    weight = sum(part * part / df for part, df in parts)
    df = variance * variance / weight if weight else min(df for _, df in parts)
    return math.sqrt(variance), df


def t_half(error: float, df: float, confidence: float = CONFIDENCE) -> float:
    """Give half the width of the interval that Student's t makes of a standard error."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + confidence) / 2)) * error


def t_probability(estimate: float, error: float, df: float) -> float:
    """Give the two-sided probability of an estimate at least this far from 0 where the truth is 0."""
    if not error:
        return 1.0 if estimate == 0 else 0.0
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(df, -abs(estimate) / error)))


def blocks_needed(sd: float, half: float, most: int) -> int:
    """Count the blocks of standard deviation `sd` whose 95 % interval is no wider than `half` on either side.

    At least three, which can tell something of their scatter; at most `most`, where more would be needed.
    """
    low, high = 2, max(3, most)
    if half <= 0:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        enough = t_half(sd / math.sqrt(middle), middle - 1) <= half
        low, high = (low, middle) if enough else (middle, high)
    return high


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Give the exact interval of a share, which agrees with the exact binomial test; 0 to 1 of no trial."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return low, high


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Give Wilson's score interval of a share; it stays within 0 and 1 and works for 0 and for all."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def histogram(samples: Iterable[int], growth: float = GROWTH) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Count samples in bins of equal ratio: (bins, counts), in rising order, empty bins left out.

    Bin k holds what rounds to k on the scale log(ns) / log(growth). A sample of 0 ns, which a
    coarse clock can give, counts as 1 ns.
    """
    step = math.log(growth)
    counted = Counter(round(math.log(max(1, sample)) / step) for sample in samples)
    bins = tuple(sorted(counted))
    return bins, tuple(counted[k] for k in bins)


def histogram_values(
    bins: Iterable[int], counts: Iterable[int], growth: float = GROWTH
) -> tuple[tuple[float, int], ...]:
    """Give (nanoseconds, count) of every bin; each value is off by at most half a step."""
    return tuple((growth**k, count) for k, count in zip(bins, counts, strict=True))


def histogram_quantile(bins: Iterable[int], counts: Iterable[int], p: float, growth: float = GROWTH) -> float:
    """Give the quantile `p` (0 to 1) of a histogram, off by at most half a step."""
    return weighted_quantile(histogram_values(bins, counts, growth), p)


def log_spread(values: Sequence[float]) -> float:
    """Tell by what share positive values scatter, heedless of a few outliers.

    1.4826 times the median absolute deviation of the logarithms, which for normal scatter is
    their standard deviation; 0 for fewer than two values.
    """
    if len(values) < 2:
        return 0.0
    logs = [math.log(value) for value in values]
    middle = median(logs)
    return math.expm1(1.4826 * median(abs(value - middle) for value in logs))
