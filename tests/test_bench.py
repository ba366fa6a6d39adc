from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby, pairwise

import jsonschema
import msgspec
import pytest
from msgspec import structs

from kdbench import bench, compiling, journal, results
from kdbench.errors import Interrupted, ResultError, UsageError
from kdbench.records import BackendRecord
from kdbench.request import Request
from kdbench.sections import Latency, Memory, Plan, Profile, Tail, Throughput
from kdbench.student import open_student
from kdbench.summary import summarise
from tests import synthetic

BACKENDS = ("numpy", "onnxruntime")
TINY = Profile(
    schema=1,
    name="tiny",
    plan=Plan(batches=(1, 4), threads=1),
    latency=Latency(
        blocks=2,
        rounds=2,
        slice_s=0.005,
        calls_min=3,
        calls_aim=5,
        settle_calls=2,
        settle_s=0.002,
        warm_up_s=0.01,
        warm_up_max_s=0.05,
    ),
    throughput=Throughput(blocks=1, window_s=0.02, latencies=2),
)
LATENCY_ALONE = structs.replace(TINY, plan=structs.replace(TINY.plan, batches=(1,), scenarios=("latency",)))


@pytest.fixture(scope="module")
def student():
    """Give the student that ships with kdbench."""
    return open_student("digits-2x5")


@pytest.fixture(scope="module")
def first(student, tmp_path_factory):
    """Run everything once with an empty cache; give the request, the result and the cache folder."""
    folder = tmp_path_factory.mktemp("first")
    typed = ("run", "/home/anna/b", "--output=/home/anna/r.json", "/data/home/anna/b", "/home/annabel/b")
    request = Request(
        student=student,
        profile=TINY,
        output=folder / "r.json",
        devices=("cpu",),
        plugins=BACKENDS,
        argv=typed,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(folder / "cache"))
        patch.setenv("HOME", "/home/anna")
        return request, bench.run(request), folder / "cache"


def no_worker(*_, **__):
    pytest.fail("a process was started to compile what is in the cache")


def test_every_cell_is_measured_verified_and_summarised(first, student):
    _, result, _ = first
    assert len(result.cells) == 2 * 2 * 2
    assert {cell.cell.backend for cell in result.cells} == set(BACKENDS)
    for cell in result.cells:
        assert (cell.status, cell.reason) == ("measured", "")
        assert cell.accuracy.images == result.subject.images == len(cell.accuracy.predictions)
        assert cell.accuracy.correct == cell.accuracy.reference_correct
        assert cell.accuracy.deviation <= cell.accuracy.tolerance
        assert (cell.placement.device, cell.placement.fallback) == ("cpu", False)
        assert cell.eligible
        assert cell.summary.median_ns or cell.summary.throughput_per_s
    assert result.run.status == "complete"
    assert result.subject.student_sha256 == student.sha256


def test_each_latency_cell_has_a_slice_for_every_round_of_every_block(first):
    _, result, _ = first
    latency = [index for index, one in enumerate(result.cells) if one.cell.scenario == "latency"]
    for index in latency:
        own = [one for one in result.slices if one.cell == index]
        assert [(one.block, one.round) for one in own] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert [one.position for one in own[:2]] in ([0, 1], [1, 0])
        assert all(one.calls >= 3 and one.settle_calls >= 1 for one in own)
        samples = [one for one in result.samples if one.cell == index]
        assert sum(one.calls for one in samples) == sum(one.calls for one in own)
    windows = {one.cell for one in result.windows}
    assert windows == set(range(len(result.cells))) - set(latency)


def test_no_two_slices_overlap_and_backends_alternate_within_a_block(first):
    _, result, _ = first
    timed = sorted(result.slices, key=lambda one: one.started_ns)
    assert all(
        one.started_ns + one.settle_ns + one.duration_ns <= after.started_ns for one, after in pairwise(timed)
    )
    blocks = groupby(timed, key=lambda one: (one.block, result.cells[one.cell].cell.batch))
    for _, slices in blocks:
        names = [result.cells[one.cell].cell.backend for one in slices]
        assert [name for name, _ in groupby(names)] in (
            ["numpy", "onnxruntime", "numpy"],
            ["onnxruntime", "numpy", "onnxruntime"],
        )


def test_the_file_holds_the_result_and_is_valid_by_the_schema_that_ships(first):
    request, result, _ = first
    assert results.read(request.output) == result
    jsonschema.validate(json.loads(request.output.read_bytes()), json.loads(results.schema_text()))
    beside = {path.name for path in request.output.parent.iterdir()}
    assert beside == {"r.json", "cache"}


