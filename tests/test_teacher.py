"""`--with-teacher`: the teacher's rows beside the student's, and what distillation buys."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from msgspec import structs

from kdbench import bench, compiling, estimate, journal, ranking, render, results
from kdbench.errors import Interrupted, ResultError, UsageError
from kdbench.plan import plan
from kdbench.records import Gain
from kdbench.request import Request
from kdbench.student import teacher_of
from kdbench.summary import summarise
from tests import synthetic
from tests.odd_students import odd
from tests.test_bench import LATENCY_ALONE, stopping
from tests.test_plan import CORES, backend, profile

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """Give a student whose bundle keeps its teacher."""
    return odd(tmp_path_factory.mktemp("taught") / "bundle", "vector", taught=True)


def asked(student, folder, *names, **tables) -> Request:
    plain = profile()
    both = structs.replace(plain, plan=structs.replace(plain.plan, with_teacher=True), **tables)
    return Request(student=student, profile=both, output=folder / "r.json", backends=names)


def planned(student, folder, *names):
    return plan(asked(student, folder), [backend(name) for name in names], CORES)


def test_every_cell_of_the_student_has_one_of_the_teacher_right_behind_it(student, tmp_path):
    found = planned(student, tmp_path, "a", "b")
    students = [cell for cell in found.cells if cell.network == "student"]
    teachers = [cell for cell in found.cells if cell.network == "teacher"]
    assert [replace(cell, network="teacher") for cell in students] == teachers
    assert [job.student.role for job in found.jobs] == ["student", "teacher"] * 4
    assert found.jobs[1].student == teacher_of(student)
    for job in found.jobs:
        assert {found.cells[index].network for index in job.cells.values()} == {job.student.role}
    assert [job.label for job in found.jobs[:2]] == ["a-cpu-fp32", "a-cpu-fp32-teacher"]


def test_student_and_teacher_of_a_backend_live_in_the_same_cohort_and_a_student_links_all(student, tmp_path):
    found = planned(student, tmp_path, *"abcd")
    for scenario in ("latency", "throughput"):
        cohorts = found.cohorts(scenario)
        named = [[(found.jobs[i].source.name, found.jobs[i].student.role[0]) for i in one] for one in cohorts]
        assert named == [
            [("a", "s"), ("a", "t"), ("b", "s"), ("b", "t")],
            [("a", "s"), ("c", "s"), ("c", "t")],
            [("a", "s"), ("d", "s"), ("d", "t")],
        ]


def test_the_estimate_has_the_teacher_in_it(student, tmp_path):
    without = plan(
        Request(student=student, profile=profile(), output=tmp_path / "r.json"), [backend("a")], CORES
    )
    both = planned(student, tmp_path, "a")
    assert both.seconds > 1.5 * without.seconds
    assert dict(both.stages)["compile"] == 2 * 2 * estimate.START_S


def test_an_artifact_is_the_students_or_the_teachers(student, tmp_path):
    first, second = planned(student, tmp_path, "a").jobs[:2]
    assert compiling.artifact_key(first) != compiling.artifact_key(second)


def test_a_bundle_that_keeps_no_teacher_is_refused_in_a_sentence(tmp_path):
    lone = odd(tmp_path / "lone", "vector")
    with pytest.raises(UsageError, match="the bundle of odd-vector keeps none") as caught:
        planned(lone, tmp_path, "a")
    assert "teacher = true" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.fixture(scope="module")
def both():
    """Give the maker of a summarised result: students of two backends, and their teachers."""

    def made(ratios=(4.0, 8.0), blocks=4, **facts):
        cells = [
            synthetic.record(synthetic.cell(name, network=network), **facts)
            for network in ("student", "teacher")
            for name in ("a", "b")
        ]
        truth = {0: 1.0e6, 1: 1.5e6, 2: ratios[0] * 1.0e6, 3: ratios[1] * 1.5e6}
        cohorts = [(0, 2), (0, 1, 3)]
        return summarise(
            synthetic.result(cells, slices=synthetic.slices(truth, blocks=blocks, cohorts=cohorts))
        )

    return made


def test_what_distillation_buys_is_the_ratio_of_teacher_and_student_of_one_backend(both):
    result = both()
    assert [(gain.student, gain.teacher, gain.blocks) for gain in result.gains] == [(0, 2, 4), (1, 3, 4)]
    for gain, truth in zip(result.gains, (4.0, 8.0), strict=True):
        assert gain.low < gain.ratio < gain.high
        assert gain.ratio == pytest.approx(truth, rel=0.06)
        costs = ranking.latency_costs(result.slices, {gain.student, gain.teacher})
        assert math.log(gain.ratio) == ranking.pair(costs, gain.teacher, gain.student).estimate


def test_teachers_are_not_ranked_against_students_even_where_they_are_faster(both):
    result = both(ratios=(0.5, 0.5))
    assert [(lead.leader, lead.runner_up) for lead in result.leads] == [(0, 1)]
    assert [gain.ratio < 1 for gain in result.gains] == [True, True]


def test_what_may_not_be_ranked_says_nothing_of_distillation(both):
    assert both(status="invalid").gains == ()


def test_one_block_gives_a_ratio_without_an_interval(both):
    gain = both(blocks=1).gains[0]
    assert (gain.low, gain.high, gain.blocks) == (None, None, 1)
    assert gain.ratio > 3


def test_the_gain_of_throughput_is_in_time_per_image():
    cells = [
        synthetic.record(synthetic.cell("a", scenario="throughput", network=network))
        for network in ("student", "teacher")
    ]
    windows = synthetic.windows({0: 8000.0, 1: 1000.0}, blocks=5)
    (gain,) = summarise(synthetic.result(cells, windows=windows)).gains
    assert gain.low < 8 < gain.high


def test_the_table_shows_teachers_below_and_the_gain_in_a_sentence(both):
    console = render.console(width=160)
    with console.capture() as capture:
        render.result(console, both())
    lines = capture.get().splitlines()
    rows = [line.split("  ")[0].rstrip() for line in lines if " cpu " in line]
    assert rows == ["a", "b", "teacher · a", "teacher · b"]
    told = " ".join(lines)
    by = r"\N{MULTIPLICATION SIGN}[\d.]+ \[[\d.]+, [\d.]+\]"
    assert re.search(rf"Distillation buys: latency {by} on b fp32, {by} on a fp32 \(", told)
    assert "(4 blocks)." in told
    assert "the teacher's time over its student's, and the 95 % interval of that" in told


def test_a_gain_whose_blocks_disagree_or_are_too_few_claims_no_interval(both):
    result = both()
    first, second = result.gains
    wild = structs.replace(first, low=1e-9, high=1e19)
    lone = structs.replace(second, low=None, high=None, blocks=1)
    console = render.console(width=200)
    with console.capture() as capture:
        render.result(console, structs.replace(result, gains=(wild, lone)))
    told = capture.get()
    assert re.search(r"[\d.]+ \(its blocks disagree too much to tell\) on a fp32", told)
    assert re.search(r"[\d.]+ \(perhaps by chance\) on b fp32, .* \(1 block\)", told)


def test_a_gain_that_points_nowhere_is_refused(both, tmp_path):
    wrong = structs.replace(both(), gains=(Gain(scenario="latency", student=0, teacher=9, ratio=1.0),))
    with pytest.raises(ResultError, match=r"gains\[0\].teacher is 9"):
        results.write(wrong, tmp_path / "r.json")


def request_for(student, folder) -> Request:
    short = structs.replace(LATENCY_ALONE, plan=structs.replace(LATENCY_ALONE.plan, with_teacher=True))
    return Request(student=student, profile=short, output=folder / "r.json", backends=("onnxruntime",))


def test_an_interrupted_run_with_a_teacher_goes_on_with_it(student, tmp_path):
    pytest.importorskip("onnxruntime")
    request = request_for(student, tmp_path)
    path = journal.journal_path(request.output)
    with pytest.raises(Interrupted):
        bench.run(request, stopping("latency blocks", parts=1))
    result = bench.resume(path)
    assert [(one.cell.network, one.status) for one in result.cells] == [
        ("student", "measured"),
        ("teacher", "measured"),
    ]
    own, teachers = (one.accuracy for one in result.cells)
    assert own.correct == own.reference_correct == own.images
    # Of the teacher: its own answers are what it is held to, and its accuracy is another.
    assert teachers.correct == teachers.reference_correct < teachers.images
    assert teachers.disagreements == 0
    (gain,) = result.gains
    assert gain.ratio > 1
    assert gain.blocks == 2
    assert {one.cohort for one in result.slices} == {0}
    assert result == results.read(request.output)
