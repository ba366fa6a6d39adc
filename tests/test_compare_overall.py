"""The verdict as a whole, the exit code and the JSON say one and the same, and never leave it out."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from kdbench import strict
from kdbench.compare import Loaded, Options, across, compare, compare_trial, gates, report
from kdbench.compare.effect import Effect
from kdbench.compare.verdict import Finding, judge
from kdbench.comparison import Change, Comparison, Row, Source, Unmatched
from kdbench.metric import METRICS
from kdbench.records import ArtifactRecord, FirstOutput
from tests import synthetic

CODES = {"worse": 1, "not comparable": 4, "inconclusive": 0, "better": 0, "same": 0}


def run(name: str, ns: float = 1e5, *, size: int = 100_000, factor: float = 1.0, **facts):
    """Give the run of one cell: its median, its artifact, and how long it takes to load and compile."""
    artifact = ArtifactRecord(key="k", bytes=size, compile_s=2.0 * factor, cached=False)
    loads = FirstOutput(load_ns=tuple(round(factor * ns) for ns in (9e9, 2e8, 2.1e8, 1.9e8, 2e8)))
    record = synthetic.record(
        synthetic.cell("any", threads=1), **{"artifact": artifact, "first_output": loads, **facts}
    )
    slices = synthetic.slices({0: ns}, blocks=5)
    return Loaded(synthetic.run_of(synthetic.result([record], slices=slices), name), f"{name}.json")


def trial(*statuses: str):
    """Give a trial whose sides have these statuses."""
    result = synthetic.trial()
    cells = [replace(one, status=state) for one, state in zip(result.cells, statuses, strict=True)]
    return replace(result, cells=tuple(cells))


@pytest.mark.parametrize(
    ("new", "options"),
    [
        (run("b"), Options()),
        (run("b", 2e5), Options()),
        (run("b", 2e5), gates("artifact.bytes:5%")),
        (run("b", size=200_000), gates("latency.p50:5%")),
        (run("b", size=200_000), gates("artifact.bytes:5%")),
        (run("b"), gates("latency.p99")),
        (run("b", status="failed"), gates("artifact.bytes:5%")),
        (run("b", status="unsupported"), Options()),
        (run("b", factor=3.0), gates("compile.time")),
        (run("b", factor=3.0), Options(metrics=("compile.time",))),
    ],
)
def test_verdict_and_exit_code_are_of_one_mind(new, options):
    told = compare(run("a"), new, options)
    assert report([told], options).exit_code == CODES[told.verdict]


def test_the_verdict_is_that_of_the_gates():
    new = run("b", size=200_000)
    assert compare(run("a"), new).verdict == "worse"
    assert compare(run("a"), new, gates("latency.p50:5%")).verdict == "inconclusive"
    assert compare(run("a"), new, gates("latency.p99:5%")).verdict == "not comparable"


def test_the_json_leaves_no_verdict_and_no_code_out():
    told = json.loads(strict.encode(report([compare(run("a"), run("b"))])))
    assert (told["exit_code"], told["strict"], told["gates"], told["metrics"]) == (0, False, {}, [])
    comparison = told["comparisons"][0]
    assert {"verdict", "allowed", "across", "notes", "means"} <= comparison.keys()
    for change in comparison["rows"][0]["changes"]:
        assert change.keys() == set(Change.__struct_fields__)
    assert comparison["base"].keys() == set(Source.__struct_fields__)


def test_the_metrics_that_were_asked_for_are_in_the_report():
    assert report([], Options(metrics=("compile.time",))).metrics == ("compile.time",)


def test_compile_time_counts_where_it_is_asked_for():
    pair = run("a"), run("b", factor=3.0)
    assert compare(*pair, Options(metrics=("artifact.bytes",))).verdict == "same"
    told = compare(*pair, Options(metrics=("compile.time",)))
    assert told.verdict == "worse"
    assert report([told], Options(metrics=("compile.time",))).exit_code == 1


def test_a_tenth_of_a_second_of_compiling_is_no_change():
    def took(seconds: float):
        return {"artifact": ArtifactRecord(key="k", bytes=1, compile_s=seconds, cached=False)}

    asked = gates("compile.time:10%")
    assert compare(run("a", **took(0.10)), run("b", **took(0.19)), asked).verdict == "same"
    assert compare(run("a", **took(0.0)), run("b", **took(0.05)), asked).verdict == "same"
    assert compare(run("a", **took(0.0)), run("b", **took(5.0)), asked).verdict == "worse"


def test_of_wrong_answers_not_even_nothing_is_judged():
    artifact = {"artifact": ArtifactRecord(key="k", bytes=0, compile_s=1.0, cached=False)}
    told = compare(run("a", eligible=False, **artifact), run("b", eligible=False))
    found = {one.metric: one for one in told.rows[0].changes}
    assert found["artifact.bytes"].verdict == "not comparable"
    assert "answers are wrong" in found["artifact.bytes"].reason
    assert found["compile.time"].verdict == "not comparable"


def test_who_is_no_longer_accurate_enough_is_worse():
    pair = run("a", eligible=True), run("b", eligible=False)
    told = compare(*pair, gates("latency.p50:50%"))
    found = told.rows[0].changes[0]
    assert (found.metric, found.verdict, told.verdict) == ("status", "worse", "worse")
    assert "less accurate than is allowed in new" in found.reason
    assert compare(*pair[::-1]).rows[0].changes[0].verdict == "better"
    unknown = compare(run("a", eligible=None), run("b", eligible=False))
    assert unknown.rows[0].changes[0].metric != "status"


@pytest.mark.parametrize("broken", ["failed", "timed out", "invalid"])
def test_a_side_that_does_not_work_fails_a_trial_whichever_it_is(broken):
    for states in (("measured", broken), (broken, "measured"), (broken, broken)):
        told = compare_trial(trial(*states), gates("latency.p50"))
        assert told.verdict == "worse"
        assert report([told], gates("latency.p50")).exit_code == 1


def test_strict_wants_all_that_base_measured():
    cell = synthetic.cell("numpy")
    same = compare(run("a"), run("b"), Options(metrics=("artifact.bytes",)))
    for status, code in (("measured", 5), ("failed", 0)):
        lacking = replace(same, unmatched=(Unmatched(cell=cell, only="base", status=status),))
        assert report([lacking]).exit_code == 0
        assert report([lacking], strict=True).exit_code == code
    added = replace(same, unmatched=(Unmatched(cell=cell, only="new", status="measured"),))
    assert report([added], strict=True).exit_code == 0


@pytest.mark.parametrize("status", ["unavailable", "unsupported"])
def test_strict_wants_what_base_measured_to_be_had(status):
    gone, kept = synthetic.cell("gone", threads=1), synthetic.cell("kept", threads=1)
    artifact = ArtifactRecord(key="k", bytes=100_000, compile_s=1.0, cached=True)
    slices = synthetic.slices({0: 1e5, 1: 1e5})

    def two(name: str, state: str):
        cells = [synthetic.record(gone, status=state), synthetic.record(kept, artifact=artifact)]
        return Loaded(synthetic.run_of(synthetic.result(cells, slices=slices), name), name)

    options = Options(metrics=("artifact.bytes",))
    told = compare(two("a", "measured"), two("b", status), options)
    assert told.rows[0].changes[0].verdict == "inconclusive"
    assert (report([told]).exit_code, report([told], strict=True).exit_code) == (0, 5)
    assert compare(run("a"), run("b", status=status)).verdict == "not comparable"


def test_each_comparison_has_to_meet_the_gates_itself():
    def found(*metrics: str) -> Comparison:
        changes = (
            Change(metric=name, unit="ns", scale="ratio", margin=0.03, verdict="same") for name in metrics
        )
        row = Row(base=synthetic.cell("any"), new=synthetic.cell("any"), changes=tuple(changes))
        return Comparison(base=Source(label="base"), new=Source(label="new"), rows=(row,))

    asked = gates("latency.p50,memory.peak")
    whole, half = found("latency.p50", "memory.peak"), found("latency.p50")
    assert report([whole, whole], asked).exit_code == 0
    assert report([whole, half], asked).exit_code == 4


def test_across_one_file_nothing_is_worse_or_better():
    def ladder(first: float, second: float, **noise):
        cells = [synthetic.record(synthetic.cell(name, threads=1)) for name in ("one", "two")]
        slices = synthetic.slices({0: first, 1: second}, blocks=8, **noise)
        return across(synthetic.result(cells, slices=slices), "backend")

    for told in (ladder(1e5, 2e5), ladder(1e5, 1e5, block_sd=0.001, jump=0.0)):
        assert told.verdict == "same"
        assert report([told], strict=True).exit_code == 0
    open_ = ladder(1e5, 1e5, block_sd=0.05)
    assert open_.verdict == "inconclusive"
    assert report([open_], strict=True).exit_code == 5


def finding(metric: str, p: float, hypothesis=None) -> Finding:
    effect = Effect(estimate=1.0, low=0.5, high=1.5, p=p)
    return Finding(metric=METRICS[metric], margin=0.03, base=1.0, effect=effect, hypothesis=hypothesis)


def test_the_family_is_what_counts():
    found = [finding("latency.p50", 0.02), *[finding("throughput", 0.02) for _ in range(4)]]
    assert [one.verdict for one in judge(found)] == ["inconclusive"] * 5
    first, *others = judge(found, gates("latency.p50"))
    assert (first.verdict, first.p_holm) == ("worse", 0.02)
    assert [one.p_holm for one in others] == pytest.approx([0.08] * 4)  # a family of their own


def test_loading_makes_no_other_change_less_sure():
    first, beside = judge([finding("latency.p50", 0.04), finding("load.time", 0.04)])
    assert (first.p_holm, beside.p_holm) == (0.04, 0.04)


def test_the_same_answers_twice_are_one_question():
    found = [finding("accuracy.top1", 0.03, ((1,), (2,))) for _ in range(20)]
    assert {one.p_holm for one in judge(found)} == {0.03}
    assert {one.p_holm for one in judge([*found, finding("latency.p50", 0.01)])} == {0.02, 0.03}
