"""Compile in one place, run in another: `kdbench compile`, and a run that compiles nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from kdbench import bench, cli, compiling, journal, packing, parcel, results
from kdbench.compare.notes import of_runs
from kdbench.errors import (
    BackendError,
    BackendUnavailable,
    Interrupted,
    ParcelError,
    ResultError,
    UsageError,
)
from kdbench.records import Result
from kdbench.request import Request
from kdbench.selection import adopted
from kdbench.student import open_student
from tests.test_bench import LATENCY_ALONE, TINY, no_worker, stopping

BOARD = '''
import json
from pathlib import Path

HERE = Path(__file__)
CONVERTER, NPU, DRIVER = (HERE.with_suffix(f".{what}") for what in ("converter", "npu", "driver"))
"""What this place has, each a file: what compiles, the device, and a driver of another version."""
'''

HOOKS = {
    "kdbench_describe": """
        @hookimpl
        def kdbench_describe():
            mode = Option(name="mode", type="str", default="a", help="How it runs.")
            return BackendInfo(
                api=1, title="A board", devices=("npu",), precisions=("fp32",), options=(mode,)
            )
    """,
    "kdbench_probe": """
        @hookimpl
        def kdbench_probe():
            if not NPU.exists():
                return Unavailable("There is no NPU", "Use a board.")
            return Available("2.0", (Device("npu.0", "The board's NPU"),))
    """,
    "kdbench_compile": """
        @hookimpl
        def kdbench_compile(student, target, workdir):
            if not CONVERTER.exists():
                raise RuntimeError("no converter")
            engine = workdir / "sub" / "engine.bin"
            engine.parent.mkdir()
            engine.write_text(json.dumps([len(student.classes), list(target.batch_sizes)]))
            return Artifact((engine, student.files["weights"]), {"mode": target.options["mode"]})
    """,
    "kdbench_load": """
        class Opened:
            placement = Placement(device="npu.0", precision="fp32")

            def __init__(self, classes):
                self.classes = classes

            def close(self):
                pass

        @hookimpl
        def kdbench_load(artifact, target):
            if DRIVER.exists():
                raise RuntimeError("the engine was built for another driver")
            classes, sizes = json.loads(artifact.files[0].read_text())
            assert tuple(sizes) == target.batch_sizes
            return Opened(classes)
    """,
}


@pytest.fixture(scope="module")
def student():
    """Give the student that ships with kdbench."""
    return open_student("digits-2x5")


@pytest.fixture(scope="module")
def sent(student, tmp_path_factory):
    """Compile for two backends; give the request and the parcel."""
    folder = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(folder / "cache"))
        request = Request(
            student=student, profile=TINY, output=folder / "parcel", backends=("numpy", "onnxruntime")
        )
        return request, packing.pack(request)


def asked(opened, output: Path, profile=TINY, devices=(), **wanted) -> Request:
    """Ask for a run of parcels."""
    opened = opened if isinstance(opened, tuple) else (opened,)
    plan = adopted(profile, opened, devices, **wanted)
    return Request(student=opened[0].student, profile=plan, output=output, devices=devices, parcels=opened)


@pytest.fixture(scope="module")
def ran(sent, tmp_path_factory) -> tuple[Request, Result]:
    """Run everything of the parcel with an empty cache."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(folder / "cache"))
        patch.setattr(compiling, "Worker", no_worker)
        request = asked(sent[1], folder / "r.json")
        return request, bench.run(request)


@pytest.fixture
def board(make_plugin, plugin_source, monkeypatch):
    """Install a plugin whose compiler, device and driver are there or not; give what switches them."""
    home = make_plugin("board", plugin_source(before=BOARD, **HOOKS))
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setenv("PYTHONPATH", str(home))

    def place(*has: str) -> None:
        for what in ("converter", "npu", "driver"):
            (home / f"kdbench_board.{what}").unlink(missing_ok=True)
        for what in has:
            (home / f"kdbench_board.{what}").touch()

    return place


def boards_own(student, output: Path, *devices: str) -> Request:
    return Request(
        student=student, profile=LATENCY_ALONE, output=output, backends=("board",), devices=devices
    )


def test_every_cell_is_measured_and_verified_and_nothing_is_compiled(ran):
    _, result = ran
    assert len(result.cells) == 2 * 2 * 2
    for cell in result.cells:
        assert (cell.status, cell.reason) == ("measured", "")
        assert cell.accuracy.correct == cell.accuracy.reference_correct
    assert bench.exit_code(result, ("numpy", "onnxruntime")) == 0
    assert results.read(ran[0].output) == result


def test_cells_have_the_keys_of_cells_that_are_compiled_on_the_spot(sent, ran):
    request, _ = sent
    here = replace(request, devices=("cpu",), plugins=request.backends)
    assert bench.plan(here).cells == tuple(one.cell for one in ran[1].cells)


