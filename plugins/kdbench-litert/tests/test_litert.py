from __future__ import annotations

import gc
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kdbench_litert
from kdbench import Artifact, Available, Student, Target, TensorSpec, Unavailable, Unsupported
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student

RUNTIME = kdbench_litert.kdbench_probe()
CONVERTER = all(importlib.util.find_spec(name) for name in ("torch", "safetensors", "litert_torch"))
SIZES = (1, 4)

LACK = RUNTIME.reason if isinstance(RUNTIME, Unavailable) else ""
runs = pytest.mark.skipif(bool(LACK), reason=LACK or "LiteRT is there.")
converts = pytest.mark.skipif(bool(LACK) or not CONVERTER, reason=LACK or "litert-torch is not installed.")


@pytest.fixture
def backend():
    return connect("litert", kdbench_litert)


@pytest.fixture(scope="module")
def student():
    return open_student("digits-2x5")


@pytest.fixture(scope="module")
def evaluation(student):
    return load_evaluation(student)


def make_target(options=(), **changes):
    checked = check_options(kdbench_litert.kdbench_describe(), dict(options))
    return Target(**{"device": "cpu", "batch_sizes": SIZES, "options": checked, **changes})


@pytest.fixture(scope="module")
def artifact(student, tmp_path_factory):
    """The embedded student, converted once for all tests."""
    workdir = tmp_path_factory.mktemp("static")
    return kdbench_litert.kdbench_compile(student, make_target(), workdir)


@pytest.fixture(scope="module")
def resizable(student, tmp_path_factory):
    """The same as one file for all batch sizes."""
    workdir = tmp_path_factory.mktemp("dynamic")
    return kdbench_litert.kdbench_compile(student, make_target(dynamic=True), workdir)


@converts
@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_no_option_changes_the_answer(backend, evaluation, artifact, resizable, api, xnnpack, dynamic):
    target = make_target({"api": api, "xnnpack": xnnpack}, dynamic=dynamic, threads=2)
    session = backend.load(resizable if dynamic else artifact, target)
    for size in SIZES:
        logits = backend.run(session, size)((evaluation.inputs[0][:size],))[0]
        assert logits.shape == (size, 2)
        assert np.abs(logits - evaluation.logits[:size]).max() <= 1e-3 * evaluation.logits.std()
    session.close()


@converts
def test_there_is_one_file_a_batch_size_and_one_for_all_with_dynamic_shapes(artifact, resizable):
    assert [file.name for file in artifact.files] == ["batch-1.tflite", "batch-4.tflite"]
    assert [file.name for file in resizable.files] == ["batch-any.tflite"]


@converts
@pytest.mark.parametrize("name", ["batch-1.tflite", "batch-4.tflite"])
def test_the_file_takes_images_in_the_layout_that_the_student_declares(student, artifact, name):
    from ai_edge_litert.interpreter import Interpreter

    [file] = [file for file in artifact.files if file.name == name]
    [taken] = Interpreter(str(file)).get_input_details()
    assert tuple(taken["shape"]) == (int(name[6]), *student.inputs[0].shape)
    assert taken["dtype"] is np.float32


@converts
def test_the_interpreter_tells_how_many_operators_xnnpack_runs(backend, artifact):
    session = backend.load(artifact, make_target())
    assert session.placement.provider == "XNNPACK"
    assert list(session.placement.nodes) == ["XNNPACK"]
    assert session.placement.precision == "fp32"


@converts
def test_without_xnnpack_the_kernels_of_litert_run_every_operator(backend, artifact):
    session = backend.load(artifact, make_target({"xnnpack": False}))
    assert session.placement.provider == "builtin"
    assert list(session.placement.nodes) == ["builtin"]
    assert session.placement.threads is None


@converts
@pytest.mark.parametrize(("xnnpack", "provider"), [(True, "XNNPACK"), (False, "LiteRT")])
def test_a_compiled_model_tells_whether_xnnpack_runs_all_of_it(backend, artifact, xnnpack, provider):
    session = backend.load(artifact, make_target({"api": "compiled", "xnnpack": xnnpack}))
    assert session.placement.provider == provider
    assert session.placement.nodes == {}


@converts
def test_an_operator_that_xnnpack_lacks_is_counted_apart(tmp_path):
    import torch

    from kdbench_litert._converter import _quiet
    from kdbench_litert._form import Form
    from kdbench_litert._interpreter import InterpreterRunner

    class Summing(torch.nn.Module):
        def forward(self, images):
            return torch.relu(torch.cumsum(images * 2 + 1, 1)) * 3

    with _quiet() as litert_torch:
        litert_torch.convert(Summing().eval(), (torch.zeros(1, 5),)).export(str(tmp_path / "summing.tflite"))
    form = Form((TensorSpec("images", (5,), "float32"),), (TensorSpec("logits", (5,), "float32"),))
    runner = InterpreterRunner(tmp_path / "summing.tflite", form, 1, threads=1, xnnpack=True)
    assert runner.provider() == "XNNPACK+builtin"
    assert runner.nodes()["builtin"] == 1
    assert runner.nodes()["XNNPACK"] >= 2


