"""The two sides of a trial: neighbouring slices of one run, an estimate a block, nothing allowed for runs."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from kdbench.compare import Options, compare_trial, gates
from kdbench.comparison import Change
from kdbench.errors import ResultError
from kdbench.records import FirstOutput, SideRecord, Trial
from tests import synthetic

NO_MARGIN = Options(margin=0.0)


def median(result, options: Options | None = None) -> Change:
    return compare_trial(result, options).rows[0].changes[0]


def test_five_percent_are_found_between_neighbours_on_a_machine_that_wanders_by_more():
    found = median(synthetic.trial(b_ns=105_000.0))
    assert found.verdict == "worse"
    assert found.paired
    assert found.blocks == (10, 10)
    assert found.low < 1.05 < found.high
    assert found.detectable < 0.02
    assert median(synthetic.trial(b_ns=95_000.0)).verdict == "better"


def test_nothing_is_the_same():
    found = median(synthetic.trial())
    assert found.verdict == "same"
    assert found.run_sd is None


def test_alarms_where_nothing_differs_are_five_in_a_hundred_without_a_margin_and_none_beyond_it():
    trials = [synthetic.trial(seed=seed, blocks=5) for seed in range(200)]
    alarms = sum(median(one, NO_MARGIN).p < 0.05 for one in trials)
    assert 2 <= alarms <= 20  # 5 % of 200 is 10, give or take three standard deviations
    assert not sum(median(one).verdict in ("better", "worse") for one in trials)


def test_holm_keeps_the_alarms_of_many_rows_together_below_the_level():
    def many(seed: int):
        sides = [(side, name) for name in "uvwxyz" for side in "ab"]
        cells = [
            synthetic.record(synthetic.cell("any", batch=ord(name), threads=1, side=side))
            for side, name in sides
        ]
        truth = dict.fromkeys(range(len(cells)), 1e5)
        trial = synthetic.trial().trial
        return synthetic.result(cells, slices=synthetic.slices(truth, blocks=5, seed=seed), trial=trial)

    found = [compare_trial(many(seed), NO_MARGIN) for seed in range(60)]
    plain = sum(any(row.changes[0].p < 0.05 for row in one.rows) for one in found)
    corrected = sum(one.verdict in ("better", "worse") for one in found)
    assert plain > 7
    assert corrected <= 7


def test_five_percent_are_found_in_nearly_every_trial():
    found = [median(synthetic.trial(b_ns=105_000.0, seed=seed)).verdict for seed in range(40)]
    assert found.count("worse") >= 38
    assert "better" not in found


def test_throughput_is_better_where_it_is_higher():
    cells = [
        synthetic.record(synthetic.cell("onnxruntime", threads=1, scenario="throughput", side=side))
        for side in "ab"
    ]
    windows = synthetic.windows({0: 1_000.0, 1: 1_200.0}, blocks=8)
    result = synthetic.result(cells, windows=windows, trial=synthetic.trial().trial)
    found = median(result)
    assert (found.metric, found.verdict) == ("throughput", "better")
    assert found.effect == pytest.approx(1.2, rel=0.02)
    swapped = synthetic.windows({0: 1_200.0, 1: 1_000.0}, blocks=8)
    assert median(replace(result, windows=swapped)).verdict == "worse"


def test_what_is_open_tells_how_long_it_takes_from_its_own_blocks():
    found = median(synthetic.trial(b_ns=102_500.0, blocks=3))
    assert found.verdict == "inconclusive"
    assert found.settle_s >= 6.0
    assert found.settle_s % 2.0 == 0  # of its own rehearsed block


def test_the_command_has_the_options_of_each_side():
    from kdbench.compare.evidence import evidence
    from kdbench.compare.settle import command

    result = synthetic.trial()
    cells = [
        replace(record, cell=synthetic.cell("ov", threads=1, side=side, variant=variant, precision=precision))
        for record, side, variant, precision in zip(
            result.cells, "ab", ("hint=a b,streams=1", "hint=a b,streams=2"), ("fp32", "bf16"), strict=True
        )
    ]
    words = command(*evidence(replace(result, cells=tuple(cells))), 41.0)
    assert words == (
        "kdbench ab digits-2x5 -b ov --precision fp32,bf16 -o 'hint=a b' --a streams=1 --b streams=2"
        " --batch 1 --threads 1 --budget 50s"
    )


def test_sides_are_joined_in_their_order_whatever_else_differs():
    cells = [
        synthetic.record(synthetic.cell("x", batch=1, side="a")),
        synthetic.record(synthetic.cell("x", batch=8, side="a")),
        synthetic.record(synthetic.cell("y", batch=8, precision="bf16", side="b")),
        synthetic.record(synthetic.cell("y", batch=1, precision="bf16", side="b")),
        synthetic.record(synthetic.cell("y", batch=32, precision="bf16", side="b")),
    ]
    slices = synthetic.slices(dict.fromkeys(range(5), 1e5))
    told = compare_trial(synthetic.result(cells, slices=slices, trial=synthetic.trial().trial))
    assert [(row.base.batch, row.new.batch) for row in told.rows] == [(1, 1), (8, 8)]
    assert [(one.cell.batch, one.only) for one in told.unmatched] == [(32, "new")]


def test_two_students_are_the_question_and_no_mismatch():
    other = replace(synthetic.SUBJECT, student="smaller", student_sha256="6" * 64)
    sides = (SideRecord(side="a", label="big"), SideRecord(side="b", label="small", subject=other))
    told = compare_trial(replace(synthetic.trial(b_ns=80_000.0), trial=Trial(sides=sides, block_s=2.0)))
    assert not told.mismatches
    assert (told.base.label, told.new.label, told.new.student) == ("big", "small", "smaller")
    assert told.rows[0].changes[0].verdict == "better"


LOADS_NS = (1, 200_000_000, 220_000_000, 190_000_000, 210_000_000, 200_000_000)


def loading(factor: float = 1.0, **parts):
    """Give a trial of equal sides, of which B takes `factor` times as long to load."""
    result = synthetic.trial(**parts)
    outputs = [FirstOutput(load_ns=tuple(round(by * ns) for ns in LOADS_NS)) for by in (1.0, factor)]
    cells = [replace(one, first_output=own) for one, own in zip(result.cells, outputs, strict=True)]
    return replace(result, cells=tuple(cells))


def test_loading_is_compared_process_by_process():
    told = compare_trial(loading(1.3))
    found = next(one for one in told.rows[0].changes if one.metric == "load.time")
    assert (found.verdict, found.paired) == ("worse", True)
    assert found.effect == pytest.approx(1.3, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "verdict"),
    [(Options(), "same"), (gates("load.time"), "worse"), (Options(metrics=("load.time",)), "worse")],
)
def test_loading_counts_only_where_it_is_asked_for(options, verdict):
    told = compare_trial(loading(1.3), options)
    assert "worse" in {one.verdict for one in told.rows[0].changes}
    assert told.verdict == verdict


def test_the_loads_of_a_trial_belong_to_its_blocks_but_for_the_cold_one():
    def disturbed(one):
        return replace(one, run_delay_ns=one.duration_ns) if one.block == 0 else one

    slices = tuple(map(disturbed, synthetic.trial(blocks=5).slices))
    found = next(
        one for one in compare_trial(loading(slices=slices)).rows[0].changes if one.metric == "load.time"
    )
    assert found.blocks == (5, 5)
    assert "1 of 5 blocks of base" in found.contended  # block 0, whose load is the second one


def test_one_block_is_no_verdict():
    found = median(synthetic.trial(b_ns=200_000.0, blocks=1))
    assert found.verdict == "inconclusive"
    assert "one block" in found.reason
    assert found.effect > 1.5
    assert found.low is None
    assert found.p is None


def test_a_result_of_one_side_is_no_trial():
    with pytest.raises(ResultError, match="one side"):
        compare_trial(synthetic.measured())


def test_a_margin_may_be_asked_for():
    result = synthetic.trial(b_ns=105_000.0)
    assert median(result, gates(None, 0.10)).verdict == "same"
    assert median(result, gates("latency.p50:2%")).margin == 0.02


def test_swapping_the_sides_swaps_the_verdict():
    found = median(synthetic.trial(a_ns=1e5, b_ns=1.04e5))
    slices = tuple(replace(one, cell=1 - one.cell) for one in synthetic.trial(a_ns=1e5, b_ns=1.04e5).slices)
    swapped = median(synthetic.trial(slices=slices))
    assert math.log(swapped.effect) == pytest.approx(-math.log(found.effect))
    assert (found.verdict, swapped.verdict) == ("worse", "better")
