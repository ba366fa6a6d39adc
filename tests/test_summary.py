from __future__ import annotations

from random import Random
from statistics import fmean, median

import pytest
from msgspec.structs import replace

from kdbench import stats, strict
from kdbench.records import Check, Percentile, Result, Samples
from kdbench.summary import summarise
from tests import synthetic


def one_cell(**parts):
    """The first cell of a summarised result with one latency cell."""
    return summarise(synthetic.result([synthetic.record(synthetic.cell("a"))], **parts)).cells[0]


def percentile(summary, p: float) -> Percentile:
    return next(one for one in summary.percentiles if one.p == p)


def test_a_latency_is_the_median_over_blocks_of_medians_of_slice_medians():
    medians = {0: (10.0, 11.0, 90.0), 1: (20.0, 21.0, 22.0), 2: (30.0, 31.0, 32.0)}
    slices = [synthetic.a_slice(0, ns, block=block) for block, values in medians.items() for ns in values]
    summary = one_cell(slices=tuple(slices)).summary
    assert summary.median_ns == 21.0
    assert summary.p10_ns == pytest.approx(21.0 * 0.98)
    assert summary.spread == pytest.approx(1.01 / 0.99)
    assert summary.calls == sum(one.calls for one in slices)


def test_up_to_p90_all_slices_count_and_beyond_only_the_uninterrupted_stretch():
    ordinary = synthetic.samples(0, 1000.0, calls=5000)
    tail = synthetic.samples(0, 7000.0, blocks=1, calls=700, kind="tail")
    parts = {"slices": synthetic.slices({0: 1000.0}), "samples": ordinary + tail}
    summary = one_cell(**parts, stretches=(synthetic.stretch(0),)).summary
    for p in (50, 90):
        blocks = [stats.quantile(one.values_ns, p / 100) for one in ordinary]
        assert percentile(summary, p).value_ns == round(median(blocks))
    assert percentile(summary, 99).value_ns == stats.quantile(tail[0].values_ns, 0.99)
    assert percentile(summary, 99.9) == Percentile(p=99.9, need=6636, have=700)


def test_samples_of_a_stretch_that_is_too_short_for_tails_count_as_none():
    ordinary, tail = (synthetic.samples(0, 1000.0, calls=5000, kind=kind) for kind in ("slices", "tail"))
    parts = {"slices": synthetic.slices({0: 1000.0}), "samples": ordinary + tail}
    found = one_cell(**parts, stretches=(synthetic.stretch(0, seconds=9.9),))
    assert percentile(found.summary, 90).value_ns is not None
    assert percentile(found.summary, 95) == Percentile(p=95.0, need=130, have=0)
    (check,) = (one for one in found.checks if one.id == "tail")
    assert check.message == "its uninterrupted stretch is too short for percentiles above p90"


def test_a_percentile_of_too_few_samples_is_withheld_with_what_it_needs():
    few = synthetic.samples(0, 1000.0, blocks=1, calls=63)
    summary = one_cell(slices=synthetic.slices({0: 1000.0}), samples=few).summary
    assert percentile(summary, 50).value_ns is not None
    assert percentile(summary, 90) == Percentile(p=90.0, need=64, have=63)
    assert percentile(summary, 95) == Percentile(p=95.0, need=130, have=0)


def test_a_fast_block_with_more_calls_does_not_pull_p90_below_the_median():
    fast, slow = (synthetic.samples(0, median_ns, blocks=1, calls=2000)[0] for median_ns in (1000.0, 3000.0))
    slow = replace(slow, block=1, calls=500, values_ns=slow.values_ns[:500])
    slices = (synthetic.a_slice(0, 1000.0, block=0), synthetic.a_slice(0, 3000.0, block=1))
    summary = one_cell(slices=slices, samples=(fast, slow)).summary
    assert percentile(summary, 90).value_ns >= summary.median_ns == 2000


def test_raw_samples_and_histograms_count_alike():
    random = Random(1)
    values = [round(random.lognormvariate(10, 0.3)) for _ in range(4000)]
    bins, counts = stats.histogram(values[1000:])
    mixed = (
        Samples(cell=0, block=0, calls=1000, values_ns=tuple(values[:1000])),
        Samples(cell=0, block=1, calls=3000, growth=stats.GROWTH, bins=bins, counts=counts),
    )
    summary = one_cell(slices=synthetic.slices({0: 22_000.0}), samples=mixed).summary
    assert percentile(summary, 90).value_ns == pytest.approx(
        fmean(stats.quantile(block, 0.9) for block in (values[:1000], values[1000:])), rel=1e-3
    )


def test_a_throughput_is_the_median_over_windows_with_an_interval_over_blocks():
    cells = [synthetic.record(synthetic.cell("a", scenario="throughput"))]
    windows = synthetic.windows({0: 5000.0}, blocks=4, rounds=3, depth=8)
    summary = summarise(synthetic.result(cells, windows=windows)).cells[0].summary
    assert summary.throughput_per_s == median(one.images for one in windows)
    assert summary.throughput_low_per_s < summary.throughput_per_s < summary.throughput_high_per_s
    assert (summary.depth, summary.median_ns, summary.percentiles) == (8, None, ())


