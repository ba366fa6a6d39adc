"""Two separate results: blocks say how far each is certain, and what lies between two runs comes on top."""

from __future__ import annotations

import math
import sys

import pytest
from msgspec.structs import replace

from kdbench.compare import Loaded, Options, compare, gates
from kdbench.compare.means import in_common
from kdbench.comparison import Change, Comparison
from kdbench.metric import METRICS
from kdbench.records import (
    ArtifactRecord,
    BackendRecord,
    FirstOutput,
    Floor,
    MemoryRecord,
    PlacementRecord,
    Yardstick,
)
from tests import synthetic

PLACED = PlacementRecord(requested="cpu", device="cpu", precision="fp32", threads=1)
FLOOR = Floor(
    backend="onnxruntime",
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


def one(name: str, ns: float = 1e5, day: int = 2, *, seed: int = 1, record=None, **parts):
    """Give the run of one cell on one thread."""
    facts = {"placement": PLACED, **(record or {})}
    cells = [synthetic.record(synthetic.cell("onnxruntime", threads=1), **facts)]
    slices = parts.pop("slices", None)
    slices = synthetic.slices({0: ns}, seed=seed, blocks=5) if slices is None else slices
    return synthetic.run_of(synthetic.result(cells, slices=slices), name, day, **parts)


def judged(base, new, options: Options | None = None) -> Comparison:
    return compare(Loaded(base, "base.json"), Loaded(new, "new.json"), options)


def change(comparison: Comparison, metric: str = "latency.p50", row: int = 0) -> Change:
    return next(one for one in comparison.rows[row].changes if one.metric == metric)


def test_a_small_difference_of_two_runs_is_nothing_that_a_prior_lets_anybody_conclude():
    found = change(judged(one("a"), one("b", 1.08e5, seed=2)))
    assert found.verdict == "inconclusive"
    assert found.run_sd == 0.065
    assert "prior" in found.run_sd_from
    assert found.detectable > 0.15
    assert not found.paired
    assert found.blocks == (5, 5)


def test_a_large_difference_shows_even_between_two_runs():
    found = change(judged(one("a"), one("b", 1.6e5, seed=2)))
    assert found.verdict == "worse"
    assert found.low > 1.03
    assert change(judged(one("a", 1.6e5), one("b", seed=2))).verdict == "better"


def test_a_self_test_of_this_machine_narrows_what_two_runs_can_show():
    calm = {"slices": synthetic.slices({0: 1e5}, blocks=8, block_sd=0.001, jump=0.0, seed=1)}
    slower = synthetic.slices({0: 1.3e5}, blocks=8, block_sd=0.001, jump=0.0, seed=1)
    told = judged(one("a", **calm), one("b", slices=slower), Options(floors=lambda host: (FLOOR,)))
    found = change(told)
    assert found.verdict == "worse"
    assert found.run_sd == 0.004
    assert "self-test" in found.run_sd_from
    assert not any("guess" in note for note in told.notes)


def test_floors_in_a_file_count_as_those_that_are_stored():
    found = change(judged(one("a", floors=(FLOOR,)), one("b", seed=2)))
    assert "self-test" in found.run_sd_from


def test_a_self_test_of_few_runs_is_not_believed_where_it_is_calmer_than_the_prior():
    few = replace(FLOOR, runs=2)
    assert change(judged(one("a"), one("b"), Options(floors=lambda host: (few,)))).run_sd == 0.065


@pytest.mark.parametrize("other", [{"backend": "numpy"}, {"threads": 2}, {"scenario": "throughput"}])
def test_a_floor_of_something_else_does_not_count(other):
    floor = replace(FLOOR, **other)
    assert change(judged(one("a"), one("b"), Options(floors=lambda host: (floor,)))).run_sd == 0.065


def test_more_threads_wander_more():
    placed = replace(PLACED, threads=2)
    runs = [one(name, record={"placement": placed}) for name in "ab"]
    assert change(judged(*runs)).run_sd == 0.20


def test_what_two_runs_leave_open_names_the_trial_that_settles_it():
    found = change(judged(one("a"), one("b", 1.08e5, seed=2)))
    assert found.settle_s is not None
    assert found.command.startswith("kdbench ab digits-2x5 -b onnxruntime --batch 1 --threads 1")


def test_the_trial_of_two_versions_takes_two_environments():
    old, new = (
        BackendRecord(name="onnxruntime", status="available", runtime_version=version)
        for version in ("1.20", "1.31")
    )
    told = judged(one("a", backends=(old,)), one("b", backends=(new,), seed=2))
    assert "--python BASE_ENV/bin/python --python NEW_ENV/bin/python" in change(told).command
    assert ("onnxruntime", "1.20", "1.31") in [(one.what, one.base, one.new) for one in told.differences]


def test_a_contended_block_counts_as_half():
    def disturbed(one):
        return replace(one, run_delay_ns=one.duration_ns // 2) if one.block < 2 else one

    calm = one("a")
    found = change(judged(calm, one("b", slices=tuple(map(disturbed, calm.slices)))))
    plain = change(judged(calm, one("b")))
    assert "2 of 5 blocks of new" in found.contended
    assert found.effect == plain.effect
    assert found.detectable > plain.detectable


def test_few_clean_blocks_give_no_interval():
    slices = synthetic.slices({0: 1e5}, blocks=2)
    noisy = tuple(replace(one, p75_ns=3 * one.p25_ns) for one in slices)
    found = change(judged(one("a", slices=slices), one("b", slices=noisy)))
    assert found.low is None
    assert found.verdict == "inconclusive"
    assert "count as 1" in found.reason


def test_the_yardstick_gives_a_second_opinion_and_no_verdict():
    def gauge(ns: float):
        return (Yardstick(block=0, started_ns=0, calls=20, median_ns=ns, p10_ns=ns),)

    found = change(judged(one("a", yardsticks=gauge(100.0)), one("b", 1.1e5, yardsticks=gauge(110.0))))
    assert found.normalised == pytest.approx(found.effect / 1.1)
    assert change(judged(one("a"), one("b"))).normalised is None


def test_what_is_exact_or_was_seen_once_is_judged_by_the_margin_alone():
    def built(size: int, peak: int, seconds: float):
        artifact = ArtifactRecord(key="k", bytes=size, compile_s=seconds, cached=False)
        memory = MemoryRecord(peak_bytes=peak, base_bytes=50_000_000)
        return {"record": {"artifact": artifact, "memory": memory}}

    told = judged(one("a", **built(500_000, 90_000_000, 2.0)), one("b", **built(506_000, 91_000_000, 9.0)))
    assert change(told, "artifact.bytes").verdict == "worse"
    assert change(told, "memory.peak").verdict == "same"
    assert change(told, "memory.peak").low is None
    compiled = change(told, "compile.time")
    assert (compiled.verdict, compiled.effect) == ("inconclusive", pytest.approx(4.5))
    asked = judged(one("a", **built(1, 1, 2.0)), one("b", **built(1, 1, 9.0)), gates("compile.time:50%"))
    assert change(asked, "compile.time").verdict == "worse"


def test_a_few_kilobytes_are_no_change_whatever_their_share():
    def built(size: int):
        return {"record": {"artifact": ArtifactRecord(key="k", bytes=size, compile_s=1.0, cached=True)}}

    assert (
        change(judged(one("a", **built(5_000)), one("b", **built(5_900))), "artifact.bytes").verdict == "same"
    )


def test_loading_counts_without_the_first_process():
    loads = {
        "record": {
            "first_output": FirstOutput(load_ns=(9_000_000_000, 200_000_000, 210_000_000, 190_000_000))
        }
    }
    found = change(judged(one("a", **loads), one("b", **loads)), "load.time")
    assert found.base == 200_000_000
    assert found.blocks == (3, 3)


def test_a_time_below_the_floor_is_the_same():
    calm = {"blocks": 6, "block_sd": 0.001, "jump": 0.0}
    base, new = (synthetic.slices({0: ns}, **calm) for ns in (1_000.0, 1_050.0))
    told = judged(one("a", slices=base), one("b", slices=new), Options(floors=lambda host: (FLOOR,)))
    assert change(told).verdict == "same"


def test_the_floor_grows_with_the_clock():
    slow = {"environment": {"clock": {"reading_ns": 1_000.0}}}
    assert change(judged(one("a", **slow), one("b"))).floor == 2_000
    claimed = {"environment": {"clock": {"reading_ns": 1e12}}}
    assert change(judged(one("a", **claimed), one("b"))).floor == 2_000


def test_a_tail_is_judged_by_what_lies_between_runs():
    tail = synthetic.samples(0, 1e5, blocks=1, kind="tail")
    parts = {"samples": tail, "stretches": (synthetic.stretch(0),)}
    found = change(judged(one("a", **parts), one("b", **parts)), "latency.p99")
    assert found.verdict == "inconclusive"
    assert found.run_sd == pytest.approx(0.13)
    assert "assumption" in found.run_sd_from


def test_a_withheld_percentile_is_told_only_to_who_asks_for_it():
    tail = synthetic.samples(0, 1e5, blocks=1, calls=100, kind="tail")
    parts = {"samples": tail, "stretches": (synthetic.stretch(0),)}
    told = judged(one("a", **parts), one("b", **parts))
    assert not [one for one in told.rows[0].changes if one.metric == "latency.p99"]
    asked = judged(one("a", **parts), one("b", **parts), gates("latency.p99:20%"))
    assert "662" in change(asked, "latency.p99").reason


def test_rows_of_one_side_only_are_listed():
    more = synthetic.result(
        [synthetic.record(synthetic.cell(name, threads=1)) for name in ("onnxruntime", "numpy")],
        slices=synthetic.slices({0: 1e5, 1: 1e6}),
    )
    told = judged(one("a"), synthetic.run_of(more, "b"))
    assert [(one.cell.backend, one.only) for one in told.unmatched] == [("numpy", "new")]
    assert len(told.rows) == 1


def test_no_row_in_common_is_not_comparable():
    other = synthetic.result([synthetic.record(synthetic.cell("numpy"))], slices=synthetic.slices({0: 1e5}))
    told = judged(one("a"), synthetic.run_of(other, "b"))
    assert told.verdict == "not comparable"
    assert any("No cell" in note for note in told.notes)


def test_a_row_that_no_longer_works_is_worse():
    fine = one("a")
    broken = one("b", record={"status": "failed", "reason": "The worker died."})
    found = change(judged(fine, broken), "status")
    assert (found.verdict, judged(fine, broken).verdict) == ("worse", "worse")
    assert "The worker died." in found.reason
    assert change(judged(broken, fine), "status").verdict == "better"


def test_a_row_that_never_worked_says_nothing():
    broken = {"record": {"status": "failed", "reason": "No."}}
    told = judged(one("a", **broken), one("b", **broken))
    assert change(told, "status").verdict == "not comparable"
    assert told.verdict == "not comparable"


def test_wrong_answers_are_shown_and_not_judged():
    wrong = {"record": {"eligible": False}}
    found = change(judged(one("a", **wrong), one("b", 2e5, **wrong)))
    assert found.verdict == "not comparable"
    assert found.effect > 1.5
    assert "answers are wrong" in found.reason
    assert change(judged(one("a"), one("b", record={"status": "invalid"}))).verdict == "not comparable"


@pytest.mark.parametrize("fact", ["student_sha256", "data_sha256"])
def test_another_student_or_other_data_are_not_comparable_unless_allowed(fact):
    subject = replace(synthetic.SUBJECT, data_sha256="d" * 64)
    pair = one("a", subject=subject), one("b", 2e5, subject=replace(subject, **{fact: "9" * 64}))
    told = judged(*pair)
    assert told.verdict == "not comparable"
    assert len(told.mismatches) == 1
    assert {one.verdict for row in told.rows for one in row.changes} == {"not comparable"}
    allowed = judged(*pair, Options(allow_mismatch=True))
    assert allowed.mismatches
    assert change(allowed).verdict == "worse"


def test_another_boundary_is_not_comparable_unless_allowed():
    cells = [synthetic.record(synthetic.cell("onnxruntime", threads=1, boundary="device"))]
    device = synthetic.run_of(synthetic.result(cells, slices=synthetic.slices({0: 1e5})), "b")
    told = judged(one("a"), device)
    assert told.verdict == "not comparable"
    assert "boundaries" in told.mismatches[0]
    assert judged(one("a"), device, Options(allow_mismatch=True)).rows


def test_differences_of_the_environment_are_listed_in_words():
    facts = [
        {"cpu": {"model": model, "usable": [0, 1]}, "load_average": [load]}
        for model, load in (("A", 1), ("B", 2))
    ]
    told = judged(one("a", environment=facts[0]), one("b", environment=facts[1]))
    assert [(one.what, one.base, one.new) for one in told.differences] == [("CPU", "A", "B")]


def test_placement_that_differs_is_listed():
    told = judged(one("a"), one("b", record={"placement": replace(PLACED, threads=2)}))
    assert [(one.what, one.base, one.new) for one in told.differences] == [
        ("threads of onnxruntime", "1", "2")
    ]


def test_notes_tell_what_a_reader_has_to_know():
    partial = one("b", day=1)
    partial = replace(partial, run=replace(partial.run, status="partial"))
    notes = " ".join(judged(one("a"), partial).notes)
    assert "did not end" in notes
    assert "right way round" in notes
    assert "is less than what could have shown" in notes
    assert "kdbench doctor --selftest" in notes


def test_it_is_told_where_median_and_first_decile_disagree():
    base = one("a")
    moved = tuple(replace(one, median_ns=1.5 * one.median_ns) for one in base.slices)
    assert any("fastest tenth" in note for note in judged(base, one("b", slices=moved)).notes)
    assert not any("fastest tenth" in note for note in judged(base, one("b")).notes)


def test_means_are_over_rows_that_are_valid_on_both_sides():
    def several(name: str, factor: float):
        cells = [
            synthetic.record(synthetic.cell(backend), eligible=backend != "numpy")
            for backend in ("onnxruntime", "openvino", "numpy")
        ]
        slices = synthetic.slices(dict.fromkeys(range(3), factor * 100000.0), jump=0.0)
        return synthetic.run_of(synthetic.result(cells, slices=slices), name)

    (mean,) = judged(several("a", 1.0), several("b", 2.0)).means
    assert (mean.metric, mean.rows) == ("latency.p50", 2)
    assert mean.effect == pytest.approx(2.0, rel=0.01)


def test_nothing_in_a_comparison_is_nan_or_infinite():
    told = judged(synthetic.run_of(synthetic.measured(), "a"), synthetic.run_of(synthetic.measured(), "b"))
    for row in told.rows:
        for one_ in row.changes:
            numbers = [getattr(one_, name) for name in one_.__struct_fields__]
            assert all(math.isfinite(number) for number in numbers if isinstance(number, float))


def test_every_metric_has_what_a_table_needs():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.unit
        assert metric.margin > 0


def test_means_of_several_files_are_over_the_rows_that_are_valid_in_all():
    def several(name: str, *broken: str):
        cells = [
            synthetic.record(synthetic.cell(backend), status="failed" if backend in broken else "measured")
            for backend in ("onnxruntime", "openvino", "numpy", "torch")
        ]
        slices = synthetic.slices({0: 1e5, 1: 2e5, 2: 3e5, 3: 4e5}, jump=0.0)
        return synthetic.run_of(synthetic.result(cells, slices=slices), name)

    base, first, second = several("a"), several("b", "numpy"), several("c", "torch")
    found = [judged(base, one) for one in (first, second)]
    assert [one.means[0].rows for one in found] == [3, 3]
    assert [one.means[0].rows for one in in_common(found)] == [2, 2]
    assert in_common(found[:1])[0].means[0].rows == 3


class Counted(tuple):
    """A list that counts how often an item of any list was handed out."""

    reads = 0

    def __iter__(self):
        for item in super().__iter__():
            Counted.reads += 1
            yield item


def work(count: int) -> tuple[int, int]:
    """Count the items read and the functions called in comparing two results of so many cells."""

    def many(name: str):
        cells = [
            synthetic.record(synthetic.cell(f"backend-{index // 5}", batch=index % 5 + 1, threads=1))
            for index in range(count)
        ]
        slices = synthetic.slices(dict.fromkeys(range(count), 1e5), blocks=2, rounds=2)
        return synthetic.run_of(synthetic.result(cells), name, cells=Counted(cells), slices=Counted(slices))

    calls = 0

    def tell(*_: object) -> None:
        nonlocal calls
        calls += 1

    pair = many("a"), many("b")
    Counted.reads = 0
    sys.setprofile(tell)
    try:
        told = judged(*pair)
    finally:
        sys.setprofile(None)
    assert len(told.rows) == count
    return Counted.reads, calls


def test_the_work_grows_with_the_cells_and_not_with_their_square():
    work(10)  # imports what is imported late
    few, many = work(50), work(200)
    assert few[0] >= 2 * 50 * (1 + 4)  # every cell and every slice of both was read
    assert many[0] <= 4.5 * few[0]
    assert many[1] <= 4.5 * few[1]
