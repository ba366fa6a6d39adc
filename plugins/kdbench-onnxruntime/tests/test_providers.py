from __future__ import annotations

import numpy as np
import pytest

import kdbench_onnxruntime
from kdbench import Target, Unsupported
from kdbench.backends import connect
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student
from kdbench_onnxruntime.providers import PROVIDERS, parse, requested, settings

ort = pytest.importorskip("onnxruntime")

AZURE = "AzureExecutionProvider"


@pytest.fixture
def backend():
    return connect("onnxruntime", kdbench_onnxruntime)


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cpu", "options": check_options(backend.info, dict(options)), **changes})


@pytest.mark.parametrize("text", ["", " ; ", "device_id=1", 'a.b_c=x=y; load_config={"CPU": 1}'])
def test_options_of_a_provider_are_read_from_one_text(text):
    expected = {
        "device_id=1": {"device_id": "1"},
        'a.b_c=x=y; load_config={"CPU": 1}': {"a.b_c": "x=y", "load_config": '{"CPU": 1}'},
    }
    assert parse(text) == expected.get(text, {})


@pytest.mark.parametrize("text", ["fast", "=1", "device id=1", "a=1;a=2", "a="])
def test_a_text_that_holds_no_options_is_refused_with_what_it_takes(text):
    with pytest.raises(Unsupported, match="provider_options cannot hold") as refusal:
        parse(text)
    assert "key=value;key=value" in refusal.value.hint


def test_the_device_threads_and_precision_choose_options_of_the_provider(backend):
    target = make_target(backend, {"provider": "openvino"}, threads=3)
    assert settings(PROVIDERS["openvino"], target) == {
        "device_type": "CPU",
        "precision": "FP32",
        "num_of_threads": "3",
    }
    target = make_target(
        backend,
        {"provider": "openvino", "provider_options": "num_streams=2"},
        device="gpu",
        precision="fp16",
        threads=None,
    )
    assert settings(PROVIDERS["openvino"], target) == {"device_type": "GPU", "num_streams": "2"}


@pytest.mark.parametrize("key", ["device_type", "precision", "num_of_threads"])
def test_what_the_target_decides_cannot_be_set_by_hand(backend, key):
    target = make_target(backend, {"provider": "openvino", "provider_options": f"{key}=x"}, threads=None)
    with pytest.raises(Unsupported, match=f"{key} cannot be set in provider_options"):
        settings(PROVIDERS["openvino"], target)


def test_the_cpu_provider_takes_no_options_of_its_own(backend, tmp_path):
    target = make_target(backend, {"provider_options": "arena=1"})
    with pytest.raises(Unsupported, match="CPU provider has no provider_options"):
        backend.compile(open_student("digits-2x5"), target, tmp_path)


def test_a_provider_that_does_not_compute_on_the_device_names_those_that_do(backend):
    with pytest.raises(Unsupported, match="CPUExecutionProvider does not compute on npu") as refusal:
        requested(make_target(backend, device="npu"))
    assert "provider=openvino or qnn or coreml" in refusal.value.hint
    with pytest.raises(Unsupported, match="DmlExecutionProvider does not compute on cpu, but on gpu"):
        requested(make_target(backend, {"provider": "dml"}))


def test_every_kind_of_device_is_declared_and_the_cpu_needs_nothing(backend):
    kinds = {kind for provider in PROVIDERS.values() for kind in provider.kinds}
    assert kinds == set(backend.info.devices)
    assert PROVIDERS["cpu"].kinds == {"cpu": {}}


def test_a_provider_that_the_wheel_lacks_is_unsupported_with_the_wheel_that_has_it(backend, tmp_path):
    for name in ("openvino", "qnn", "xnnpack"):
        if PROVIDERS[name].name in ort.get_available_providers():
            pytest.skip(f"This wheel has {PROVIDERS[name].name}.")
        with pytest.raises(Unsupported, match=f"has no {PROVIDERS[name].name}") as refusal:
            backend.compile(open_student("digits-2x5"), make_target(backend, {"provider": name}), tmp_path)
        assert PROVIDERS[name].wheel in refusal.value.hint


def test_the_trial_is_a_sound_onnx_file_of_one_node():
    onnx = pytest.importorskip("onnx")
    from kdbench_onnxruntime._opening import TRIAL

    model = onnx.load_from_string(TRIAL)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Relu"]


