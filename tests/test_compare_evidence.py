"""What is read from a result about each cell, and how far it is believed."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from kdbench import stats
from kdbench.compare import Loaded, Options, compare
from kdbench.compare.evidence import evidence, values
from kdbench.compare.spread import PRIOR_ONE, TAIL_FACTOR, spread
from kdbench.metric import METRICS
from kdbench.records import Floor, Samples
from kdbench.summary import summarise
from tests import synthetic

CALM = Floor(
    backend="any",
    device="cpu",
    scenario="latency",
    batch=1,
    threads=1,
    block_sd=0.005,
    blocks=40,
    block_s=2.0,
    run_sd=0.004,
    runs=20,
)


def raw(block: int, values_ns: tuple[int, ...], kind="slices") -> Samples:
    return Samples(cell=0, block=block, calls=len(values_ns), values_ns=values_ns, kind=kind)


def binned(block: int, values_ns: tuple[int, ...], kind="slices") -> Samples:
    bins, counts = stats.histogram(values_ns)
    calls = len(values_ns)
    return Samples(cell=0, block=block, calls=calls, growth=stats.GROWTH, bins=bins, counts=counts, kind=kind)


def of_one_cell(samples, **parts):
    cells = [synthetic.record(synthetic.cell("any", threads=1))]
    return synthetic.result(cells, slices=synthetic.slices({0: 1e5}), samples=tuple(samples), **parts)


FAST, SLOW = tuple(range(1_000, 1_400)), tuple(range(9_000, 9_400))


@pytest.mark.parametrize("second", [raw, binned])
def test_all_calls_of_a_block_are_pooled_whichever_cohort_they_are_of(second):
    result = of_one_cell([raw(0, FAST), second(0, SLOW), raw(1, FAST)])
    (found,) = evidence(result)
    p90 = values(METRICS["latency.p90"], found)
    assert math.exp(p90.logs[0]) == pytest.approx(stats.quantile(FAST + SLOW, 0.9), rel=2e-3)
    assert math.exp(p90.logs[1]) == pytest.approx(stats.quantile(FAST, 0.9))
    told = {one.p: one.value_ns for one in summarise(result).cells[0].summary.percentiles}
    assert round(p90.figure) == told[90.0]


def test_so_are_those_of_a_tail():
    stretches = (synthetic.stretch(0),)
    (found,) = evidence(of_one_cell([raw(0, FAST, "tail"), raw(0, SLOW, "tail")], stretches=stretches))
    p99 = values(METRICS["latency.p99"], found)
    assert p99.figure == stats.quantile(FAST + SLOW, 0.99)


def test_a_self_test_is_believed_where_it_measured():
    (found,) = evidence(of_one_cell([]))
    calm, wild = CALM, replace(CALM, run_sd=0.5)
    by = {
        name: [spread(METRICS[name], found, (floor,)).run_sd for floor in (calm, wild)]
        for name in ("latency.p50", "latency.p90", "latency.p99", "load.time")
    }
    assert by == {
        "latency.p50": [0.004, 0.5],
        "latency.p90": [PRIOR_ONE, 0.5],
        "latency.p99": [TAIL_FACTOR * PRIOR_ONE, TAIL_FACTOR * 0.5],
        "load.time": [PRIOR_ONE, 0.5],
    }


def test_the_first_load_of_a_run_is_that_of_block_0():
    from kdbench.records import FirstOutput

    record = synthetic.record(synthetic.cell("any"), first_output=FirstOutput(load_ns=(9, 2, 3)))
    found = {}
    for name, trial in (("run", None), ("trial", synthetic.trial().trial)):
        (one,) = evidence(synthetic.result([record], trial=trial))
        found[name] = set(values(METRICS["load.time"], one).logs)
    assert found == {"run": {1, 2}, "trial": {0, 1}}


def test_it_is_told_that_nobody_sees_whether_throughput_was_disturbed():
    cells = [
        synthetic.record(synthetic.cell("any", threads=1, scenario=scenario))
        for scenario in ("latency", "throughput")
    ]
    calm = synthetic.result(cells, slices=synthetic.slices({0: 1e5}), windows=synthetic.windows({1: 1e3}))
    noisy = replace(calm, slices=tuple(replace(one, p75_ns=3 * one.p25_ns) for one in calm.slices))
    for new, told in ((noisy, True), (calm, False)):
        pair = synthetic.run_of(calm, "a"), synthetic.run_of(new, "b")
        found = compare(*map(Loaded, pair), Options())
        assert any("seen in slices only" in note for note in found.notes) is told
        assert not found.rows[1].changes[0].contended


def test_a_percentile_is_known_no_better_than_by_a_bin_of_its_histogram():
    from kdbench.compare.effect import Effect, _as_coarse
    from kdbench.metric import METRICS

    exact = Effect(estimate=0.0, low=0.0, high=0.0, p=0.0, detectable=0.0, blocks=(5, 5), paired=True)
    found = _as_coarse(exact, METRICS["latency.p90"])
    assert found.detectable == pytest.approx(0.002, rel=0.01)
    assert found.low < 0 < found.high
    assert found.p == 1.0
    assert _as_coarse(exact, METRICS["latency.p50"]) is exact
