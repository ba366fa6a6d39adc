"""Somebody's ONNX file: read safely, brought to one input and one output, refused in a sentence."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402, TID253

from kdbench.errors import KdbenchError, StudentError, UsageError  # noqa: E402
from kdbench.intake import on_the_fly  # noqa: E402
from kdbench.intake.graph import packed, read_graph  # noqa: E402
from kdbench.student import load_evaluation, open_student, read_card  # noqa: E402
from tests.graphs import Net, answers, classifier, imported, quantised, refusal, save  # noqa: E402


def test_a_classifier_becomes_a_bundle_that_opens_and_says_what_it_is(tmp_path):
    taken = imported(classifier(), tmp_path)
    student, card = open_student(taken.student.root), read_card(taken.student)
    assert student.sha256 == taken.student.sha256
    assert student.inputs[0].shape == (3, 8, 8)
    assert (student.precision, student.batch, student.factory) == ("fp32", None, None)
    assert student.parameters == 4 * 3 * 9 + 4 + 4 * 3 + 3
    assert student.macs == 4 * 4 * 4 * 27 + 4 * 3
    assert (card.meaning, card.encoding.layout, card.encoding.divisor) == ("logits", "NCHW", 255.0)
    assert (card.name, card.classes, card.licence) == ("model", ("0", "1", "2"), "not stated")
    assert (taken.correct, taken.reason, taken.images) == (None, "no labels", 128)
    assert taken.changes == ()


def test_the_reference_is_what_the_graph_answers_and_images_come_without_labels(tmp_path):
    taken = imported(classifier(), tmp_path)
    evaluation = load_evaluation(taken.student)
    assert evaluation.labels is None
    assert len({image.tobytes() for image in evaluation.inputs[0]}) == 128
    np.testing.assert_allclose(answers(taken, evaluation.inputs[0]), evaluation.logits, rtol=1e-5, atol=1e-6)


def test_the_same_file_gives_the_same_bytes(tmp_path):
    files = []
    for number in range(2):
        taken = imported(classifier(), tmp_path, output=tmp_path / f"bundle{number}")
        files.append({path.name: path.read_bytes() for path in taken.student.root.iterdir()})
    assert files[0] == files[1]
    for content in files[0].values():
        assert str(tmp_path).encode() not in content


def test_notes_in_the_file_that_may_hold_paths_are_left_out(tmp_path):
    model = classifier()
    model.doc_string = model.graph.doc_string = model.graph.node[0].doc_string = "/home/somebody/net.py"
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "stack", "/home/somebody/net.py"
    taken = imported(model, tmp_path)
    for path in taken.student.root.iterdir():
        assert b"somebody" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a", b"\0" * 100])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "is not an ONNX model, or not a whole one" in refusal(path, tmp_path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0.01, 0.99))
def test_a_file_that_was_cut_short_is_refused(tmp_path, part):
    whole = classifier().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: int(len(whole) * part)])
    refusal(path, tmp_path)


def test_a_file_larger_than_the_limit_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.intake.graph.FILE_LIMIT_BYTES", 100)
    assert "more than" in refusal(classifier(), tmp_path)


def external(folder: Path, location: str, **facts: str) -> Path:
    """Save the classifier with its kernel in another file."""
    model = classifier()
    kernel = model.graph.initializer[0]
    content = kernel.raw_data
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **facts}.items():
        entry = kernel.external_data.add()
        entry.key, entry.value = key, value
    (folder / "weights.bin").write_bytes(b"1234" + content)
    return save(model, folder)


def test_weights_in_a_file_beside_the_model_are_taken_into_it(tmp_path):
    inside = imported(classifier(), tmp_path, output=tmp_path / "one")
    taken = imported(external(tmp_path, "weights.bin", offset="4"), tmp_path)
    assert taken.changes == ("1 weight from other files put into this one",)
    assert taken.student.files["onnx"].read_bytes() == inside.student.files["onnx"].read_bytes()


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..\\weights.bin", "", "a//b"]
)
def test_weights_outside_the_folder_of_the_model_are_refused(tmp_path, location):
    home = tmp_path / "home"
    home.mkdir()
    path = external(home, location)
    (home / "weights.bin").rename(tmp_path / "weights.bin")
    assert "not a path inside the model's own folder" in refusal(path, tmp_path)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    path = external(home, "weights.bin", offset="4")
    (home / "weights.bin").rename(tmp_path / "weights.bin")
    (home / "weights.bin").symlink_to(tmp_path / "weights.bin")
    assert "not a path inside" in refusal(path, tmp_path)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"location": "none.bin"}, "not beside the model"),
        ({"location": "weights.bin", "offset": "8"}, "ends before the weight 'kernel'"),
        ({"location": "weights.bin", "offset": "-1"}, "where a number should be"),
        ({"location": "weights.bin", "length": "7"}, "needs 432 bytes"),
    ],
)
def test_external_weights_that_are_not_whole_are_refused(tmp_path, facts, says):
    assert says in refusal(external(tmp_path, **facts), tmp_path)


def test_external_weights_that_would_be_too_large_are_refused(tmp_path, monkeypatch):
    path = external(tmp_path, "weights.bin", offset="4")
    monkeypatch.setattr("kdbench.intake.external.FILE_LIMIT_BYTES", path.stat().st_size + 100)
    assert "more than" in refusal(path, tmp_path)


def test_a_custom_operator_is_refused_with_its_name_domain_and_node(tmp_path):
    net = Net()
    net.nodes.append(helper.make_node("Sharpen", ["images"], ["sharp"], name="first", domain="com.acme"))
    scores = net.head(net.node("Flatten", net.features("sharp")), 3)
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)]
    told = refusal(net.model(scores, opset_imports=domains), tmp_path)
    assert "'Sharpen' of the domain 'com.acme' (node 'first')" in told


def test_a_custom_operator_inside_a_branch_is_found(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    branch = helper.make_graph(
        [helper.make_node("Twist", [scores], ["twisted"], domain="com.acme")],
        "branch",
        [],
        [helper.make_tensor_value_info("twisted", TensorProto.FLOAT, None)],
    )
    condition = net.tensor("yes", np.array(True))
    chosen = net.node("If", condition, then_branch=branch, else_branch=branch)
    assert "'Twist'" in refusal(net.model(chosen), tmp_path)


def test_an_unknown_operator_and_a_missing_opset_are_refused(tmp_path):
    net = Net()
    assert "'Sharpen'" in refusal(net.model(net.node("Sharpen", "images")), tmp_path)
    model = classifier(opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)])
    assert "no version of it" in refusal(model, tmp_path)


@pytest.mark.parametrize(
    "versions", [{"opset_imports": [helper.make_opsetid("", 999)]}, {"ir_version": 999}, {"ir_version": 14}]
)
def test_a_model_newer_than_the_runtime_is_refused(tmp_path, versions):
    model = classifier()
    del model.opset_import[:]
    model.opset_import.extend(versions.get("opset_imports", [helper.make_opsetid("", 20)]))
    model.ir_version = versions.get("ir_version", 10)
    told = refusal(model, tmp_path)
    assert "999" in told or "IR version: 14" in told


def function_model(body: list[Any]) -> Any:
    net = Net()
    net.nodes.append(helper.make_node("Twice", ["images"], ["doubled"], domain="own"))
    scores = net.head(net.node("Flatten", net.features("doubled")), 3)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Twice", ["x"], ["y"], body, opsets)
    return net.model(scores, opset_imports=opsets, functions=[function])


def test_functions_of_the_model_are_written_out(tmp_path):
    taken = imported(function_model([helper.make_node("Add", ["x", "x"], ["y"])]), tmp_path)
    assert taken.changes == ("its functions are written out",)
    assert not onnx.load(taken.student.files["onnx"]).functions


def test_a_function_that_calls_itself_is_refused(tmp_path):
    assert "'Twice'" in refusal(
        function_model([helper.make_node("Twice", ["x"], ["y"], domain="own")]), tmp_path
    )


def test_several_inputs_are_refused_by_name(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features(net.node("Add", "images", "masks"))), 3)
    told = refusal(net.model(scores, inputs=("images", "masks")), tmp_path)
    assert "2 inputs ('images' (N, 3, 8, 8), 'masks' (N, 3, 8, 8))" in told


def test_an_input_that_nothing_reads_and_listed_initializers_do_not_count(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images")), 3)
    model = net.model(scores, inputs=("images", "idle"))
    model.graph.input.append(helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [4, 3, 3, 3]))
    taken = imported(model, tmp_path)
    assert taken.changes == ("the input 'idle', which nothing reads, is left out",)


def test_several_outputs_are_refused_and_one_can_be_chosen(tmp_path):
    net = Net()
    features = net.node("Flatten", net.features("images"))
    model = net.model(net.head(features, 3), features, classes=None)
    told = refusal(model, tmp_path)
    assert "2 outputs ('gemm_4' (), 'flatten_3' ())" in told
    assert "--output-tensor NAME" in told
    assert "no tensor 'gem_4'" in refusal(model, tmp_path, output_tensor="gem_4")
    taken = imported(model, tmp_path, output_tensor="flatten_3")
    assert taken.student.outputs[0].shape == (4,)
    assert taken.student.parameters == 4 * 27 + 4


def test_names_that_a_card_cannot_hold_are_changed(tmp_path):
    net = Net()
    scores = net.head(net.node("Flatten", net.features("in:0/x")), 3)
    net.nodes[-1].output[0] = "1"
    taken = imported(net.model("1", inputs=("in:0/x",)), tmp_path)
    assert taken.student.inputs[0].name == "in_0_x"
    assert taken.student.outputs[0].name == "t_1"
    assert scores != "1"


def test_a_branch_that_reads_the_outside_keeps_what_it_reads(tmp_path):
    net = Net()
    features = net.node("Flatten", net.features("pic.ture"))
    scores = net.head(features, 3)

    def branch(source: str, name: str) -> Any:
        answer = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", [source], [name])], name, [], [answer])

    condition = net.tensor("yes", np.array(True))
    chosen = net.node("If", condition, then_branch=branch(scores, "a"), else_branch=branch(scores, "b"))
    extra = net.node("Neg", features)
    model = net.model(chosen, extra, classes=None, inputs=("pic.ture",))
    taken = imported(model, tmp_path, output_tensor=chosen)
    assert taken.student.outputs[0].shape == (3,)
    assert taken.student.macs is None


def test_a_bundle_that_is_there_is_not_overwritten_unasked(tmp_path):
    taken = imported(classifier(), tmp_path)
    with pytest.raises(StudentError, match="exists already"):
        imported(classifier(classes=4), tmp_path)
    assert open_student(taken.student.root).sha256 == taken.student.sha256
    assert len(imported(classifier(classes=4), tmp_path, overwrite=True).student.classes) == 4


def test_on_the_fly_a_model_is_imported_once(tmp_path):
    path, cache = save(classifier(), tmp_path, "My Net.onnx"), tmp_path / "cache"
    student = on_the_fly(path, None, cache)
    assert student.name == "my-net"
    assert student.root.parent == cache / "students"
    before = (student.root / "card.json").stat().st_mtime_ns
    assert on_the_fly(path, None, cache).sha256 == student.sha256
    assert (student.root / "card.json").stat().st_mtime_ns == before
    (student.root / "student.onnx").write_bytes(b"torn")
    assert on_the_fly(path, None, cache).sha256 == student.sha256
    (student.root / "card.json").unlink()
    assert on_the_fly(path, None, cache).sha256 == student.sha256


def test_on_the_fly_another_model_or_evaluation_is_another_bundle(tmp_path):
    cache = tmp_path / "cache"
    roots = set()
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
    evaluation = tmp_path / "test.npz"
    for classes, labels in ((3, None), (4, None), (3, np.zeros(12, int)), (3, np.ones(12, int))):
        if labels is not None:
            np.savez(evaluation, images=images, labels=labels)
        path = save(classifier(classes=classes), tmp_path)
        roots.add(on_the_fly(path, None if labels is None else evaluation, cache).root)
    assert len(roots) == 4
    with pytest.raises(UsageError, match="kdbench import"):
        on_the_fly(tmp_path / "model.pt2", None, cache)


def test_on_the_fly_a_refusal_says_where_its_options_belong(tmp_path):
    path = save(classifier(shape=(3, "height", "width")), tmp_path, "MODEL.ONNX")
    with pytest.raises(StudentError, match=r"such as --shape 3x224x224\. That is said to `kdbench import`"):
        on_the_fly(path, None, tmp_path / "cache")


def test_a_model_packs_to_the_same_bytes_again(tmp_path):
    path = save(classifier(), tmp_path)
    assert packed(read_graph(path).model) == packed(read_graph(path).model)


def test_functions_that_would_fill_the_memory_are_refused(tmp_path):
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(8):
        inner = f"Times{level - 1}" if level else ""
        body = [
            helper.make_node(inner, [f"x{n}"], [f"x{n + 1}"], domain="own")
            if level
            else helper.make_node("Relu", [f"x{n}"], [f"x{n + 1}"])
            for n in range(10)
        ]
        functions.append(helper.make_function("own", f"Times{level}", ["x0"], ["x10"], body, opsets))
    net = Net()
    net.nodes.append(helper.make_node("Times7", ["images"], ["much"], domain="own"))
    scores = net.head(net.node("Flatten", net.features("much")), 3)
    assert "more than 1000000 nodes" in refusal(
        net.model(scores, opset_imports=opsets, functions=functions), tmp_path
    )


def test_a_file_that_was_optimised_for_one_machine_says_so(tmp_path):
    net = Net()
    net.nodes.append(helper.make_node("ReorderInput", ["images"], ["x"], domain="com.microsoft.nchwc"))
    told = refusal(net.model(net.head(net.node("Flatten", net.features("x")), 3)), tmp_path)
    assert "optimised this file for one machine" in told


@pytest.mark.parametrize(
    "model",
    [
        {"batch": 1 << 40},
        {"batch": 70_000},
        {"shape": (3, 1 << 40, 8)},
        {"batch": 60_000, "shape": (3, 99, 99)},
    ],
)
def test_sizes_that_no_memory_holds_are_refused(tmp_path, model):
    assert "more than can be tried" in refusal(classifier(**model), tmp_path)


def parts(message: Any) -> list[Any]:
    """Give a message and all inside it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                found += parts(one)
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_model_ends_in_anything_but_a_bundle_or_a_sentence(tmp_path, data):
    model = data.draw(st.sampled_from([classifier(), classifier(batch=8, ends="Softmax"), quantised()]))
    part = data.draw(st.sampled_from(parts(model)))
    field, value = data.draw(st.sampled_from(part.ListFields()))
    if field.is_repeated:
        place = data.draw(st.integers(0, len(value) - 1))
        data.draw(st.sampled_from([lambda: value.pop(place), lambda: value.extend([value[place]])]))()
    elif field.enum_type is not None:
        setattr(part, field.name, data.draw(st.sampled_from(sorted(field.enum_type.values_by_number))))
    elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
        setattr(part, field.name, data.draw(st.integers(-1, 20)))
    elif field.type == field.TYPE_STRING:
        setattr(part, field.name, data.draw(st.sampled_from(["", "images", "Relu", "Reshape", "\x1b[31m"])))
    else:
        part.ClearField(field.name)
    with suppress(KdbenchError):
        imported(model, tmp_path, overwrite=True)
