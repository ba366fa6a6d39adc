from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import kdbench_ncnn
from kdbench import Student, Target, TensorSpec, Unavailable, Unsupported
from kdbench.backends import connect
from kdbench.errors import BackendError
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student

pytest.importorskip("ncnn")


@pytest.fixture
def backend():
    return connect("ncnn", kdbench_ncnn)


@pytest.fixture
def student():
    return open_student("digits-2x5")


@pytest.fixture
def evaluation(student):
    return load_evaluation(student)


@pytest.fixture
def pnnx():
    from kdbench_ncnn._convert import find_pnnx

    try:
        return find_pnnx()
    except Unsupported as lack:
        pytest.skip(str(lack))


@pytest.fixture
def artifact(backend, student, pnnx, tmp_path):
    (tmp_path / "artifact").mkdir()
    return backend.compile(student, make_target(backend), tmp_path / "artifact")


def make_target(backend, options=(), **changes):
    return Target(**{"device": "cpu", "options": check_options(backend.info, dict(options)), **changes})


def opened(backend, student, target, folder):
    return backend.load(backend.compile(student, target, folder), target)


def written(folder, nodes, inputs, outputs, constants=(), opsets=(("", 20),)):
    """Write an ONNX file with a free batch axis; the student of it has no evaluation split."""
    onnx = pytest.importorskip("onnx")
    helper = pytest.importorskip("onnx.helper")
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    kinds = {"float32": onnx.TensorProto.FLOAT, "uint8": onnx.TensorProto.UINT8}
    ends = [
        [helper.make_tensor_value_info(spec.name, kinds[spec.dtype], ["n", *spec.shape]) for spec in side]
        for side in (inputs, outputs)
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in dict(constants).items()]
    graph = helper.make_graph(nodes(helper.make_node), "written", *ends, stored)
    imports = [helper.make_opsetid(*opset) for opset in opsets]
    path = folder / "written.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return Student(
        name="written",
        task="classification",
        sha256="0" * 64,
        root=folder,
        files={"onnx": path},
        inputs=inputs,
        outputs=outputs,
        classes=("a", "b", "c"),
    )


