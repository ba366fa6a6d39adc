"""What an imported graph answers, at which batch sizes, in which precision, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402, TID253

from kdbench.errors import StudentError, UsageError  # noqa: E402
from kdbench.intake.cost import count_macs, count_parameters  # noqa: E402
from kdbench.intake.images import random_images  # noqa: E402
from kdbench.intake.inferred import infer  # noqa: E402
from kdbench.intake.ports import Input, layout_of  # noqa: E402
from kdbench.intake.precision import find_precision  # noqa: E402
from kdbench.intake.session import reason  # noqa: E402
from kdbench.student import load_evaluation, read_card  # noqa: E402
from tests.graphs import Net, answers, classifier, imported, quantised, refusal  # noqa: E402


def test_the_logits_inside_a_graph_can_be_chosen(tmp_path):
    taken = imported(classifier(ends="Softmax"), tmp_path, output_tensor="gemm_4")
    assert read_card(taken.student).meaning == "logits"
    assert "leaves out 1 node" in taken.changes[0]


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        (lambda net, x: net.node("ArgMax", x, axis=1), "the class itself"),
        (lambda net, x: net.node("ReduceMax", x, keepdims=0), "first axis is not the images"),
        (lambda net, x: net.node("Transpose", x), "first axis is not the images"),
    ],
)
def test_an_output_that_is_no_row_of_scores_is_refused(tmp_path, tail, says):
    net = Net()
    found = tail(net, net.head(net.node("Flatten", net.features("images")), 3))
    outcome = np.int64 if "class" in says else None
    assert says in refusal(net.model(found, classes=None, outcome=outcome), tmp_path)


def test_a_map_of_scores_is_refused_as_something_else_than_a_classifier(tmp_path):
    net = Net()
    found = net.node("Conv", "images", net.weight("kernel", 4, 3, 3, 3))
    assert "(1, 4, 6, 6); a classifier answers (images, classes)" in refusal(
        net.model(found, classes=None), tmp_path
    )


def test_scores_with_trailing_axes_of_one_are_flattened(tmp_path):
    net = Net()
    taken = imported(net.model(net.features("images"), classes=None), tmp_path)
    assert taken.student.outputs[0].shape == (4,)
    assert "its output (4, 1, 1) an image is flattened" in taken.changes


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_per_image_becomes_two_scores(tmp_path, flat):
    net = Net()
    logit = net.head(net.node("Flatten", net.features("images")), 1)
    if flat:
        logit = net.node("Squeeze", logit, net.tensor("axes", np.array([1])))
    taken = imported(net.model(logit, classes=None), tmp_path)
    logits = load_evaluation(taken.student).logits
    assert logits.shape == (128, 2)
    assert (logits[:, 0] == 0).all()
    assert (logits[:, 1] != 0).all()
    assert taken.student.parameters == 4 * 3 * 9 + 4 + 4 + 1
    assert any("(0, z)" in change for change in taken.changes)


def test_one_probability_per_image_becomes_two(tmp_path):
    taken = imported(classifier(classes=1, ends="Sigmoid"), tmp_path)
    rows = load_evaluation(taken.student).logits
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-6)
    assert read_card(taken.student).meaning == "probabilities"
    assert taken.student.parameters == 4 * 3 * 9 + 4 + 4 + 1
    assert any("(1 - p, p)" in change for change in taken.changes)
    model = classifier(classes=1, ends="Sigmoid")
    assert "ends in a sigmoid" in refusal(model, tmp_path, meaning="logits", output=tmp_path / "other")


def test_one_score_that_could_be_either_must_be_declared(tmp_path):
    net = Net()
    kernel = net.tensor("kernel", np.full((1, 3, 8, 8), 1 / 192, np.float32))
    mean = net.node("Flatten", net.node("Conv", "images", kernel))
    model = net.model(mean, classes=1)
    assert "cannot be told" in refusal(model, tmp_path)
    assert "has no sigmoid" in refusal(classifier(classes=1), tmp_path, meaning="probabilities")
    assert read_card(imported(model, tmp_path, meaning="logits").student).meaning == "logits"


def test_one_class_of_a_softmax_is_refused_as_one_that_is_always_sure(tmp_path):
    told = refusal(classifier(classes=1, ends="Softmax"), tmp_path)
    assert "--meaning" in told


def test_probabilities_are_found_and_a_wrong_declaration_is_refused(tmp_path):
    assert "no softmax" in refusal(classifier(), tmp_path, meaning="probabilities")
    assert "Logits are declared" in refusal(classifier(ends="Softmax"), tmp_path, meaning="logits")
    assert read_card(imported(classifier(ends="Softmax"), tmp_path).student).meaning == "probabilities"


def test_independent_sigmoids_are_no_probabilities(tmp_path):
    assert "no softmax" in refusal(classifier(ends="Sigmoid"), tmp_path, meaning="probabilities")
    assert read_card(imported(classifier(ends="Sigmoid"), tmp_path).student).meaning == "logits"


def test_a_fixed_batch_of_eight_becomes_any_where_the_graph_lets_it(tmp_path):
    free = imported(classifier(), tmp_path, output=tmp_path / "free")
    taken = imported(classifier(batch=8), tmp_path)
    assert taken.student.batch is None
    assert "its batch size of 8 is any now" in taken.changes
    np.testing.assert_array_equal(load_evaluation(taken.student).logits, load_evaluation(free.student).logits)


def test_a_reshape_that_names_the_batch_size_is_told_to_keep_it(tmp_path):
    net = Net()
    flat = net.node("Reshape", net.features("images"), net.tensor("target", np.array([8, 4])))
    taken = imported(net.model(net.head(flat, 3), batch=8), tmp_path)
    assert taken.student.batch is None
    assert "the batch axis is kept, whatever its size, by 1 reshape that named it" in taken.changes
    assert answers(taken, np.zeros((3, 3, 8, 8), np.float32)).shape == (3, 3)


@pytest.mark.parametrize("target", [[8, 4], [8, -1]])
def test_a_reshape_with_its_attribute_written_out_is_loosened_too(tmp_path, target):
    """As the older exporter of torch writes it."""

    def batch(**attributes: int) -> int | None:
        net = Net()
        shape = net.tensor("target", np.array(target))
        flat = net.node("Reshape", net.features("images"), shape, **attributes)
        output = tmp_path / str(attributes)
        return imported(net.model(net.head(flat, 3), batch=8), tmp_path, output=output).student.batch

    assert batch(allowzero=0) is None
    assert batch(allowzero=1) == 8


def test_a_batch_of_eight_that_is_built_in_stays(tmp_path):
    net = Net()
    flat = net.node("Flatten", net.features("images"))
    fixed = net.node("Add", flat, net.tensor("eight", np.zeros((8, 4), np.float32)))
    taken = imported(net.model(net.head(fixed, 3), batch=8), tmp_path, images=100)
    assert taken.student.batch == 8
    assert any("the batch size stays 8" in change for change in taken.changes)
    evaluation = load_evaluation(taken.student)
    assert evaluation.logits.shape == (100, 3)
    np.testing.assert_allclose(
        answers(taken, evaluation.inputs[0][:8]), evaluation.logits[:8], rtol=1e-5, atol=1e-6
    )


def test_a_promised_batch_axis_that_does_not_work_is_fixed_at_one(tmp_path):
    net = Net()
    flat = net.node("Reshape", net.features("images"), net.tensor("target", np.array([1, 4])))
    assert imported(net.model(net.head(flat, 3)), tmp_path).student.batch == 1


def test_images_that_look_at_their_neighbours_make_a_batch_of_one(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    centred = net.node("Sub", scores, net.node("ReduceMean", scores, net.tensor("axes", np.array([0]))))
    mixed = net.node("Add", net.node("Mul", centred, net.tensor("ten", np.float32(10))), scores)
    model = net.model(mixed)
    assert imported(model, tmp_path).student.batch == 1
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    told = refusal(model, tmp_path, output=tmp_path / "four")
    assert "by what stands beside it" in told


def test_a_graph_with_chance_in_it_is_refused(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    noise = net.node("RandomNormalLike", scores)
    assert "differently from call to call" in refusal(net.model(net.node("Add", scores, noise)), tmp_path)


@pytest.mark.parametrize(("value", "says"), [(np.nan, "1 of 108 values that are NaN"), (np.inf, "infinite")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, value, says):
    model = classifier()
    kernel = numpy_helper.to_array(model.graph.initializer[0]).copy()
    kernel[0, 0, 0, 0] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    told = refusal(model, tmp_path)
    assert "'kernel'" in told
    assert says in told


def test_an_infinite_bound_is_no_fault(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    clipped = net.node("Clip", scores, net.tensor("low", np.float32(-np.inf)))
    imported(net.model(clipped), tmp_path)


def test_answers_that_are_no_numbers_are_refused(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    assert "NaN or infinity" in refusal(
        net.model(net.node("Log", net.node("Neg", net.node("Abs", scores)))), tmp_path
    )


def test_open_sizes_need_a_shape_and_fixed_ones_do_not_take_another(tmp_path):
    model = classifier(shape=(3, "height", "width"))
    assert "leaves sizes open: (N, 3, height, width)" in refusal(model, tmp_path)
    assert "does not fit" in refusal(model, tmp_path, shape=(1, 8, 8))
    assert "does not fit" in refusal(classifier(), tmp_path, shape=(3, 9, 9))
    taken = imported(model, tmp_path, shape=(3, 12, 10))
    assert taken.student.inputs[0].shape == (3, 12, 10)
    assert answers(taken, np.zeros((2, 3, 12, 10), np.float32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((3, 8, 8), "NCHW"),
        ((8, 8, 3), "NHWC"),
        ((1, 8, 8), "NCHW"),
        ((4, 8, 8), "NCHW"),
        ((8, 8, 6), "NHWC"),
        ((5,), "any"),
    ],
)
def test_the_layout_is_told_by_the_channels(shape, layout):
    assert layout_of(shape, None) == layout


def test_a_layout_that_cannot_be_told_must_be_said():
    with pytest.raises(StudentError, match="--layout"):
        layout_of((3, 8, 3), None)
    assert layout_of((3, 8, 3), "NHWC") == "NHWC"
    with pytest.raises(UsageError, match="three axes"):
        layout_of((5,), "NCHW")


def test_channels_last_and_features_without_axes_are_taken(tmp_path):
    net = Net()
    turned = net.node("Transpose", "images", perm=[0, 3, 1, 2])
    scores = net.head(net.node("Flatten", net.features(turned)), 3)
    card = read_card(imported(net.model(scores, shape=(8, 8, 3)), tmp_path).student)
    assert card.encoding.layout == "NHWC"
    net = Net()
    card = read_card(
        imported(net.model(net.head("images", 3), shape=(4,)), tmp_path, output=tmp_path / "flat").student
    )
    assert (card.encoding.layout, card.encoding.dtype, card.encoding.divisor) == ("any", "float32", 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_an_integer_input_is_fed_bytes(tmp_path, dtype):
    net = Net()
    scores = net.head(net.node("Flatten", net.features(net.node("Cast", "images", to=1))), 3)
    taken = imported(net.model(scores, dtype=dtype, outcome=np.float32), tmp_path)
    (inputs,) = load_evaluation(taken.student).inputs
    assert inputs.dtype == dtype
    assert inputs.std() > 20
    assert taken.student.precision == "fp32"
    assert dtype == np.uint8 or inputs.min() < -20


def test_an_input_that_is_no_image_is_refused(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features(net.node("Cast", "images", to=1))), 3)
    assert "is int64; expected float32" in refusal(
        net.model(scores, dtype=np.int64, outcome=np.float32), tmp_path
    )


def test_half_precision_is_found_in_weights_and_products(tmp_path):
    taken = imported(classifier(dtype=np.float16), tmp_path)
    assert taken.student.precision == "fp16"
    assert taken.student.outputs[0].dtype == "float16"
    assert load_evaluation(taken.student).logits.dtype == np.float32


def test_weights_kept_in_half_but_used_in_full_precision_are_fp32(tmp_path):
    net = Net()
    kernel = net.node("Cast", net.weight("kernel", 4, 3, 3, 3, dtype=np.float16), to=1)
    pooled = net.node("GlobalAveragePool", net.node("Conv", "images", kernel))
    taken = imported(net.model(net.head(net.node("Flatten", pooled), 3)), tmp_path)
    assert taken.student.precision == "fp32"
    assert taken.student.parameters == 4 * 27 + 4 * 3 + 3


def test_a_quantised_model_is_int8_and_its_weights_count(tmp_path):
    taken = imported(quantised(), tmp_path)
    assert taken.student.precision == "int8"
    assert taken.student.parameters == 4 * 27 + 4 * 3 + 3
    assert read_card(taken.student).network.bytes == 4 * 27 + 4 * (4 * 3 + 3)
    assert taken.student.macs == 6 * 6 * 4 * 27 + 12


def test_quantised_weights_alone_leave_the_precision_as_it_is(tmp_path):
    assert imported(quantised(activations=False), tmp_path).student.precision == "fp32"


def test_integer_products_are_int8(tmp_path):
    net = Net()
    data = [net.tensor("a", np.float32(0.01)), net.tensor("az", np.uint8(0))]
    stored = net.tensor("kernel", net.rng.integers(-50, 50, (4, 3, 3, 3)).astype(np.int8))
    weights = [stored, net.tensor("b", np.float32(0.01)), net.tensor("bz", np.int8(0))]
    answered = [net.tensor("c", np.float32(0.05)), net.tensor("cz", np.uint8(128))]
    convolved = net.node(
        "QLinearConv", net.node("QuantizeLinear", "images", *data), *data, *weights, *answered
    )
    pooled = net.node("GlobalAveragePool", net.node("DequantizeLinear", convolved, *answered))
    taken = imported(net.model(net.head(net.node("Flatten", pooled), 3)), tmp_path)
    assert (taken.student.precision, taken.student.parameters) == ("int8", 108 + 15)
    assert taken.student.macs == 6 * 6 * 4 * 27 + 12


def test_the_cost_of_every_kind_of_product_by_hand():
    net = Net()
    up = net.node("ConvTranspose", "images", net.weight("up", 3, 5, 2, 2), strides=[2, 2])
    grouped = net.node("Conv", up, net.weight("grouped", 10, 1, 3, 3), group=5)
    norm = [net.weight(name, 10) for name in ("scale", "shift", "mean", "var")]
    flat = net.node("Flatten", net.node("GlobalAveragePool", net.node("BatchNormalization", grouped, *norm)))
    scores = net.node(
        "Gemm", net.node("MatMul", flat, net.weight("a", 10, 6)), net.weight("b", 4, 6), transB=1
    )
    model = net.model(scores, classes=4)
    # 8x8 inputs, each times 5 maps of 2x2; 16x16 becomes 14x14, each of 10 maps over 1 channel of 3x3
    assert count_macs(model, infer(model).shapes) == 8 * 8 * 3 * 5 * 4 + 14 * 14 * 10 * 9 + 10 * 6 + 6 * 4
    assert count_parameters(model) == 60 + 90 + 20 + 60 + 24


def test_the_cost_is_unknown_where_a_shape_or_an_operator_is():
    net = Net()
    scores = net.node("Einsum", net.node("Flatten", "images"), net.weight("w", 192, 3), equation="ij,jk->ik")
    model = net.model(scores)
    assert count_macs(model, infer(model).shapes) is None
    assert find_precision(model, infer(model)) == "fp32"
    model = classifier(shape=(3, "h", "w"))
    assert count_macs(model, infer(model).shapes) is None


def test_normalisation_in_the_graph_is_noticed_and_not_counted(tmp_path):
    net = Net()
    mean, std = (net.tensor(name, np.full((1, 3, 1, 1), 0.5, np.float32)) for name in ("mean", "std"))
    ready = net.node("Div", net.node("Sub", "images", mean), std)
    taken = imported(
        net.model(net.head(net.node("Flatten", net.features(ready)), 3)), tmp_path, mean=(0.5,), std=(0.2,)
    )
    card = read_card(taken.student)
    assert (card.encoding.mean, card.encoding.std) == ((0.5,) * 3, (0.2,) * 3)
    assert card.network.parameters == 4 * 27 + 4 + 15
    assert any("begins with Sub, Div" in note and "twice" in note for note in taken.notes)
    facts = dict(taken.facts)
    assert facts["a pixel"].startswith("input = (value / 255 - 0.5) / 0.2, as float32")


def test_mean_and_std_are_one_for_each_channel(tmp_path):
    assert "--mean has 2 values" in refusal(classifier(), tmp_path, mean=(0.1, 0.2))
    assert "above 0" in refusal(classifier(), tmp_path, std=(0.1, 0.0, 1.0))


def test_random_images_are_smooth_unlike_and_drawn_from_the_seed():
    port = Input("images", "float32", (3, 32, 24), None, "NCHW")
    images = random_images(port, 20, 0)
    assert (images.dtype, images.shape) == (np.uint8, (20, 3, 32, 24))
    np.testing.assert_array_equal(images[:5], random_images(port, 5, 0))
    assert (images[:5] != random_images(port, 5, 1)).any()
    steps = np.abs(np.diff(images.astype(int), axis=3)).mean()
    assert steps < images.std() / 3
    last = random_images(Input("images", "uint8", (32, 24, 3), None, "NHWC"), 20, 0)
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), images)


def test_fewer_random_images_are_made_of_a_huge_input(tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.intake.images.BUDGET_BYTES", 10 * 3 * 8 * 8 * 4)
    assert imported(classifier(), tmp_path).images == 10


def test_too_few_random_images_and_other_strange_wishes_are_refused(tmp_path):
    assert "at least 64" in refusal(classifier(), tmp_path, images=10)
    assert "--weights" in refusal(classifier(), tmp_path, weights=tmp_path / "w.safetensors")
    assert "--fit" in refusal(classifier(), tmp_path, fit="crop")
    assert "--name" in refusal(classifier(), tmp_path, name="My Net")
    assert "neither a file nor an installed network" in refusal(tmp_path / "none.onnx", tmp_path)
    assert "--classes names 2" in refusal(classifier(), tmp_path, classes=("a", "b"))


def test_the_cost_is_counted_behind_operators_whose_shapes_onnx_does_not_infer(tmp_path):
    net = Net()
    gelu = net.node("Gelu", net.node("Flatten", net.features("images")))
    net.nodes[-1].domain = "com.microsoft"
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = net.model(
        net.head(net.node("MatMul", gelu, net.weight("square", 4, 4)), 3), opset_imports=domains
    )
    assert imported(model, tmp_path).student.macs == 4 * 4 * 4 * 27 + 16 + 12


def test_scales_that_are_found_in_the_batch_are_told_and_the_reference_is_one_by_one(tmp_path):
    net = Net()
    flat = net.node("Flatten", net.features("images"))
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", [flat], ["q", "scale", "zero"]))
    stored = net.tensor("square", net.rng.integers(-50, 50, (4, 3)).astype(np.int8))
    product = net.node("Cast", net.node("MatMulInteger", "q", stored, "zero"), to=TensorProto.FLOAT)
    taken = imported(net.model(net.node("Mul", product, "scale")), tmp_path)
    assert (taken.student.precision, taken.student.parameters) == ("int8", 112 + 12)
    assert any("what is in the batch" in note for note in taken.notes)
    evaluation = load_evaluation(taken.student)
    alone = np.concatenate([answers(taken, image[None]) for image in evaluation.inputs[0][:5]])
    np.testing.assert_array_equal(alone, evaluation.logits[:5])


def test_answers_that_are_all_the_same_are_told(tmp_path):
    net = Net()
    silent = net.node("Mul", net.node("Flatten", net.features("images")), net.tensor("none", np.float32(0)))
    taken = imported(net.model(net.head(silent, 3)), tmp_path)
    assert any("the very same answer" in note for note in taken.notes)


def test_a_double_or_quantised_output_is_converted(tmp_path):
    net = Net()
    scores = net.node("Cast", net.head(net.node("Flatten", net.features("images")), 3), to=TensorProto.DOUBLE)
    taken = imported(net.model(scores, outcome=np.float64), tmp_path)
    assert taken.student.outputs[0].dtype == "float32"
    assert "its output, tensor(double), is converted to float32" in taken.changes


def test_a_classifier_of_classical_machine_learning_is_taken_by_its_scores(tmp_path):
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(
                    "LinearClassifier",
                    ["features"],
                    ["label", "scores"],
                    domain="ai.onnx.ml",
                    coefficients=[0.1 * n for n in range(12)],
                    intercepts=[0.0, 0.1, 0.2],
                    classlabels_ints=[0, 1, 2],
                )
            ],
            "graph",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 4])],
            [
                helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 3]),
            ],
        ),
        opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=10,
    )
    assert "'label' (?), 'scores' (?, 3)" in refusal(model, tmp_path)
    student = imported(model, tmp_path, output_tensor="scores").student
    assert (student.parameters, student.macs, student.batch) == (None, None, None)


def test_shapes_are_inferred_without_the_large_weights():
    net = Net()
    flat = net.node("Reshape", "images", net.tensor("target", np.array([-1, 192])))
    hidden = net.node("MatMul", flat, net.weight("large", 192, 64))
    found = infer(net.model(net.node("Gemm", hidden, net.weight("head", 64, 3))))
    assert found.shapes[hidden] == (1, 64)
    assert found.shapes["large"] == (192, 64)
    assert found.types["large"] == found.types[hidden] == TensorProto.FLOAT


def test_what_onnxruntime_says_of_a_node_is_told_without_its_source_files():
    fault = RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : "
        "Non-zero status code returned while running Loop node. Name:'' Status Message: "
        "Non-zero status code returned while running Reshape node. Name:'/r' Status Message: "
        "/onnxruntime_src/onnxruntime/core/reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper("
        "const onnxruntime::TensorShape&, bool) sizes differ. It cannot be reshaped.\n"
    )
    assert reason(fault) == "Loop node: Reshape node '/r': sizes differ. It cannot be reshaped"


def test_a_model_that_wants_more_memory_than_there_is_is_refused(tmp_path):
    net = Net()
    net.tensor("length", np.array([1 << 45]))
    huge = net.node("ReduceMean", net.node("ConstantOfShape", "length"), keepdims=0)
    model = net.model(net.head(net.node("Flatten", net.features(net.node("Add", "images", huge))), 3))
    assert "It wants more memory than there is" in refusal(model, tmp_path)
