"""Precision in the graph: what is cast, what stays in fp32, and that the network is still the same."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402, TID253

from kdbench.accuracy import compare  # noqa: E402
from kdbench.casting import cast, samples  # noqa: E402
from kdbench.casting.rounding import FORMATS, rounded  # noqa: E402
from kdbench.errors import Unsupported  # noqa: E402
from kdbench.student import load_evaluation, open_student, teacher_of  # noqa: E402
from tests.graphs import Net, classifier, quantised, save  # noqa: E402
from tests.odd_students import model as odd_model, odd  # noqa: E402

LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
IMAGES = np.random.default_rng(3).random((4, 3, 8, 8), dtype=np.float32)
both = pytest.mark.parametrize("precision", ["fp16", "bf16"])


def run(path: Path, *inputs: np.ndarray) -> np.ndarray:
    """Run a file as its operators are specified; onnxruntime's CPU computes most of fp16 in fp32."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    fed = dict(zip((port.name for port in model.graph.input), inputs, strict=True))
    with np.errstate(all="ignore"):
        return np.asarray(ReferenceEvaluator(model).run(None, fed)[0])


def run_by_onnxruntime(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def ports(path: Path) -> list[bytes]:
    graph = onnx.load(path).graph
    return [port.SerializeToString(deterministic=True) for port in (*graph.input, *graph.output)]


def computed(path: Path) -> dict[str, int]:
    """Give the element type that each operator answers, by ONNX's own inference."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    types = {port.name: port.type.tensor_type.elem_type for port in model.graph.value_info}
    return {node.op_type: types.get(node.output[0], TensorProto.FLOAT) for node in model.graph.node}


def agrees(path: Path, student: Any, precision: Any) -> bool:
    """Tell whether all that can run a cast network agrees with the student's reference."""
    split = load_evaluation(student)
    inputs = split.inputs[0][: student.batch or 64]
    for runtime in (run, run_by_onnxruntime) if precision == "fp16" else (run,):
        logits = runtime(path, inputs).astype(np.float32)
        found = compare(logits, split.logits[: len(logits)], None, precision)
        if found.non_finite or found.flips or found.deviation > found.tolerance:
            return False
    return True


@both
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_embedded_networks_agree_with_their_references(role: str, precision: Any, tmp_path: Path) -> None:
    student = open_student("digits-2x5")
    student = student if role == "student" else teacher_of(student)
    source = student.files["onnx"]
    written = cast(source, precision, tmp_path, inputs=samples(student))
    assert agrees(written, student, precision)
    assert ports(written) == ports(source)
    assert {kind for name, kind in computed(written).items() if name != "Cast"} == {LOW[precision]}
    assert Counter(operators(written))["Cast"] == 2
    assert written.stat().st_size < 0.62 * source.stat().st_size


@both
@pytest.mark.parametrize("kind", ["uint8-nhwc", "vector", "probabilities"])
@pytest.mark.parametrize("batch", [None, 3])
def test_odd_students_agree_with_their_references(
    kind: str, batch: int | None, precision: Any, tmp_path: Path
) -> None:
    student = odd(tmp_path / "bundle", kind, batch=batch)
    written = cast(student.files["onnx"], precision, tmp_path, inputs=samples(student))
    assert agrees(written, student, precision)
    assert ports(written) == ports(student.files["onnx"])


@both
def test_what_a_mobile_network_is_made_of_is_cast(precision: Any, tmp_path: Path) -> None:
    net = Net()
    wide = net.node("HardSwish", net.node("Conv", "images", net.weight("k", 8, 3, 3, 3), pads=[1, 1, 1, 1]))
    deep = net.node("Conv", wide, net.weight("d", 8, 1, 3, 3), group=8, pads=[1, 1, 1, 1])
    pooled = net.node("ReduceMean", deep, net.tensor("axes", np.array([2, 3])), keepdims=1)
    gate = net.node("HardSigmoid", net.node("Conv", pooled, net.weight("s", 8, 8, 1, 1)))
    narrow = net.node("Conv", net.node("Mul", deep, gate), net.weight("p", 4, 8, 1, 1))
    clipped = net.node("Clip", narrow, net.tensor("low", np.float32(0)), net.tensor("high", np.float32(6)))
    flat = net.node("Flatten", net.node("GlobalAveragePool", clipped))
    source = save(net.model(net.head(flat, 3)), tmp_path)
    written = cast(source, precision, tmp_path, inputs=(IMAGES,))
    assert Counter(operators(written))["Cast"] == 2
    np.testing.assert_allclose(
        run(written, IMAGES), run(source, IMAGES), atol=0.3 if "b" in precision else 0.03
    )


@both
def test_a_resize_keeps_its_scales_and_integers_stay_integers(precision: Any, tmp_path: Path) -> None:
    net = Net()
    scales = net.tensor("scales", np.array([1, 1, 2, 2], np.float32))
    wide = net.node("Resize", net.node("Relu", "images"), "", scales, mode="linear")
    mean = net.node("ReduceMean", wide, net.tensor("axes", np.array([2, 3])), keepdims=0)
    source = save(net.model(net.node("Gemm", mean, net.weight("matrix", 3, 3))), tmp_path)
    written = cast(source, precision, tmp_path, inputs=(IMAGES,))
    kept = {tensor.name: tensor.data_type for tensor in onnx.load(written).graph.initializer}
    assert kept["scales"] == TensorProto.FLOAT
    assert kept["axes"] == TensorProto.INT64
    assert computed(written)["Resize"] == LOW[precision]


def test_a_weight_beyond_the_range_keeps_its_operator_in_fp32(tmp_path: Path) -> None:
    net = Net()
    large = net.node("Mul", "images", net.tensor("million", np.float32(1e6)))
    small = net.node("Div", large, net.tensor("again", np.float32(1e6)))
    source = save(net.model(net.head(net.node("Flatten", net.features(small)), 3)), tmp_path)
    half, brain = (cast(source, precision, tmp_path) for precision in ("fp16", "bf16"))
    assert computed(half)["Mul"] == computed(half)["Div"] == TensorProto.FLOAT
    assert computed(half)["Conv"] == TensorProto.FLOAT16
    assert computed(brain)["Mul"] == TensorProto.BFLOAT16
    np.testing.assert_allclose(run(half, IMAGES), run(source, IMAGES), rtol=1e-2, atol=1e-2)


def test_an_activation_beyond_the_range_is_seen_on_inputs_and_stays_in_fp32(tmp_path: Path) -> None:
    net = Net()
    value = "images"
    for step in range(3):
        value = net.node("Mul", value, net.tensor(f"up{step}", np.float32(100)))
    value = net.node("Mul", value, net.tensor("down", np.float32(1e-3)))
    flat = net.node("Flatten", net.features(net.node("Sqrt", value)))
    source = save(net.model(net.head(flat, 3)), tmp_path)
    blind = run(cast(source, "fp16", tmp_path), IMAGES)
    assert not np.isfinite(blind).all()
    written = cast(source, "fp16", tmp_path, inputs=(IMAGES,))
    expected = run(source, IMAGES)
    np.testing.assert_allclose(run(written, IMAGES), expected, atol=1e-2 * expected.std())
    assert computed(written)["Conv"] == TensorProto.FLOAT16


def test_a_constant_that_would_vanish_keeps_its_operator_in_fp32(tmp_path: Path) -> None:
    net = Net()
    safe = net.node("Add", net.node("Relu", "images"), net.tensor("epsilon", np.float32(1e-12)))
    flat = net.node("Flatten", net.features(net.node("Relu", safe)))
    written = cast(save(net.model(net.head(flat, 3)), tmp_path), "fp16", tmp_path, inputs=(IMAGES,))
    assert computed(written)["Add"] == TensorProto.FLOAT
    assert computed(written)["Conv"] == TensorProto.FLOAT16


@pytest.mark.parametrize(("smallest", "kind"), [(0.5, TensorProto.FLOAT16), (1e-9, TensorProto.FLOAT)])
def test_batch_normalisation_is_cast_unless_a_variance_vanishes(
    smallest: float, kind: int, tmp_path: Path
) -> None:
    net = Net()
    facts = [net.weight(name, 3) for name in ("scale", "shift", "mean")]
    variance = net.tensor("variance", np.array([smallest, 1, 2], np.float32))
    flat = net.node("Flatten", net.features(net.node("BatchNormalization", "images", *facts, variance)))
    source = save(net.model(net.head(flat, 3)), tmp_path)
    written = cast(source, "fp16", tmp_path, inputs=(IMAGES,))
    assert computed(written)["BatchNormalization"] == kind
    expected = run(source, IMAGES)
    np.testing.assert_allclose(run(written, IMAGES), expected, atol=1e-2 * expected.std())


def test_the_arithmetic_of_shapes_stays_exact(tmp_path: Path) -> None:
    net = Net()
    length = net.node("Slice", net.node("Shape", "facts"), *(net.tensor(n, np.array([v])) for n, v in ENDS))
    halved = net.node(
        "Mul", net.node("Cast", length, to=TensorProto.FLOAT), net.tensor("half", np.float32(0.5))
    )
    whole = net.node("Cast", net.node("Floor", halved), to=TensorProto.INT64)
    first = net.node(
        "Slice", "facts", net.tensor("zero", np.array([0])), whole, net.tensor("axis", np.array([1]))
    )
    total = net.node("ReduceMax", net.node("Relu", first), net.tensor("axes", np.array([1])), keepdims=1)
    model = net.model(total, shape=(4099,), inputs=("facts",), classes=None)
    source = save(model, tmp_path)
    facts = np.zeros((1, 4099), np.float32)
    facts[:, 2048:2050] = 0.5, 1
    written = cast(source, "fp16", tmp_path, inputs=(facts,))
    assert computed(written)["Mul"] == computed(written)["Floor"] == TensorProto.FLOAT
    np.testing.assert_array_equal(run(written, facts), run(source, facts))


ENDS = (("from", 1), ("to", 2))


@both
def test_graphs_inside_control_flow_stay_as_they_are(precision: Any, tmp_path: Path) -> None:
    net = Net()
    seen = net.node("Relu", net.node("Conv", "images", net.weight("kernel", 3, 3, 1, 1)))
    bright = net.node("Greater", net.node("ReduceMax", seen, keepdims=0), net.tensor("zero", np.float32(0)))
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, [seen], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 8, 8])],
        )
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    chosen = net.node("If", bright, **branches)
    pooled = net.node("Flatten", net.node("GlobalAveragePool", net.node("Identity", chosen)))
    source = save(net.model(pooled), tmp_path)
    written = cast(source, precision, tmp_path, inputs=(IMAGES,))
    np.testing.assert_allclose(run(written, IMAGES), run(source, IMAGES), atol=0.03)
    assert computed(written)["GlobalAveragePool"] == LOW[precision]