def test_operators_of_a_delegated_part_are_found_from_its_outputs_back_to_its_inputs():
    from kdbench_litert._delegation import count

    def operator(index, name, inputs, outputs):
        return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}

    #    image 0 → a → 1 → b → 2 → c (its own kernel) → 3 → d → 4, with weights 8 and 9
    operators = [
        operator(0, "CONV_2D", [0, 8], [1]),
        operator(1, "ADD", [1, 1], [2]),
        operator(2, "CUMSUM", [2], [3]),
        operator(3, "FULLY_CONNECTED", [3, 9], [4]),
        operator(4, "DELEGATE", [0, 8], [2]),
        operator(5, "DELEGATE", [3, 9], [4]),
    ]
    assert count(operators) == {"XNNPACK": 3, "builtin": 1}
    assert count(operators[:4]) == {"builtin": 4}


@converts
@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux lists the threads of a process.")
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_is_read_back_from_the_process(backend, artifact, api, threads):
    gc.collect()
    session = backend.load(artifact, make_target({"api": api}, threads=threads))
    assert session.placement.threads == threads
    session.close()


@converts
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_outputs_outlive_the_next_call(backend, evaluation, artifact, api):
    session = backend.load(artifact, make_target({"api": api}))
    runner = backend.run(session, 1)
    images = evaluation.inputs[0]
    [first] = runner((images[:1],))
    before = first.copy()
    runner((images[1:2],))
    np.testing.assert_array_equal(first, before)
    session.close()


@converts
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_inputs_that_cannot_be_written_to_are_taken(backend, evaluation, artifact, api):
    session = backend.load(artifact, make_target({"api": api}))
    image = evaluation.inputs[0][:1].copy()
    image.flags.writeable = False
    [logits] = backend.run(session, 1)((image,))
    assert np.abs(logits - evaluation.logits[:1]).max() <= 1e-3 * evaluation.logits.std()
    session.close()


@converts
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_every_runner_of_a_closed_session_raises_and_no_new_one_is_given(backend, evaluation, artifact, api):
    session = backend.load(artifact, make_target({"api": api}))
    runners = [backend.run(session, size) for size in (1, 1, 4)]
    session.close()
    session.close()
    for runner, size in zip(runners, (1, 1, 4), strict=True):
        with pytest.raises(Exception, match="closed"):
            runner((evaluation.inputs[0][:size],))
    with pytest.raises(Exception, match="closed"):
        backend.run(session, 1)


@converts
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_a_session_ends_with_its_threads(backend, artifact, api):
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("Only Linux lists the threads of a process.")
    gc.collect()
    before = {task.name for task in tasks.iterdir()}
    for _ in range(5):
        session = backend.load(artifact, make_target({"api": api}, threads=3))
        backend.run(session, 4)
        session.close()
    del session
    gc.collect()
    assert {task.name for task in tasks.iterdir()} <= before


@converts
def test_a_batch_size_that_was_not_compiled_is_refused_with_those_that_were(backend, artifact):
    session = backend.load(artifact, make_target())
    with pytest.raises(Exception, match=r"batch sizes 1, 4, not for 3"):
        backend.run(session, 3)
    session.close()


@converts
def test_a_graph_that_cannot_be_resized_is_unsupported_with_dynamic_shapes(student, tmp_path):
    import torch

    from kdbench_litert import _converter

    class Baked(torch.nn.Module):
        def forward(self, images):
            return images.reshape(2, -1)[:, :2]

    form = _converter.Form.of(student)
    content = _converter._converted(student, Baked().eval(), 2)
    (tmp_path / "baked.tflite").write_bytes(content)
    _converter._hold(tmp_path / "baked.tflite", form, 2)
    with pytest.raises(Unsupported, match="batch size 4"):
        _converter._hold(tmp_path / "baked.tflite", form, 4)


@converts
def test_a_network_that_the_converter_does_not_know_is_unsupported_in_one_line(student):
    import torch

    from kdbench_litert import _converter

    class Deciding(torch.nn.Module):
        def forward(self, images):
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    with pytest.raises(Unsupported, match=r"litert-torch cannot convert digits-2x5: \w+: ") as refusal:
        _converter._converted(student, Deciding().eval(), 1)
    assert "\n" not in refusal.value.message
    assert refusal.value.hint