def test_an_artifact_says_where_it_came_from_and_what_making_it_took_there(sent, ran):
    there = {one.key: one.compile_s for one in sent[1].manifest.artifacts}
    for one in ran[1].cells:
        assert (one.artifact.origin, one.artifact.cached) == ("elsewhere", False)
        assert one.artifact.compile_s == there[one.artifact.key] > 0
    (told,) = ran[1].run.parcels
    assert (told.folder, told.sha256) == (str(sent[1].root), sent[1].sha256)


def test_there_is_no_cold_first_output_and_a_reason_instead(ran):
    timed = [one for one in ran[1].cells if one.first_output is not None]
    assert timed
    for one in timed:
        assert (one.first_output.cold_ns, one.first_output.reason) == (None, "compiled elsewhere")
        assert one.first_output.warm_ns > 0


def test_a_result_and_a_comparison_tell_that_nothing_was_compiled(ran):
    note = "Compiled elsewhere, and nothing is compiled here: numpy, onnxruntime."
    assert ran[1].run.notes[0].startswith(note)
    here = structs.replace(ran[1], cells=())
    (told,) = of_runs(here, ran[1])
    assert told.startswith("New ran artifacts that were compiled elsewhere (numpy, onnxruntime)")


def test_some_batch_sizes_of_an_artifact_can_be_run_alone(sent, tmp_path):
    request = asked(sent[1], tmp_path / "r.json", backends=("numpy",), batches=(4,), scenarios=("latency",))
    (job,) = bench.plan(request).jobs
    assert list(job.cells) == [4]
    assert job.target.batch_sizes == (1, 4)


def test_what_differs_from_where_it_was_compiled_is_told(sent, tmp_path):
    opened = sent[1]
    first, *others = opened.manifest.artifacts
    first = structs.replace(first, versions={"numpy": "0.1", "torch": "2.9"}, version="0.0")
    first = structs.replace(first, target=structs.replace(first.target, threads=7))
    origin = structs.replace(opened.manifest.origin, machine="riscv", features=("sve",))
    manifest = structs.replace(opened.manifest, artifacts=(first, *others), origin=origin)
    found = bench.plan(asked(replace(opened, manifest=manifest), tmp_path / "r.json"))
    told = " ".join(found.notes)
    for difference in ("torch 2.9 there, not here", "numpy 0.1 there, ", "kdbench-numpy 0.0 there, "):
        assert difference in told
    assert "machine riscv there, " in told
    assert "instruction sets sve there, not here" in told
    assert "numpy was compiled for 7 threads, and runs with 1 thread." in found.notes


def test_an_artifact_for_a_device_that_is_not_here_yet_is_compiled_where_it_is_named(
    student, tmp_path, board
):
    board("converter")
    with pytest.raises(BackendUnavailable, match="There is no NPU"):
        packing.pack(boards_own(student, tmp_path / "p"))
    with pytest.raises(BackendUnavailable):
        packing.pack(boards_own(student, tmp_path / "p", "gpu.0"))
    made = packing.pack(boards_own(student, tmp_path / "p", "npu.0"))
    (one,) = made.manifest.artifacts
    assert (one.device.id, one.absent, one.runtime_version) == ("npu.0", "There is no NPU", "")

    with pytest.raises(BackendUnavailable, match="There is no NPU"):
        bench.plan(asked(made, tmp_path / "r.json"))
    board("npu")
    result = bench.run(asked(made, tmp_path / "r.json"))
    (cell,) = result.cells
    assert (cell.phase, cell.artifact.origin) == ("check", "elsewhere")
    assert cell.placement.device == "npu.0"
    assert any("compiled without its device npu.0: There is no NPU" in one for one in result.run.notes)


def test_an_artifact_that_does_not_load_here_is_a_row_with_a_reason(student, tmp_path, board):
    board("converter")
    made = packing.pack(boards_own(student, tmp_path / "p", "npu.0"))
    board("npu", "driver")
    (cell,) = bench.run(asked(made, tmp_path / "r.json")).cells
    assert (cell.status, cell.phase) == ("failed", "load")
    assert "the engine was built for another driver" in cell.reason


def test_a_backend_that_cannot_compile_fails_and_nothing_is_written(student, tmp_path, board):
    board()
    with pytest.raises(BackendError, match=r"'board' cannot compile digits-2x5 for npu.0: .*no converter"):
        packing.pack(boards_own(student, tmp_path / "p", "npu.0"))
    assert not (tmp_path / "p").exists()


def test_a_precision_that_is_not_declared_is_refused(student, tmp_path):
    profile = structs.replace(LATENCY_ALONE, plan=structs.replace(LATENCY_ALONE.plan, precisions=("fp16",)))
    request = Request(student=student, profile=profile, output=tmp_path / "p", backends=("numpy",))
    with pytest.raises(UsageError, match=r"cannot be compiled: .* does not offer fp16"):
        packing.pack(request)