@both
def test_constants_that_are_nodes_and_nodes_without_names_are_cast(precision: Any, tmp_path: Path) -> None:
    net = Net()
    shift = net.node("Constant", value_float=0.25)
    scale = net.node("Constant", value=numpy_helper.from_array(np.float32(2)))
    scaled = net.node("Mul", net.node("Add", "images", shift), scale)
    model = net.model(net.head(net.node("Flatten", net.features(scaled)), 3))
    for node in model.graph.node:
        node.name = ""
    source = save(model, tmp_path)
    written = cast(source, precision, tmp_path, inputs=(IMAGES,))
    assert Counter(operators(written))["Cast"] == 2
    assert "Constant" not in operators(written)
    np.testing.assert_allclose(run(written, IMAGES), run(source, IMAGES), atol=0.1)


def test_no_name_of_the_graph_is_taken_twice(tmp_path: Path) -> None:
    net = Net()
    model = net.model(net.head(net.node("Flatten", net.features("images")), 3))
    for node in model.graph.node:
        node.output[:] = [name.replace("relu_1", "conv_0_fp16") for name in node.output]
        node.input[:] = [name.replace("relu_1", "conv_0_fp16") for name in node.input]
    source = save(model, tmp_path)
    written = cast(source, "fp16", tmp_path, inputs=(IMAGES,))
    np.testing.assert_allclose(run(written, IMAGES), run(source, IMAGES), atol=1e-2)