def test_a_student_that_exists_only_as_onnx_is_unsupported(backend, student, tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench_litert._converter.find_spec", lambda name: name)
    pytest.importorskip("safetensors.torch")
    stranger = replace(student, factory=None, arguments={})
    with pytest.raises(Unsupported, match="names no network factory") as refusal:
        backend.compile(stranger, make_target(), tmp_path)
    assert "onnxruntime" in refusal.value.hint


def test_without_the_converter_compile_says_what_to_install_and_where_else_to_compile(
    backend, student, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "kdbench_litert._converter.find_spec", lambda name: None if name == "litert_torch" else name
    )
    with pytest.raises(Unsupported, match="what is not installed: litert-torch") as refusal:
        backend.compile(student, make_target(), tmp_path)
    assert "pip install" in refusal.value.hint
    assert "kdbench run --artifact" in refusal.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("accelerator", ["gpu", "npu"])
def test_another_accelerator_than_the_cpu_is_refused_before_anything_is_converted(
    backend, student, tmp_path, accelerator
):
    target = make_target({"api": "compiled", "accelerator": accelerator})
    for ask in (
        lambda: backend.compile(student, target, tmp_path),
        lambda: backend.load(Artifact(()), target),
    ):
        with pytest.raises(Unsupported, match=f"accelerator={accelerator}"):
            ask()


def test_without_the_runtime_the_probe_says_what_to_install(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert answer.reason == "The Python package ai_edge_litert is not installed."
    assert answer.fix == "pip install 'ai-edge-litert>=2.3,<2.4'"


@runs
def test_a_runtime_that_does_not_load_is_unavailable_with_its_reason(backend, monkeypatch):
    def failing(*_, **__):
        raise OSError("libLiteRt.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "ai_edge_litert")
    for name in [name for name in sys.modules if name.startswith("ai_edge_litert.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("ctypes.CDLL", failing)
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert "libLiteRt.so" in answer.reason


@runs
def test_the_probe_tells_the_version_and_the_cpu(backend):
    answer = backend.probe()
    assert isinstance(answer, Available)
    assert re.match(r"\d+\.\d+", answer.version)
    assert [device.id for device in answer.devices] == ["cpu"]


@converts
def test_loading_and_running_import_neither_torch_nor_the_converter(artifact, tmp_path):
    import json
    import subprocess

    script = """
import json, sys
from pathlib import Path
import numpy as np
import kdbench_litert
from kdbench import Artifact, Target
files, notes, options = json.loads(sys.argv[1])
target = Target(device="cpu", batch_sizes=(1, 4), options=options)
session = kdbench_litert.kdbench_load(Artifact(tuple(map(Path, files)), notes), target)
session.runner(1)((np.zeros((1, 3, 16, 16), "float32"),))
session.close()
print(sorted({"torch", "litert_torch", "jax"} & set(sys.modules)))
"""
    given = json.dumps([[str(file) for file in artifact.files], artifact.notes, make_target().options])
    done = subprocess.run(
        [sys.executable, "-c", script, given], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_inputs_and_outputs_survive_the_notes_of_an_artifact():
    from kdbench_litert._form import Form

    form = Form(
        (TensorSpec("a", (3, 4), "float32"), TensorSpec("b", (), "int32")),
        (TensorSpec("c", (2,), "float32"),),
    )
    assert Form.from_notes(form.to_notes()) == form
    assert form.input_names == ("args_0", "args_1")


def test_a_file_of_another_shape_type_or_name_than_the_students_is_unsupported():
    from kdbench_litert._form import Form

    form = Form((TensorSpec("images", (3,), "float32"),), (TensorSpec("logits", (2,), "float32"),))
    good = {"args_0": {"shape": np.array([4, 3]), "dtype": np.float32}}
    logits = {"output_0": {"shape": [4, 2], "dtype": "float32"}}
    form.check(good, logits, 4)
    for outputs in (
        {"output_0": {"shape": [4, 1], "dtype": "float32"}},
        {"output_0": {"shape": [4, 2], "dtype": "int32"}},
        {"logits": {"shape": [4, 2], "dtype": "float32"}},
    ):
        with pytest.raises(Unsupported, match=r"expected"):
            form.check(good, outputs, 4)


@converts
def test_inputs_come_in_the_order_of_the_card(backend, tmp_path, monkeypatch):
    import torch

    class Difference(torch.nn.Module):
        def forward(self, right, left):
            return left - right, left + right

    monkeypatch.setattr("kdbench.networks.build", lambda student: Difference().eval())
    student = Student(
        name="difference",
        task="classification",
        sha256="0" * 64,
        root=tmp_path,
        files={},
        inputs=(TensorSpec("right", (3,), "float32"), TensorSpec("left", (3,), "float32")),
        outputs=(TensorSpec("less", (3,), "float32"), TensorSpec("more", (3,), "float32")),
        classes=("a", "b", "c"),
    )
    artifact = backend.compile(student, make_target(batch_sizes=(2,)), tmp_path)
    right, left = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    for api in ("interpreter", "compiled"):
        session = backend.load(artifact, make_target({"api": api}, batch_sizes=(2,)))
        less, more = backend.run(session, 2)((right, left))
        np.testing.assert_array_equal(less, left - right)
        np.testing.assert_array_equal(more, left + right)
        session.close()
