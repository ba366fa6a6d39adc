from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import kdbench_executorch
from kdbench import Target, Unavailable, Unsupported
from kdbench.backends import connect
from kdbench.errors import BackendError
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student
from kdbench.wire import artifact_to_json
from kdbench_executorch import build
from kdbench_executorch.delegates import DELEGATES

pytest.importorskip("executorch.extension.pybindings")


def _runs(binding):
    from kdbench_executorch.engine import start

    try:
        return bool(start(binding))
    except Unsupported:
        return False


needs_torch = pytest.mark.skipif(not _runs("python"), reason="torch is not installed.")
needs_native = pytest.mark.skipif(not _runs("native"), reason=f"Run `{build.COMMAND}` first.")


@pytest.fixture(scope="module")
def backend():
    return connect("executorch", kdbench_executorch)


@pytest.fixture(scope="module")
def student():
    return open_student("digits-2x5")


@pytest.fixture(scope="module")
def evaluation(student):
    return load_evaluation(student)


@pytest.fixture(scope="module")
def static(backend, student, tmp_path_factory):
    """An artifact for one image and for four, in a folder of its own."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("static")
    return backend.compile(student, make_target(backend, batch_sizes=(1, 4)), folder), folder


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cpu", "options": check_options(backend.info, dict(options)), **changes})


def deviation(logits, evaluation, start=0):
    expected = evaluation.logits[start : start + len(logits)]
    return np.abs(logits - expected).max() / evaluation.logits.std()


@pytest.mark.parametrize(
    "binding", [pytest.param("python", marks=needs_torch), pytest.param("native", marks=needs_native)]
)
@needs_torch
def test_a_dynamic_program_takes_every_batch_up_to_the_largest_and_says_so_of_a_larger_one(
    backend, student, evaluation, tmp_path, binding
):
    target = make_target(backend, {"binding": binding}, dynamic=True, batch_sizes=(1, 8, 64))
    artifact = backend.compile(student, target, tmp_path)
    assert len(artifact.files) == 1
    session = backend.load(artifact, target)
    for size in (1, 8, 9, 63, 64):
        [logits] = backend.run(session, size)((evaluation.inputs[0][:size],))
        assert deviation(logits, evaluation) < 1e-3
    with pytest.raises(BackendError, match="batch sizes up to 64, not for 65"):
        backend.run(session, 65)
    session.close()


@needs_torch
def test_sessions_of_unlike_thread_counts_run_in_turn(backend, evaluation, static):
    artifact, _ = static
    targets = [make_target(backend, threads=threads, batch_sizes=(1, 4)) for threads in (1, 2)]
    sessions = [backend.load(artifact, target) for target in targets]
    assert [session.placement.threads for session in sessions] == [1, 2]
    runners = [backend.run(session, 4) for session in sessions]
    rings = [runner.allocate_inputs(1)[0] for runner in runners]
    for start in range(0, 40, 4):
        for runner, ring in zip(runners, rings, strict=True):
            ring[0][...] = evaluation.inputs[0][start : start + 4]
            assert deviation(runner(ring)[0], evaluation, start) < 1e-3
    for session in sessions:
        session.close()


@needs_torch
def test_without_a_number_of_threads_the_pool_is_as_the_runtime_makes_it(backend, static):
    from kdbench_executorch.engine import start
    from kdbench_executorch.loaded import vendor_threads

    artifact, _ = static
    backend.load(artifact, make_target(backend, threads=1, batch_sizes=(1, 4))).close()
    session = backend.load(artifact, make_target(backend, threads=None, batch_sizes=(1, 4)))
    assert session.placement.threads == vendor_threads(start("python"))
    session.close()


@needs_torch
def test_sessions_can_be_opened_and_closed_again_and_again(backend, evaluation, static):
    artifact, _ = static
    target = make_target(backend, batch_sizes=(1, 4))
    for _ in range(100):
        session = backend.load(artifact, target)
        backend.run(session, 1)((evaluation.inputs[0][:1],))
        session.close()


@needs_torch
def test_the_placement_tells_what_the_delegate_took(backend, student, static, tmp_path):
    artifact, _ = static
    session = backend.load(artifact, make_target(backend, batch_sizes=(1, 4)))
    nodes = session.placement.nodes
    assert nodes["XnnpackBackend"] > nodes["portable"]
    assert session.placement.provider.startswith("XnnpackBackend")
    session.close()
    target = make_target(backend, {"delegate": "portable"})
    session = backend.load(backend.compile(student, target, tmp_path), target)
    assert set(session.placement.nodes) == {"portable"}
    assert session.placement.provider.startswith("portable")
    session.close()


def test_a_network_whose_products_the_delegate_left_is_told(caplog):
    from kdbench_executorch.session import placement

    class Engine:
        name = "python"

        def threads(self):
            return 1

    products = {"XnnpackBackend": 2, "portable": 5}
    notes = {"delegate": "XnnpackBackend", "nodes": '{"portable": 9}', "products": json.dumps(products)}
    assert placement(notes, Engine(), "cpu").provider == "portable (python)"
    assert "5 of 7 convolutions and matrix products were not taken by XnnpackBackend" in caplog.text


@needs_torch
@needs_native
def test_both_bindings_give_the_same_bits(backend, evaluation, static):
    artifact, _ = static
    answers = []
    for binding in ("python", "native"):
        target = make_target(backend, {"binding": binding}, batch_sizes=(1, 4))
        session = backend.load(artifact, target)
        assert session.placement.provider == f"XnnpackBackend ({binding})"
        answers.append(backend.run(session, 4)((evaluation.inputs[0][:4],))[0].copy())
        session.close()
    np.testing.assert_array_equal(*answers)


_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from pathlib import Path
import kdbench_executorch
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.spec import Target
from kdbench.student import load_evaluation, open_student
from kdbench.wire import artifact_from_json
backend, student = connect("executorch", kdbench_executorch), open_student("digits-2x5")
target = Target(device="cpu", batch_sizes=(1, 4), options=check_options(backend.info, {}))
artifact = artifact_from_json(sys.argv[1].encode(), Path(sys.argv[2]), student)
session = backend.load(artifact, target)
evaluation = load_evaluation(student)
[logits] = backend.run(session, 4)((evaluation.inputs[0][:4],))
print(session.placement.provider, abs(logits - evaluation.logits[:4]).max() / evaluation.logits.std() < 1e-3)
"""