def test_a_device_of_the_parcel_that_the_backend_lacks_here_is_a_sentence(sent, tmp_path):
    opened = sent[1]
    moved = tuple(
        structs.replace(one, device=replace(one.device, id="gpu.7")) for one in opened.manifest.artifacts
    )
    manifest = structs.replace(opened.manifest, artifacts=moved)
    with pytest.raises(BackendUnavailable, match=r"was compiled for gpu\.7, which is not here; .* has cpu"):
        bench.plan(asked(replace(opened, manifest=manifest), tmp_path / "r.json"))


def test_an_option_that_the_plugin_here_does_not_have_is_refused(student, tmp_path, board):
    board("converter")
    made = packing.pack(boards_own(student, tmp_path / "p", "npu.0"))
    (one,) = made.manifest.artifacts
    options = structs.replace(one, target=structs.replace(one.target, options={"fast": True}))
    board("npu")
    newer = replace(made, manifest=structs.replace(made.manifest, artifacts=(options,)))
    with pytest.raises(UsageError, match="A board has no option 'fast'"):
        bench.plan(asked(newer, tmp_path / "r.json"))


def test_compiling_that_is_interrupted_leaves_nothing(student, tmp_path):
    request = Request(student=student, profile=LATENCY_ALONE, output=tmp_path / "p", backends=("numpy",))
    with pytest.raises(Interrupted, match="Nothing was written"):
        packing.pack(request, stopping("compile"))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_goes_on_with_its_folder_if_that_is_trusted_again(sent, tmp_path):
    shutil.copytree(sent[1].root, tmp_path / "p")
    copy = parcel.open_parcel(tmp_path / "p")
    request = asked(
        copy, tmp_path / "r.json", LATENCY_ALONE, backends=("numpy",), batches=(1,), scenarios=("latency",)
    )
    with pytest.raises(Interrupted):
        bench.run(request, stopping("latency blocks", parts=1))
    path = journal.journal_path(request.output)

    with pytest.raises(UsageError, match="native code"):
        bench.resume(path)
    copy.root.rename(tmp_path / "gone")
    with pytest.raises(ParcelError, match="is not there"):
        bench.resume(path, trust_code=True)
    (tmp_path / "gone").rename(copy.root)
    text = path.read_text()
    path.write_text(text.replace(copy.sha256, "0" * 64))
    with pytest.raises(ResultError, match="does not hold the artifacts that the run began with"):
        bench.resume(path, trust_code=True)
    path.write_text(text)
    result = bench.resume(path, trust_code=True)
    assert (result.run.status, result.run.resumed) == ("complete", 1)
    assert [one.artifact.origin for one in result.cells] == ["elsewhere"]
    assert {one.block for one in result.slices} == {0, 1}


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: CliRunner().invoke(cli.main, [str(word) for word in words])


def test_the_command_line_compiles_and_then_runs_what_it_compiled(call, tmp_path):
    tiny = tmp_path / "tiny.toml"
    tiny.write_text(
        'schema = 1\n[plan]\nbatches = [1]\nthreads = 1\nscenarios = ["latency"]\n'
        "[latency]\nblocks = 1\nrounds = 1\nslice_s = 0.005\nwarm_up_s = 0.01\nwarm_up_max_s = 0.05\n"
    )
    made = call(
        "compile", "-b", "numpy", "--output", "p", "--batch", "1", "--scenario", "latency", "--threads", 1
    )
    assert made.exit_code == 0, made.output
    assert "numpy cpu fp32, batch 1, latency: compiled in" in made.stdout
    ran = call("run", "--artifact", "p", "--trust-code", "--profile", tiny, "--json")
    assert ran.exit_code == 0, ran.output
    (cell,) = json.loads(ran.stdout)["cells"]
    assert (cell["status"], cell["artifact"]["origin"]) == ("measured", "elsewhere")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--artifact", "p"), "holds compiled artifacts, which are native code"),
        (("run", "--artifact", "p", "--trust-code"), "p is not there"),
        (("run", "--trust-code"), "--trust-code goes with --artifact"),
        (("run", "digits-2x5", "--artifact", "p", "--trust-code"), "STUDENT was decided when"),
        (("run", "--artifact", "p", "--trust-code", "-o", "numpy.a=1"), "-o was decided when"),
        (("run", "--artifact", "p", "--trust-code", "--boundary", "host"), "--boundary was decided when"),
        (("run", "--artifact", "p", "--resume", "j"), "--artifact cannot be given with it"),
        (("compile", "--output", "p"), "Missing option '-b'"),
        (("compile", "-b", "numpy"), "Missing option '--output'"),
        (("compile", "-b", "nunpy", "--output", "p"), "There is no backend 'nunpy'"),
        (("compile", "-b", "numpy", "--output", "."), "exists already"),
        (("compile", "-b", "numpy", "--output", "p", "--profile", "crossover"), "searches for batch sizes"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(call, words, said):
    refused = call(*words)
    assert refused.exit_code == 2, refused.output
    assert said in refused.stderr.splitlines()[0]
