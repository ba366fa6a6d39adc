from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import kdbench_openvino
from kdbench import Student, Target, TensorSpec, Unavailable, Unsupported
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student

pytest.importorskip("openvino")


@pytest.fixture
def backend():
    return connect("openvino", kdbench_openvino)


@pytest.fixture
def student():
    return open_student("digits-2x5")


@pytest.fixture
def images(student):
    return load_evaluation(student).inputs[0]


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cpu", "options": check_options(backend.info, dict(options)), **changes})


def opened(backend, student, target, folder):
    return backend.load(backend.compile(student, target, folder), target)


def test_inputs_come_in_the_order_of_the_card_and_not_of_the_graph(backend, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = pytest.importorskip("onnx.helper")
    left, right, logits = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3])
        for name in ("left", "right", "logits")
    )
    node = helper.make_node("Sub", ["left", "right"], ["logits"])
    graph = helper.make_graph([node], "difference", [left, right], [logits])
    path = tmp_path / "difference.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    student = Student(
        name="difference",
        task="classification",
        sha256="0" * 64,
        root=tmp_path,
        files={"onnx": path},
        inputs=(TensorSpec("right", (3,), "float32"), TensorSpec("left", (3,), "float32")),
        outputs=(TensorSpec("logits", (3,), "float32"),),
        classes=("a", "b", "c"),
    )
    session = opened(backend, student, make_target(backend, batch_sizes=(2,)), tmp_path)
    right, left = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    np.testing.assert_array_equal(backend.run(session, 2)((right, left))[0], left - right)


def test_the_precision_is_read_back_from_the_nodes_that_run(backend, student, tmp_path):
    session = opened(backend, student, make_target(backend), tmp_path)
    assert session.placement.precision == "fp32"
    assert session.placement.provider == "CPU"
    assert session.placement.nodes["CPU"] > 0


def test_a_precision_that_the_device_lacks_is_unsupported(backend, student, tmp_path):
    [device] = [device for device in backend.probe().devices if device.id == "cpu"]
    if "fp16" in device.precisions:
        pytest.skip("This CPU computes in fp16.")
    with pytest.raises(Unsupported, match="not fp16"):
        backend.compile(student, make_target(backend, precision="fp16"), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"hint": "latency"},
        {"hint": "throughput"},
        {"hint": "none"},
        {"num_streams": 2},
        {"pinning": "off"},
        {"hyper_threading": "on"},
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_no_option_changes_the_answer(backend, student, tmp_path, options, dynamic):
    evaluation = load_evaluation(student)
    target = make_target(backend, options, threads=2, batch_sizes=(1, 4), dynamic=dynamic)
    session = opened(backend, student, target, tmp_path)
    for size in target.batch_sizes:
        logits = backend.run(session, size)((evaluation.inputs[0][:size],))[0]
        assert np.abs(logits - evaluation.logits[:size]).max() <= 1e-3 * evaluation.logits.std()
    session.close()


def test_two_streams_want_two_requests_in_flight(backend, student, tmp_path):
    target = make_target(backend, {"num_streams": 2}, threads=2, scenario="throughput")
    assert opened(backend, student, target, tmp_path).optimal_depth == 2


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
def test_inputs_give_the_same_answer_whether_they_are_set_or_copied(
    backend, student, images, tmp_path, monkeypatch, depth, limit_bytes
):
    monkeypatch.setattr("kdbench_openvino._requests.COPY_LIMIT_BYTES", limit_bytes)
    session = opened(backend, student, make_target(backend), tmp_path)
    runner, single = backend.run(session, 1, depth), backend.run(session, 1)
    ring = runner.allocate_inputs(3)
    for entry, image in zip(ring, images, strict=False):
        entry[0][...] = image
    for row, inputs in enumerate([*ring, (images[3:4],), (images[4:5],)]):
        np.testing.assert_array_equal(runner(inputs)[0], single((images[row : row + 1],))[0])
    np.testing.assert_array_equal(runner(ring[1])[0], single((images[1:2],))[0])


def test_outputs_stay_where_they_are(backend, student, tmp_path):
    runner = backend.run(opened(backend, student, make_target(backend), tmp_path), 1)
    first, second = runner.allocate_inputs(2)
    assert runner(first)[0] is runner(second)[0]


def test_sessions_can_be_closed_again_and_again_while_the_runtime_still_works(
    backend, student, images, tmp_path
):
    target = make_target(backend)
    artifact = backend.compile(student, target, tmp_path)
    for _ in range(50):
        session = backend.load(artifact, target)
        runner = backend.run(session, 1, 3)
        for tag in range(3):
            runner.submit((images[tag : tag + 1],), tag)
        session.close()


def test_a_session_may_be_closed_with_requests_in_flight(backend, student, images, tmp_path):
    session = opened(backend, student, make_target(backend), tmp_path)
    runner = backend.run(session, 1, 3)
    for tag in range(3):
        runner.submit((images[tag : tag + 1],), tag)
    session.close()
    for call in (runner.wait, lambda: runner.submit((images[:1],), 3)):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_devices_have_ids_of_kdbench_and_back():
    from kdbench_openvino._runtime import _device_id

    assert [_device_id(name) for name in ("CPU", "GPU", "GPU.1", "NPU")] == ["cpu", "gpu.0", "gpu.1", "npu"]


def test_without_the_runtime_the_probe_says_what_to_install(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert backend.probe() == Unavailable("openvino is not installed.", fix="pip install openvino")


def test_a_runtime_that_fails_is_unavailable_with_its_reason(backend, monkeypatch):
    import openvino

    def failing():
        raise RuntimeError("no plugins.xml")

    monkeypatch.setattr(openvino, "Core", failing)
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert "no plugins.xml" in answer.reason


def test_an_operator_that_the_runtime_does_not_know_is_unsupported_by_its_name(backend, student, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = pytest.importorskip("onnx.helper")
    images, logits = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in ("images", "logits")
    )
    node = helper.make_node("Scaler", ["images"], ["logits"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "scaled", [images], [logits])
    path = tmp_path / "scaled.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    strange = replace(student, files={"onnx": path})
    with pytest.raises(Unsupported, match=r"OpenVINO knows no ai\.onnx\.ml\.Scaler"):
        backend.compile(strange, make_target(backend), tmp_path)