def convolved(folder, image=(3, 7, 5), dtype="float32"):
    """Write a convolution whose channels are no multiple of the width to which ncnn aligns them."""
    random = np.random.default_rng(3)
    channels_last = dtype == "uint8"
    constants = {
        "kernel": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "head": random.normal(size=(4, 3)).astype(np.float32),
    }

    def nodes(node):
        cast = [
            node("Cast", ["image"], ["float"], to=1),
            node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        ]
        return [
            *(cast if channels_last else []),
            node("Conv", ["planes" if channels_last else "image", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
            node("Relu", ["conv"], ["features"]),
            node("GlobalAveragePool", ["features"], ["pooled"]),
            node("Flatten", ["pooled"], ["flat"]),
            node("MatMul", ["flat", "head"], ["logits"]),
        ]

    shape = (*image[1:], image[0]) if channels_last else image
    inputs, outputs = (TensorSpec("image", shape, dtype),), (TensorSpec("logits", (3,), "float32"),)
    return written(folder, nodes, inputs, outputs, constants)


def reference(student, *inputs):
    from onnx.reference import ReferenceEvaluator

    names = [spec.name for spec in student.inputs]
    return ReferenceEvaluator(str(student.files["onnx"])).run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_images_of_any_type_and_size_give_the_logits_that_onnx_defines(
    backend, pnnx, tmp_path, dtype, dynamic
):
    student = convolved(tmp_path, dtype=dtype)
    (tmp_path / "work").mkdir()
    target = make_target(backend, batch_sizes=(1, 3), dynamic=dynamic)
    session = opened(backend, student, target, tmp_path / "work")
    images = np.random.default_rng(4).uniform(0, 255, (3, *student.inputs[0].shape)).astype(dtype)
    expected = reference(student, images)
    np.testing.assert_allclose(backend.run(session, 3)((images,))[0], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        backend.run(session, 1)((images[1:2],))[0], expected[1:2], rtol=1e-4, atol=1e-3
    )


def test_inputs_come_in_the_order_of_the_card_and_not_of_the_graph(backend, pnnx, tmp_path):
    left, right = TensorSpec("left", (4, 3), "float32"), TensorSpec("right", (4, 3), "float32")
    logits = TensorSpec("logits", (4, 3), "float32")
    student = written(
        tmp_path, lambda node: [node("Sub", ["left", "right"], ["logits"])], (left, right), (logits,)
    )
    student = replace(student, inputs=(right, left))
    (tmp_path / "work").mkdir()
    session = opened(backend, student, make_target(backend, batch_sizes=(2,)), tmp_path / "work")
    given = np.ones((2, 4, 3), np.float32), np.full((2, 4, 3), 5, np.float32)
    np.testing.assert_array_equal(backend.run(session, 2)(given)[0], given[1] - given[0])


def test_a_vector_whose_batch_is_a_dimension_like_any_other_runs_at_each_size(backend, pnnx, tmp_path):
    matrix = np.random.default_rng(5).normal(size=(8, 3)).astype(np.float32)
    student = written(
        tmp_path,
        lambda node: [node("MatMul", ["facts", "matrix"], ["logits"])],
        (TensorSpec("facts", (8,), "float32"),),
        (TensorSpec("logits", (3,), "float32"),),
        {"matrix": matrix},
    )
    (tmp_path / "work").mkdir()
    target = make_target(backend, batch_sizes=(1, 4))
    artifact = backend.compile(student, target, tmp_path / "work")
    assert json.loads(artifact.notes["batched"]) == [[False], [False]]
    session = backend.load(artifact, target)
    facts = np.random.default_rng(6).normal(size=(4, 8)).astype(np.float32)
    for size in (1, 4):
        np.testing.assert_allclose(
            backend.run(session, size)((facts[:size],))[0], facts[:size] @ matrix, rtol=1e-4
        )


def test_compile_leaves_one_network_for_all_batch_sizes_and_nothing_else(backend, student, pnnx, tmp_path):
    artifact = backend.compile(student, make_target(backend, batch_sizes=(1, 2, 8)), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"network-0.param", "network-0.bin"}
    assert [file.name for file in artifact.files] == ["network-0.param", "network-0.bin"]
    assert str(tmp_path) not in artifact.files[0].read_text() + json.dumps(dict(artifact.notes))


def test_weights_are_stored_in_half_only_where_fp16_is_asked_for(backend, student, pnnx, tmp_path):
    sizes = {}
    for precision in ("fp32", "bf16", "fp16"):
        (tmp_path / precision).mkdir()
        artifact = backend.compile(student, make_target(backend, precision=precision), tmp_path / precision)
        sizes[precision] = artifact.files[1].stat().st_size
    assert sizes["fp32"] == sizes["bf16"] > 1.5 * sizes["fp16"]


def test_fp32_computes_in_no_fewer_bits_in_any_layer(backend, student, artifact):
    placement = backend.load(artifact, make_target(backend)).placement
    assert (placement.device, placement.precision) == ("cpu", "fp32")
    assert set(placement.nodes) == {"cpu fp32"}


def test_bf16_is_read_back_from_the_layers_that_compute_in_it(backend, student, pnnx, tmp_path):
    if "bf16" not in backend.probe().devices[0].precisions:
        pytest.skip("This CPU multiplies no bf16.")
    placement = opened(backend, student, make_target(backend, precision="bf16"), tmp_path).placement
    assert placement.precision == "bf16"
    assert placement.nodes["cpu bf16"] > 0
    assert placement.nodes["cpu fp32"] > 0


def test_a_precision_that_the_cpu_lacks_is_refused_when_the_artifact_is_loaded(
    backend, artifact, monkeypatch
):
    monkeypatch.setattr("kdbench_ncnn._devices.CPU_FACTS", artifact.files[0])
    with pytest.raises(Unsupported, match="not in bf16"):
        backend.load(artifact, make_target(backend, precision="bf16"))


def test_a_gpu_that_is_not_there_is_refused_when_the_artifact_is_loaded(backend, artifact):
    with pytest.raises(Unsupported, match=r"no gpu\.77 here"):
        backend.load(artifact, make_target(backend, device="gpu.77"))


@pytest.mark.parametrize("option", ["packing", "winograd", "sgemm", "lightmode"])
def test_no_option_changes_the_answer(backend, student, evaluation, artifact, option):
    session = backend.load(artifact, make_target(backend, {option: False}, threads=2))
    runner = backend.run(session, 1)
    logits = np.concatenate([runner((evaluation.inputs[0][row : row + 1],))[0].copy() for row in range(20)])
    assert np.abs(logits - evaluation.logits[:20]).max() <= 1e-3 * evaluation.logits.std()


def test_outputs_stay_where_they_are(backend, evaluation, artifact):
    runner = backend.run(backend.load(artifact, make_target(backend)), 1)
    first, second = (runner((evaluation.inputs[0][row : row + 1],))[0] for row in (0, 1))
    assert first is second


def test_weights_cut_short_are_an_error_that_says_where_to_look(backend, artifact):
    weights = artifact.files[1]
    weights.write_bytes(weights.read_bytes()[:20_000])
    with pytest.raises(BackendError, match=r"could not read network-0\.bin .*in the log"):
        backend.load(artifact, make_target(backend))


def test_a_failed_allocation_of_ncnn_is_a_memory_error():
    from kdbench_ncnn._runner import check

    with pytest.raises(MemoryError, match="could not run the network"):
        check(-100, "run the network")


def test_an_operator_that_ncnn_lacks_is_unsupported_by_its_name(backend, pnnx, tmp_path):
    one = TensorSpec("image", (3,), "float32"), TensorSpec("logits", (3,), "float32")
    scale = {"scale": np.float32(0.5), "zero": np.uint8(0)}
    student = written(
        tmp_path,
        lambda node: [
            node("QuantizeLinear", ["image", "scale", "zero"], ["narrow"]),
            node("DequantizeLinear", ["narrow", "scale", "zero"], ["logits"]),
        ],
        one[:1],
        one[1:],
        scale,
    )
    (tmp_path / "work").mkdir()
    with pytest.raises(Unsupported, match=r"ncnn knows no .*QuantizeLinear"):
        backend.compile(student, make_target(backend), tmp_path / "work")


def test_a_file_that_pnnx_cannot_read_is_unsupported_in_its_words(backend, student, pnnx, tmp_path):
    other = replace(student, inputs=(replace(student.inputs[0], shape=(3, 32, 32)),))
    with pytest.raises(Unsupported, match="expect"):
        backend.compile(other, make_target(backend), tmp_path)


def test_a_student_stored_in_fewer_bits_is_unsupported(backend, student, tmp_path):
    with pytest.raises(Unsupported, match="stored in int8"):
        backend.compile(replace(student, precision="int8"), make_target(backend, precision="int8"), tmp_path)


def test_without_pnnx_compile_says_what_to_install_and_artifacts_still_run(
    backend, student, evaluation, artifact, tmp_path, monkeypatch
):
    monkeypatch.setattr("kdbench_ncnn._convert.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported, match="not installed") as refusal:
        backend.compile(student, make_target(backend), tmp_path)
    assert "pip install --no-deps 'pnnx" in refusal.value.hint
    runner = backend.run(backend.load(artifact, make_target(backend)), 1)
    assert runner((evaluation.inputs[0][:1],))[0].shape == (1, 2)


def test_without_ncnn_the_probe_says_what_to_install(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)
    assert backend.probe() == Unavailable("ncnn is not installed.", fix="pip install 'ncnn>=1.0.20261020'")


def test_an_ncnn_from_before_batches_is_unavailable(backend, monkeypatch):
    monkeypatch.setattr("ncnn.Mat", SimpleNamespace())
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert "runs no batches" in answer.reason


def test_an_ncnn_that_fails_is_unavailable_with_its_reason(backend, monkeypatch):
    def failing():
        raise RuntimeError("no ICD")

    monkeypatch.setattr("ncnn.get_gpu_count", failing)
    answer = backend.probe()
    assert isinstance(answer, Unavailable)
    assert "no ICD" in answer.reason