@needs_native
def test_a_program_runs_where_there_is_no_torch(student, static):
    artifact, folder = static
    stored = artifact_to_json(artifact, folder, student).decode()
    command = [sys.executable, "-W", "error", "-c", _WITHOUT_TORCH, stored, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["XnnpackBackend (native) True"], done.stderr[-2000:]


@needs_native
def test_a_failure_of_the_runtime_is_told_in_its_own_words(tmp_path):
    from kdbench_executorch.engine import start

    path = tmp_path / "broken.pte"
    path.write_bytes(b"not a program" * 10)
    with pytest.raises(RuntimeError, match="Loading the method 'forward' failed with error 0x23"):
        start("native").open(path, (), (), 1)


@pytest.mark.parametrize("name", [name for name, delegate in DELEGATES.items() if not delegate.partition])
def test_a_delegate_that_is_not_driven_is_refused_with_what_it_needs(backend, student, tmp_path, name):
    with pytest.raises(Unsupported, match="does not drive ExecuTorch's") as caught:
        backend.compile(student, make_target(backend, {"delegate": name}), tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(("lack", "word"), [({"factory": None}, "factory"), ({"files": {}}, "weights")])
@needs_torch
def test_a_bundle_without_a_network_is_unsupported(backend, student, tmp_path, lack, word):
    with pytest.raises(Unsupported, match=word):
        backend.compile(replace(student, **lack), make_target(backend), tmp_path)


def test_without_torch_compile_says_where_to_compile(backend, student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Unsupported, match="needs torch, which is not installed here"):
        backend.compile(student, make_target(backend), tmp_path)


def test_without_torch_and_without_the_library_the_probe_says_how_to_build_it(backend, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert build.COMMAND in answer.fix


def test_a_program_for_a_delegate_that_the_runtime_lacks_is_refused_by_name(backend, student, static):
    artifact, _ = static
    strange = replace(artifact, notes={**artifact.notes, "delegate": "VulkanBackend"})
    with pytest.raises(Unsupported, match="lowered to VulkanBackend"):
        backend.load(strange, make_target(backend, batch_sizes=(1, 4)))


@needs_torch
def test_a_closed_session_gives_no_runner_and_its_runners_refuse(backend, evaluation, static):
    artifact, _ = static
    session = backend.load(artifact, make_target(backend, batch_sizes=(1, 4)))
    runner = backend.run(session, 1)
    session.close()
    for call in (lambda: runner((evaluation.inputs[0][:1],)), lambda: session.runner(1)):
        with pytest.raises(BackendError, match="closed"):
            call()


def test_a_compiler_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unsupported, match="no-such-compiler cannot be started"):
        build.build()


def test_the_processor_is_named_as_linux_names_it(tmp_path):
    from kdbench_executorch.processor import processor_name

    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n")
    assert processor_name(cpuinfo) == "Raspberry Pi 5 Model B Rev 1.0"
    assert processor_name(tmp_path / "nothing")