def test_an_operator_that_a_runtime_lacks_is_kept_in_fp32(tmp_path: Path) -> None:
    source = save(classifier(), tmp_path)
    written = cast(source, "bf16", tmp_path, inputs=(IMAGES,), keep=("Relu",))
    assert computed(written)["Relu"] == TensorProto.FLOAT
    assert computed(written)["Conv"] == TensorProto.BFLOAT16


def test_an_answer_that_is_read_inside_too_stays_an_fp32_output(tmp_path: Path) -> None:
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    source = save(net.model(scores, net.node("Softmax", scores)), tmp_path)
    written = cast(source, "fp16", tmp_path, inputs=(IMAGES,))
    assert ports(written) == ports(source)
    np.testing.assert_allclose(run(written, IMAGES), run(source, IMAGES), atol=1e-2)


def test_weights_that_are_only_stored_in_fewer_bits_are_no_obstacle(tmp_path: Path) -> None:
    net = Net()
    stored = net.weight("stored", 3, 4, dtype=np.float16)
    matrix = net.node("Cast", stored, to=TensorProto.FLOAT)
    product = net.node("MatMul", net.node("Flatten", net.node("GlobalMaxPool", "images")), matrix)
    source = save(net.model(product, classes=4), tmp_path)
    written = cast(source, "fp16", tmp_path, inputs=(IMAGES,))
    assert computed(written)["MatMul"] == TensorProto.FLOAT16


