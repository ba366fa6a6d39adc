from __future__ import annotations

import math
import subprocess
import sys
from math import comb
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given, strategies as st

from kdbench import stats

nanoseconds = st.lists(st.integers(1, 10**12), min_size=1, max_size=300)
shares = st.floats(0.001, 1.0)


@given(nanoseconds, shares)
def test_a_quantile_is_the_smallest_sample_that_enough_others_do_not_exceed(samples, p):
    found = stats.quantile(samples, p)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= p * len(samples) - 1e-6
    below = [sample for sample in samples if sample < found]
    assert len(below) < p * len(samples)


@pytest.mark.parametrize(
    ("p", "expected"), [(0.07, 7), (0.1, 10), (0.29, 29), (0.5, 50), (0.9, 90), (1.0, 100)]
)
def test_rounding_never_moves_a_quantile_to_the_next_sample(p, expected):
    assert stats.quantile(range(1, 101), p) == expected


@given(nanoseconds)
def test_the_statistics_of_a_slice_are_in_order_and_agree_with_the_quantiles(samples):
    found = stats.slice_statistics(samples)
    order = ("min_ns", "p10_ns", "p25_ns", "median_ns", "p75_ns", "max_ns")
    values = [found[name] for name in order]
    assert values == sorted(values)
    assert values == [stats.quantile(samples, p) for p in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)]
    assert found["mean_ns"] == pytest.approx(sum(samples) / len(samples))


def test_slice_statistics_of_numpy_samples_are_plain_numbers():
    import numpy

    found = stats.slice_statistics(numpy.array([3, 1, 2], numpy.int64))
    assert {type(value) for value in found.values()} <= {int, float}


@pytest.mark.parametrize(("p", "need"), [(50, 11), (90, 64), (95, 130), (99, 662), (99.9, 6636)])
def test_the_need_of_a_percentile_is_the_published_one(p, need):
    assert stats.percentile_need(p) == need


@given(st.floats(5.0, 99.95), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_need_of_a_percentile_is_the_smallest_number_that_fulfils_the_formula(p, confidence):
    q = 1 - p / 100

    def at_most_one(n: int) -> float:
        return sum(comb(n, k) * q**k * (1 - q) ** (n - k) for k in (0, 1))

    need = stats.percentile_need(p, confidence)
    assert at_most_one(need) < 1 - confidence
    assert at_most_one(need - 1) >= 1 - confidence


def test_a_t_interval_has_the_width_that_tables_give():
    interval = stats.t_interval([1.0, 2.0, 3.0])
    assert (interval.estimate, interval.blocks) == (2.0, 3)
    assert interval.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.high - interval.low == pytest.approx(2 * interval.half)


def test_one_block_gives_an_estimate_and_no_certainty():
    assert stats.t_interval([0.7]) == stats.Interval(0.7, math.inf, 1)


@pytest.mark.parametrize("blocks", [3, 10])
def test_t_intervals_cover_the_truth_as_often_as_they_say(blocks):
    random = Random(11)
    runs = 2000
    found = [stats.t_interval([random.gauss(0, 1) for _ in range(blocks)]) for _ in range(runs)]
    hits = sum(interval.low <= 0 <= interval.high for interval in found)
    assert abs(hits / runs - 0.95) < 4 * math.sqrt(0.95 * 0.05 / runs)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_exact_binomial_probability(lost, gained):
    n, fewer = lost + gained, min(lost, gained)
    exact = min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
    assert stats.mcnemar(lost, gained) == pytest.approx(exact, rel=1e-9)


def test_mcnemar_stays_exact_where_counts_are_big():
    normal = 2 * NormalDist().cdf(-599 / math.sqrt(100_000))
    assert stats.mcnemar(50_300, 49_700) == pytest.approx(normal, rel=1e-3)
    assert stats.mcnemar(100_000, 0) == 0.0
    assert stats.mcnemar(50_000, 50_000) == 1.0


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_wilson_interval_holds_the_share_and_stays_between_none_and_all(successes, trials):
    successes = min(successes, trials)
    low, high = stats.wilson(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def test_a_wilson_interval_is_the_published_one():
    assert stats.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(nanoseconds)
def test_a_histogram_keeps_every_sample_within_a_tenth_of_a_percent(samples):
    bins, counts = stats.histogram(samples)
    assert sum(counts) == len(samples)
    assert list(bins) == sorted(set(bins))
    values = stats.histogram_values(bins, counts)
    decoded = [value for value, count in values for _ in range(count)]
    for sample, value in zip(sorted(samples), decoded, strict=True):
        assert value == pytest.approx(sample, rel=1e-3)


@given(nanoseconds, shares)
def test_a_quantile_of_a_histogram_is_that_of_its_samples_within_a_tenth_of_a_percent(samples, p):
    found = stats.histogram_quantile(*stats.histogram(samples), p)
    assert found == pytest.approx(stats.quantile(samples, p), rel=1e-3)


def test_a_call_too_short_for_the_clock_still_has_a_bin():
    assert stats.histogram([0, 1]) == ((0,), (2,))


def test_the_spread_of_values_is_their_standard_deviation_and_heeds_no_outlier():
    random = Random(5)
    values = [math.exp(random.gauss(10, 0.08)) for _ in range(4000)]
    assert stats.log_spread(values) == pytest.approx(0.083, abs=0.006)
    assert stats.log_spread([*values, 1e30, 1e-30]) == pytest.approx(stats.log_spread(values), rel=0.01)


@pytest.mark.parametrize("values", [[], [3.0], [7.0, 7.0, 7.0]])
def test_values_that_cannot_differ_have_no_spread(values):
    assert stats.log_spread(values) == 0.0


def test_importing_the_statistics_brings_no_heavy_library():
    code = "import sys, kdbench.stats as s; s.wilson(1, 2); print({'numpy', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
