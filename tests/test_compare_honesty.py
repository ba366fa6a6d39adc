"""How often is it wrong? Separate runs of one thing, on a machine that is another one every time."""

from __future__ import annotations

import math
from random import Random
from statistics import stdev

from msgspec.structs import replace

from kdbench.compare import Loaded, Options, compare
from kdbench.records import Floor, PlacementRecord
from kdbench.summary import over_blocks
from tests import synthetic

PLACED = PlacementRecord(requested="cpu", device="cpu", precision="fp32", threads=1)


def run(name: str, random: Random, *, run_sd: float, factor: float = 1.0):
    """Give a run whose level is off by its own deviation, as a machine's is from hour to hour."""
    cells = [synthetic.record(synthetic.cell("onnxruntime", threads=1), placement=PLACED)]
    level = 1e5 * factor * random.lognormvariate(0, run_sd)
    slices = synthetic.slices({0: level}, blocks=5, seed=random.randrange(10**9))
    return Loaded(synthetic.run_of(synthetic.result(cells, slices=slices), name), name)


def verdicts(count: int, *, run_sd: float, options: Options, factor: float = 1.0, seed: int = 1):
    random = Random(seed)
    found = []
    for _ in range(count):
        pair = run("a", random, run_sd=run_sd), run("b", random, run_sd=run_sd, factor=factor)
        found.append(compare(*pair, options).rows[0].changes[0])
    return found


def test_runs_that_drift_apart_raise_no_alarm_by_the_prior():
    found = verdicts(100, run_sd=0.065, options=Options())
    assert sum(one.verdict in ("better", "worse") for one in found) <= 8
    naive = sum(abs(one.effect - 1) > 0.03 for one in found)
    assert naive > 50  # what a mere comparison of two numbers would have called a change


def self_test(runs: int, *, run_sd: float) -> Floor:
    """Give the floor that so many runs of one thing tell of, as a self-test finds it."""
    random = Random(7)
    results = [run(str(number), random, run_sd=run_sd).result for number in range(runs)]
    return Floor(
        backend="onnxruntime",
        device="cpu",
        scenario="latency",
        batch=1,
        threads=1,
        block_sd=0.005,
        blocks=40,
        block_s=2.0,
        run_sd=stdev(math.log(over_blocks(one.slices, "median_ns")) for one in results),
        runs=runs,
    )


def test_runs_that_drift_apart_raise_no_alarm_by_a_self_test():
    floor = self_test(12, run_sd=0.02)
    options = Options(floors=lambda host: (floor,))
    found = verdicts(100, run_sd=0.02, options=options)
    assert sum(one.verdict in ("better", "worse") for one in found) <= 8
    large = verdicts(40, run_sd=0.02, options=options, factor=1.3)
    assert sum(one.verdict == "worse" for one in large) >= 36


def test_a_change_as_large_as_what_two_runs_can_show_is_found_about_every_second_time():
    found = verdicts(60, run_sd=0.065, options=Options(), factor=1.21)
    share = sum(one.verdict == "worse" for one in found) / len(found)
    assert 0.25 < share < 0.85


def test_no_verdict_points_the_wrong_way():
    found = verdicts(60, run_sd=0.065, options=Options(), factor=1.3)
    assert not any(one.verdict in ("better", "same") for one in found)


def test_contention_on_one_side_makes_no_verdict_bolder():
    random = Random(3)
    base, new = run("a", random, run_sd=0.0), run("b", random, run_sd=0.0, factor=1.3)
    noisy = tuple(replace(one, p75_ns=3 * one.p25_ns) for one in new.result.slices)
    calm = compare(base, new).rows[0].changes[0]
    found = compare(base, Loaded(replace(new.result, slices=noisy), "b")).rows[0].changes[0]
    assert found.effect == calm.effect
    assert found.high - found.low > calm.high - calm.low
    assert found.p > calm.p
