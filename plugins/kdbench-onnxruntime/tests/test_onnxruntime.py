from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import kdbench_onnxruntime
from kdbench import Student, Target, TensorSpec, Unavailable, Unsupported
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student
from kdbench_onnxruntime.wheels import WHEELS

pytest.importorskip("onnxruntime")


@pytest.fixture
def backend():
    return connect("onnxruntime", kdbench_onnxruntime)


@pytest.fixture
def difference(tmp_path):
    """A student that computes `left - right`, and whose card lists its inputs the other way round."""
    helper = pytest.importorskip("onnx.helper")
    onnx = pytest.importorskip("onnx")

    def build(batch):
        values = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, 3])
            for name in ("left", "right", "logits")
        ]
        node = helper.make_node("Sub", ["left", "right"], ["logits"])
        graph = helper.make_graph([node], "difference", values[:2], values[2:])
        path = tmp_path / "difference.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
        return Student(
            name="difference",
            task="classification",
            sha256="0" * 64,
            root=tmp_path,
            files={"onnx": path},
            inputs=(TensorSpec("right", (3,), "float32"), TensorSpec("left", (3,), "float32")),
            outputs=(TensorSpec("logits", (3,), "float32"),),
            classes=("a", "b", "c"),
        )

    return build


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cpu", "options": check_options(backend.info, dict(options)), **changes})


def opened(backend, student, target, folder):
    return backend.load(backend.compile(student, target, folder), target)


def test_inputs_come_in_the_order_of_the_card_and_not_of_the_graph(backend, difference, tmp_path):
    session = opened(backend, difference("n"), make_target(backend, batch_sizes=(2,)), tmp_path)
    right, left = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    np.testing.assert_array_equal(backend.run(session, 2)((right, left))[0], left - right)


def test_a_batch_size_that_is_built_in_serves_that_size_only(backend, difference, tmp_path):
    opened(backend, difference(4), make_target(backend, batch_sizes=(4,)), tmp_path).close()
    with pytest.raises(Unsupported, match="batch size 4 built in"):
        backend.compile(difference(4), make_target(backend, batch_sizes=(1, 4)), tmp_path)


def test_a_graph_that_takes_other_inputs_than_the_card_says_is_unsupported(backend, difference, tmp_path):
    student = replace(difference("n"), inputs=(TensorSpec("images", (3,), "float32"),))
    with pytest.raises(Unsupported, match=r"takes the inputs \['left', 'right'\]"):
        backend.compile(student, make_target(backend), tmp_path)


def test_all_nodes_are_on_the_cpu_provider(backend, tmp_path):
    session = opened(backend, open_student("digits-2x5"), make_target(backend), tmp_path)
    assert session.placement.provider == "CPUExecutionProvider"
    assert set(session.placement.nodes) <= {"CPUExecutionProvider"}
    assert session.placement.threads == 1


@pytest.mark.parametrize(
    "options",
    [
        {"optimization": "extended"},
        {"optimization": "basic"},
        {"optimization": "none"},
        {"execution": "parallel"},
        {"spinning": False},
        {"spread": "requests"},
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_no_option_changes_the_answer(backend, tmp_path, options, dynamic):
    student = open_student("digits-2x5")
    evaluation = load_evaluation(student)
    target = make_target(backend, options, threads=2, batch_sizes=(1, 4), dynamic=dynamic)
    session = opened(backend, student, target, tmp_path)
    for size in target.batch_sizes:
        logits = backend.run(session, size)((evaluation.inputs[0][:size],))[0]
        assert np.abs(logits - evaluation.logits[:size]).max() <= 1e-3 * evaluation.logits.std()


def test_for_throughput_each_request_has_one_thread_and_the_depth_is_the_number_of_threads(backend, tmp_path):
    student = open_student("digits-2x5")
    session = opened(backend, student, make_target(backend, threads=2, scenario="throughput"), tmp_path)
    assert (session.placement.threads, session.optimal_depth) == (None, 2)
    session = opened(backend, student, make_target(backend, threads=2), tmp_path)
    assert (session.placement.threads, session.optimal_depth) == (2, 1)


def test_allocated_inputs_are_bound_without_a_copy_and_outputs_stay_where_they_are(backend, tmp_path):
    session = opened(backend, open_student("digits-2x5"), make_target(backend), tmp_path)
    runner = backend.run(session, 1)
    first, second = runner.allocate_inputs(2)
    assert first[0].ctypes.data % 64 == 0
    outputs = runner(first)
    before = outputs[0].copy()
    first[0][...] = 0.9
    assert runner(first)[0] is outputs[0]
    assert not np.array_equal(before, outputs[0])
    assert np.array_equal(before, runner(second)[0])


def test_an_array_that_may_not_be_written_is_read(backend, tmp_path):
    session = opened(backend, open_student("digits-2x5"), make_target(backend), tmp_path)
    images = np.full((1, 3, 16, 16), 0.5, np.float32)
    images.flags.writeable = False
    assert np.isfinite(backend.run(session, 1)((images,))[0]).all()


def test_an_array_of_another_batch_size_is_refused(backend, tmp_path):
    session = opened(backend, open_student("digits-2x5"), make_target(backend), tmp_path)
    with pytest.raises(Exception, match="Got: 2 Expected: 1"):
        backend.run(session, 1)((np.zeros((2, 3, 16, 16), np.float32),))


def test_another_precision_than_fp32_is_unsupported(backend, tmp_path):
    with pytest.raises(Unsupported, match="fp32, not in bf16"):
        backend.compile(open_student("digits-2x5"), make_target(backend, precision="bf16"), tmp_path)


def test_without_the_runtime_the_probe_says_what_to_install(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(kdbench_onnxruntime, "is_installed", lambda _: False)
    assert backend.probe() == Unavailable("onnxruntime is not installed.", fix="pip install onnxruntime")


def test_two_wheels_in_one_environment_are_refused_by_name(backend, monkeypatch):
    monkeypatch.setattr(kdbench_onnxruntime, "is_installed", lambda name: name in WHEELS[:2])
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert "onnxruntime and onnxruntime-gpu are both installed" in answer.reason
    assert answer.fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