def test_one_block_of_windows_has_a_throughput_without_an_interval():
    cells = [synthetic.record(synthetic.cell("a", scenario="throughput"))]
    summary = (
        summarise(synthetic.result(cells, windows=synthetic.windows({0: 5e3}, blocks=1))).cells[0].summary
    )
    assert summary.throughput_per_s > 0
    assert (summary.throughput_low_per_s, summary.throughput_high_per_s) == (None, None)


def test_a_cell_without_measurements_has_no_summary():
    assert one_cell().summary is None


@pytest.mark.parametrize(
    ("lost", "gained", "max_drop", "eligible"),
    [
        (0, 0, "resolution", True),
        (5, 0, "resolution", True),
        (6, 0, "resolution", False),
        (0, 20, "resolution", True),
        (30, 28, "resolution", True),
        (30, 10, "resolution", False),
        (9, 0, 1.0, False),
        (8, 0, 1.0, True),
        (10, 2, 1.0, True),
        (1, 0, 0.0, False),
        (1, 1, 0.0, True),
        (30, 0, 5.0, True),
    ],
)
def test_a_cell_is_ranked_only_within_the_allowed_drop_of_accuracy(lost, gained, max_drop, eligible):
    cells = [synthetic.record(synthetic.cell("a"), accuracy=synthetic.accuracy(lost, gained))]
    assert summarise(synthetic.result(cells, max_drop=max_drop)).cells[0].eligible is eligible


def test_the_resolution_is_five_percent_of_mcnemars_test():
    assert stats.mcnemar(6, 0) < 0.05 < stats.mcnemar(5, 0)


def test_a_drop_of_exactly_the_allowed_points_is_allowed():
    accuracy = replace(synthetic.accuracy(7), images=1000)
    cells = [synthetic.record(synthetic.cell("a"), accuracy=accuracy)]
    assert summarise(synthetic.result(cells, max_drop=0.7)).cells[0].eligible is True


@pytest.mark.parametrize(
    ("flips", "max_drop", "eligible"), [(0, "resolution", True), (1, "resolution", False), (8, 1.0, True)]
)
@pytest.mark.parametrize(
    ("reason", "facts"), [("untrained", {"trained": False}), ("no labels", {"labelled": False})]
)
def test_a_student_without_an_accuracy_is_judged_by_label_flips_alone(
    flips, max_drop, eligible, reason, facts
):
    cells = [synthetic.record(synthetic.cell("a"), accuracy=synthetic.accuracy(flips=flips, reason=reason))]
    subject = replace(synthetic.SUBJECT, **facts)
    result = summarise(synthetic.result(cells, subject=subject, max_drop=max_drop))
    assert result.cells[0].eligible is eligible


@pytest.mark.parametrize("status", ["invalid", "unavailable", "unsupported", "failed", "timed out"])
def test_only_measured_cells_are_ranked(status):
    cells = [synthetic.record(synthetic.cell("a"), status=status)]
    result = summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6})))
    assert (result.cells[0].eligible, result.leads) == (False, ())


def test_nothing_is_said_where_the_accuracy_is_unknown_and_numbers_that_are_none_disqualify():
    unknown = synthetic.record(synthetic.cell("a"), accuracy=None)
    broken = synthetic.record(synthetic.cell("b"), accuracy=replace(synthetic.accuracy(), non_finite=1))
    cells = summarise(synthetic.result([unknown, broken])).cells
    assert [one.eligible for one in cells] == [None, False]


@pytest.mark.parametrize("profile", [{}, {"accuracy": 3}, {"accuracy": {"max_drop": True}}])
def test_a_profile_that_says_nothing_sensible_means_resolution(profile):
    plain = synthetic.result([synthetic.record(synthetic.cell("a"), accuracy=synthetic.accuracy(6))])
    result = summarise(replace(plain, run=replace(plain.run, profile=profile)))
    assert result.cells[0].eligible is False


def test_a_faster_cell_that_is_less_accurate_does_not_lead():
    cells = [
        synthetic.record(synthetic.cell("exact")),
        synthetic.record(synthetic.cell("rough"), accuracy=synthetic.accuracy(40)),
    ]
    slices = synthetic.slices({0: 1e6, 1: 1e5})
    lead = summarise(synthetic.result(cells, slices=slices)).leads[0]
    assert (lead.leader, lead.verdict) == (0, "alone")


def test_summarising_again_changes_nothing():
    once = summarise(synthetic.measured())
    assert summarise(once) == once


def test_checks_of_others_stay():
    other = Check(id="other", outcome="bad", message="seen elsewhere")
    cells = [synthetic.record(synthetic.cell("a"), checks=(other,))]
    found = summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6}))).cells[0].checks
    assert found[0] == other
    assert len(found) > 1


@pytest.mark.parametrize("blocks", [1, 3])
def test_what_is_derived_can_be_written_as_json_and_read_again(blocks):
    result = synthetic.measured()
    few = [one for one in result.slices if one.block < blocks]
    derived = summarise(replace(result, slices=tuple(few)))
    assert strict.decode(strict.encode(derived), Result, "the result") == derived