def test_a_file_of_the_first_years_is_cast(tmp_path: Path) -> None:
    net = Net()
    model = net.model(net.head(net.node("Flatten", net.features("images")), 3), ir_version=3)
    model.opset_import[0].version = 9
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    source = save(model, tmp_path)
    for precision in ("fp16", "bf16"):
        written = cast(source, precision, tmp_path, inputs=(IMAGES,))
        assert [port.name for port in onnx.load(written).graph.input] == ["images"]
        np.testing.assert_allclose(
            run(written, IMAGES),
            run_by_onnxruntime(source, IMAGES),
            atol=0.1 if precision == "bf16" else 0.01,
        )


def test_only_bf16_needs_newer_operators(tmp_path: Path) -> None:
    source = save(classifier(opset_imports=[helper.make_opsetid("", 13)], ir_version=7), tmp_path)
    half, brain = (onnx.load(cast(source, precision, tmp_path)) for precision in ("fp16", "bf16"))
    assert (half.opset_import[0].version, half.ir_version) == (13, 7)
    assert (brain.opset_import[0].version, brain.ir_version) == (22, 10)


@both
def test_the_same_file_gives_the_same_bytes_and_only_the_folder_is_written(
    precision: Any, tmp_path: Path
) -> None:
    source, folder, again = save(classifier(), tmp_path), tmp_path / "one", tmp_path / "two"
    before = source.read_bytes()
    folder.mkdir()
    again.mkdir()
    written = cast(source, precision, folder, inputs=(IMAGES,))
    assert written == folder / f"model.{precision}.onnx"
    script = (
        "import sys, numpy as np; from pathlib import Path; from kdbench.casting import cast;"
        "cast(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]),"
        "inputs=(np.random.default_rng(3).random((4, 3, 8, 8), dtype=np.float32),))"
    )
    subprocess.run([sys.executable, "-c", script, source, precision, again], check=True)
    assert (again / written.name).read_bytes() == written.read_bytes()
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "one", "two"]