def test_a_provider_that_is_listed_and_computes_nothing_is_a_fall_back(backend, tmp_path):
    if AZURE not in ort.get_available_providers():
        pytest.skip(f"This wheel has no {AZURE}.")
    from kdbench_onnxruntime._placement import placement

    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(open_student("digits-2x5").files["onnx"], options, providers=[AZURE])
    assert AZURE in session.get_providers()
    told = placement(session, "cpu", AZURE, "fp32")
    assert (told.device, told.provider) == ("CPUExecutionProvider", "CPUExecutionProvider")
    assert placement(session, "gpu", AZURE, "fp32").device == "cpu"
    assert placement(session, "cpu", "CPUExecutionProvider", "fp32").device == "cpu"


class Assigned:
    """A session as `placement` asks it; real ones put nodes in two places on a GPU only."""

    def __init__(self, registered, nodes):
        self.registered, self.nodes = registered, nodes

    def get_providers(self):
        return self.registered

    def get_provider_graph_assignment_info(self):
        return [Subgraph(name, operators) for name, operators in self.nodes.items()]


class Subgraph:
    def __init__(self, name, operators):
        self.ep_name, self.operators = name, operators

    def get_nodes(self):
        return [type("Node", (), {"op_type": operator}) for operator in self.operators]


CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("wanted", "nodes", "device", "used"),
    [
        (CUDA, {CUDA: ["Conv", "Gemm"], CPU: ["Shape", "Gather"]}, "cuda:0", CUDA),
        (CUDA, {CUDA: ["Conv"], CPU: ["ConvInteger"]}, "cpu", CPU),
        (CUDA, {CPU: ["Conv", "Gemm"]}, "cpu", CPU),
        (CUDA, {CUDA: ["Add"], CPU: ["Shape"]}, "cuda:0", CUDA),
        (TENSORRT, {TENSORRT: ["Conv"], CUDA: ["Softmax"]}, "cuda:0", TENSORRT),
        (TENSORRT, {TENSORRT: ["Conv"], CUDA: ["MatMul"]}, CUDA, CUDA),
        (TENSORRT, {CUDA: ["Conv"]}, CUDA, CUDA),
    ],
)
def test_products_elsewhere_are_a_fall_back_and_nodes_that_compute_shapes_are_none(
    wanted, nodes, device, used
):
    from kdbench_onnxruntime._placement import placement

    told = placement(Assigned([TENSORRT, CUDA, CPU], nodes), "cuda:0", wanted, "fp32")
    assert (told.device, told.provider) == (device, used)
    assert told.nodes == {name: len(operators) for name, operators in nodes.items()}


def test_openvino_computes_on_the_cpu_what_the_reference_says(backend, tmp_path):
    if "OpenVINOExecutionProvider" not in ort.get_available_providers():
        pytest.skip("This wheel has no OpenVINOExecutionProvider.")
    student = open_student("digits-2x5")
    evaluation = load_evaluation(student)
    target = make_target(backend, {"provider": "openvino"}, batch_sizes=(8,))
    session = backend.load(backend.compile(student, target, tmp_path), target)
    assert (session.placement.device, session.placement.provider) == ("cpu", "OpenVINOExecutionProvider")
    runner = backend.run(session, 8)
    for entry, start in zip(runner.allocate_inputs(2), (0, 8), strict=True):
        entry[0][...] = evaluation.inputs[0][start : start + 8]
        difference = np.abs(runner(entry)[0] - evaluation.logits[start : start + 8]).max()
        assert difference <= 1e-3 * evaluation.logits.std()
    session.close()


def test_a_device_that_openvino_does_not_find_is_a_fall_back_and_no_device_of_the_probe(backend, tmp_path):
    if "OpenVINOExecutionProvider" not in ort.get_available_providers():
        pytest.skip("This wheel has no OpenVINOExecutionProvider.")
    if "gpu" in {device.id for device in backend.probe().devices}:
        pytest.skip("OpenVINO finds a GPU here.")
    student, target = open_student("digits-2x5"), make_target(backend, {"provider": "openvino"}, device="gpu")
    session = backend.load(backend.compile(student, target, tmp_path), target)
    assert session.placement.device == "cpu"
    session.close()