def test_all_that_is_derived_can_be_derived_again_from_the_file(first):
    request, result, _ = first
    bare = tuple(structs.replace(one, summary=None, eligible=None, checks=()) for one in result.cells)
    stripped = structs.replace(results.read(request.output), cells=bare, leads=())
    assert summarise(stripped) == result


def test_the_first_run_compiles_and_says_how_long_it_took(first):
    _, result, _ = first
    assert not any(one.artifact.cached for one in result.cells)
    assert all(one.artifact.compile_s > 0 for one in result.cells)
    assert {name for name, _ in result.stages} == {"compile", "latency blocks", "throughput blocks"}


def test_the_second_run_takes_artifacts_from_the_cache_and_says_so(first, tmp_path, monkeypatch):
    request, before, cache = first
    monkeypatch.setenv("KDBENCH_CACHE", str(cache))
    monkeypatch.setattr(compiling, "Worker", no_worker)
    profile = structs.replace(
        TINY,
        plan=structs.replace(TINY.plan, scenarios=("latency",)),
        latency=structs.replace(TINY.latency, blocks=1, rounds=1),
    )
    result = bench.run(replace(request, profile=profile, output=tmp_path / "again.json"))
    assert all(one.artifact.cached for one in result.cells)
    keys = {one.cell: one.artifact.key for one in before.cells}
    assert all(one.artifact.key == keys[one.cell] for one in result.cells)
    assert {(one.status, one.reason) for one in result.cells} == {("measured", "")}


def test_the_file_alone_tells_what_to_ask_for_again(first):
    _, result, _ = first
    profile = msgspec.convert(result.run.profile, Profile)
    assert {name: own.devices for name, own in profile.backends.items()} == dict.fromkeys(BACKENDS, ("cpu",))
    assert profile.latency == TINY.latency


def test_paths_in_what_was_typed_do_not_tell_who_typed_it(first):
    _, result, _ = first
    assert result.run.argv == ("run", "~/b", "--output=~/r.json", "/data/home/anna/b", "/home/annabel/b")


def stopping(stage: str, parts: int = 0):
    """Give a listener that interrupts the run once that many parts of a stage are done."""
    seen = set()

    def report(progress):
        if progress.stage == stage:
            seen.add(progress.done)
            if len(seen) > parts:
                raise KeyboardInterrupt

    return report


@pytest.fixture
def small(student, tmp_path) -> Request:
    """Give a request that takes few processes: one backend, one cell, all stages."""
    alone = {"tail": Tail(duration_s=0.02, step_s=0.01), "memory": Memory(measure=True)}
    profile = structs.replace(LATENCY_ALONE, **alone)
    return Request(student=student, profile=profile, output=tmp_path / "r.json", backends=("numpy",))


def test_an_interrupted_run_keeps_its_blocks_and_goes_on_where_it_stopped(small):
    path = journal.journal_path(small.output)
    with pytest.raises(Interrupted, match="What was finished is in") as caught:
        bench.run(small, stopping("latency blocks", parts=1))
    assert caught.value.exit_code == 130
    assert f"--resume {path}" in caught.value.hint
    assert not small.output.exists()
    kept = journal.fold(path)
    assert {one.block for one in kept.slices} == {0}

    with pytest.raises(Interrupted):
        bench.resume(path, stopping("memory"))
    assert len(journal.fold(path).stretches) == 1

    result = bench.resume(path)
    assert (result.run.status, result.run.resumed) == ("complete", 2)
    assert [one for one in result.slices if one.block == 0] == list(kept.slices)
    assert {one.block for one in result.slices} == {0, 1}
    assert len(result.stretches) == 1
    assert result.cells[0].memory.peak_bytes > 0
    assert result == results.read(small.output)
    assert not path.exists()


def test_a_result_that_cannot_be_written_is_finished_later_from_its_whole_journal(small):
    # This name leaves room for that of the journal, and none for that under which a result is written first.
    request = replace(small, output=small.output.with_name("r" * 239 + ".json"))
    path, mended = journal.journal_path(request.output), journal.journal_path(small.output)
    with pytest.raises(ResultError, match="cannot be written: File name too long") as caught:
        bench.run(request)
    assert caught.value.hint.startswith("Make room")
    assert caught.value.hint.endswith(f"kdbench run --resume {path}")
    assert not request.output.exists()
    measured = journal.fold(path).slices
    path.rename(mended)
    assert bench.resume(mended).slices == measured
    assert results.read(small.output).run.status == "complete"