def external(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="weights", size_threshold=0)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: save(quantised(), folder), "is quantised already ('QuantizeLinear')"),
        (lambda folder: save(quantised(activations=False), folder), "('DequantizeLinear')"),
        (lambda folder: save(classifier(dtype=np.float16), folder), "computes in less than fp32 already"),
        (external, "keeps its weights in another file"),
    ],
)
def test_a_network_that_cannot_be_cast_is_refused_with_a_hint(
    make: Any, sentence: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    with pytest.raises(Unsupported) as refused:
        cast(source, "fp16", tmp_path)
    assert sentence in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_odd_students_that_have_fewer_bits_already_are_refused(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "odd.onnx"
    source.write_bytes(odd_model(kind))
    with pytest.raises(Unsupported, match="already"):
        cast(source, "bf16", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x0a"])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "bad.onnx"
    source.write_bytes(content)
    with pytest.raises(Unsupported, match="ONNX model"):
        cast(source, "fp16", tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "int8"])
def test_other_precisions_are_refused(precision: Any, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="fp16 or bf16 only"):
        cast(save(classifier(), tmp_path), precision, tmp_path)


def test_a_graph_in_which_nothing_can_be_cast_is_refused(tmp_path: Path) -> None:
    source = save(classifier(), tmp_path)
    everything = set(operators(source))
    with pytest.raises(Unsupported, match="no node of it"):
        cast(source, "fp16", tmp_path, keep=everything)


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="range of the network's values"):
        cast(save(classifier(), tmp_path), "fp16", tmp_path, inputs=(IMAGES[:, :2],))


def test_without_onnx_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = save(classifier(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(Unsupported) as refused:
        cast(source, "fp16", tmp_path)
    assert "kdbench[casting]" in refused.value.hint


def test_importing_it_imports_no_onnx() -> None:
    script = "import sys, kdbench.casting; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_samples_are_calibration_images_or_else_of_the_evaluation_split(tmp_path: Path) -> None:
    student = open_student("digits-2x5")
    assert samples(student)[0].shape == (8, 3, 16, 16)
    without = odd(tmp_path / "bundle", "vector", batch=20)
    np.testing.assert_array_equal(samples(without)[0], load_evaluation(without).inputs[0][:20])


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    types = pytest.importorskip("ml_dtypes")
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 20_000, dtype=np.uint32)
    ties = (random.integers(0, 2**16, 2_000, dtype=np.uint32) << 16) | 0x8000
    values = np.concatenate([bits, ties]).view(np.float32)
    tensor = rounded(numpy_helper.from_array(values), "low", FORMATS[1])
    with np.errstate(invalid="ignore"):
        expected = values.astype(types.bfloat16)
    found = np.frombuffer(tensor.raw_data, types.bfloat16)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


@both
@pytest.mark.parametrize("kind", ["digits-2x5", "uint8-nhwc", "probabilities"])
def test_a_strongly_typed_tensorrt_network_computes_in_it(kind: str, precision: Any, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    student = open_student(kind) if kind == "digits-2x5" else odd(tmp_path / "bundle", kind, batch=2)
    written = cast(student.files["onnx"], precision, tmp_path, inputs=samples(student))
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(written.read_bytes()), [str(parser.get_error(at)) for at in range(parser.num_errors)]
    source = trt.DataType.UINT8 if kind == "uint8-nhwc" else trt.DataType.FLOAT
    assert network.get_input(0).dtype == source
    assert network.get_output(0).dtype == trt.DataType.FLOAT
    low = trt.DataType.HALF if precision == "fp16" else trt.DataType.BF16
    types = {
        layer.get_output(0).dtype
        for layer in network
        if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.ACTIVATION)
    }
    assert types == {low}
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if -1 in network.get_input(0).shape:
        shape = [2 if axis == -1 else axis for axis in network.get_input(0).shape]
        profile.set_shape(network.get_input(0).name, shape, shape, shape)
        config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