def test_a_file_that_takes_the_results_name_meanwhile_is_neither_overwritten_nor_the_end(small):
    path = journal.journal_path(small.output)

    def rival(progress):
        if progress.stage == "done":
            small.output.write_text("mine")

    with pytest.raises(ResultError, match="appeared while the run went on") as caught:
        bench.run(small, rival)
    assert caught.value.hint == f"Move it away, then: kdbench run --resume {path}"
    assert small.output.read_text() == "mine"
    small.output.unlink()
    assert bench.resume(path).run.status == "complete"


def test_a_run_that_is_stopped_before_anything_is_measured_leaves_nothing(small):
    with pytest.raises(Interrupted, match="Nothing was measured yet") as caught:
        bench.run(small, stopping("probe"))
    assert caught.value.hint == ""
    assert list(small.output.parent.iterdir()) == []


def test_a_run_is_not_resumed_with_another_student(small, monkeypatch):
    with pytest.raises(Interrupted):
        bench.run(small, stopping("compile"))
    path = journal.journal_path(small.output)
    path.write_text(path.read_text().replace(small.student.sha256, "0" * 64))
    with pytest.raises(ResultError, match=r"The student .* is not what it was"):
        bench.resume(path)


FAILING = """
    @hookimpl
    def kdbench_compile():
        raise RuntimeError("no such operator")
"""


def test_a_run_in_which_no_backend_compiles_still_ends_with_a_result(
    student, tmp_path, monkeypatch, make_plugin, plugin_source
):
    home = make_plugin("hopeless", plugin_source(kdbench_compile=FAILING))
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setenv("PYTHONPATH", str(home))
    request = Request(
        student=student, profile=LATENCY_ALONE, output=tmp_path / "r.json", plugins=("hopeless",)
    )
    result = bench.run(request)
    (cell,) = result.cells
    assert (cell.status, cell.phase) == ("failed", "compile")
    assert "no such operator" in cell.reason
    assert (result.slices, result.leads) == ((), ())
    assert bench.exit_code(result) == 1
    assert results.read(request.output) == result


def outcome(*statuses, backends=()):
    cells = [
        synthetic.record(synthetic.cell(name), status=status)
        for name, status in zip("abc", statuses, strict=False)
    ]
    return structs.replace(synthetic.result(cells), backends=backends)


def test_the_exit_code_is_0_only_if_all_that_was_asked_for_was_measured():
    assert bench.exit_code(outcome("measured", "unsupported")) == 0
    assert bench.exit_code(outcome("measured", "measured"), named=("a", "b")) == 0
    assert bench.exit_code(outcome("measured", "unsupported"), named=("a", "b")) == 1
    for bad in ("failed", "timed out", "invalid"):
        assert bench.exit_code(outcome("measured", bad)) == 1
    assert bench.exit_code(outcome("unsupported")) == 1
    assert bench.exit_code(outcome()) == 1


def test_a_named_backend_that_measured_the_teacher_alone_has_not_done_what_was_asked():
    result = outcome("measured", "unsupported")
    teacher = synthetic.record(synthetic.cell("b", network="teacher"))
    both = structs.replace(result, cells=(*result.cells, teacher))
    assert bench.exit_code(both, named=("a",)) == 0
    assert bench.exit_code(both, named=("a", "b")) == 1


def test_a_backend_that_broke_before_it_had_cells_counts_as_failed():
    broken = BackendRecord(name="b", status="failed")
    absent = BackendRecord(name="b", status="unavailable")
    assert bench.exit_code(outcome("measured", backends=(broken,))) == 1
    assert bench.exit_code(outcome("measured", backends=(absent,))) == 0


def test_a_cache_that_takes_nothing_is_a_sentence_and_leaves_no_journal(student, tmp_path, cache_folder):
    cache_folder.mkdir(parents=True, exist_ok=True)
    (cache_folder / "artifacts").write_text("a file where a folder should be")
    request = Request(student=student, profile=LATENCY_ALONE, output=tmp_path / "r.json", backends=("numpy",))
    with pytest.raises(UsageError, match=r"The cache folder .* cannot be used"):
        bench.run(request)
    assert list(tmp_path.glob("r.json*")) == []
