from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kdbench_mnn
from kdbench import Student, Target, TensorSpec, Unsupported
from kdbench.backends import connect
from kdbench.student import load_evaluation, open_student

pytest.importorskip("MNN")


@pytest.fixture
def backend():
    return connect("mnn", kdbench_mnn)


@pytest.fixture
def student():
    return open_student("digits-2x5")


@pytest.fixture
def target():
    return Target(device="cpu", batch_sizes=(1, 2), options={"winograd": True})


def graph(folder, operator, inputs, domain=""):
    """Make a student of one operator without parameters."""
    onnx = pytest.importorskip("onnx")
    tensor = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(operator, sorted(inputs), ["y"], domain=domain)
    sides = [[tensor(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in names] for names in (inputs, ["y"])]
    opsets = [onnx.helper.make_opsetid("", 20), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", *sides), opset_imports=opsets, ir_version=9
    )
    path = folder / "model.onnx"
    onnx.save(model, path)
    spec = tuple(TensorSpec(name, (3,), "float32") for name in sorted(inputs))
    return Student(
        "one",
        "classification",
        "0" * 64,
        folder,
        {"onnx": path},
        spec,
        (TensorSpec("y", (3,), "float32"),),
        (),
    )


def made(folder):
    folder.mkdir()
    return folder


def test_inputs_come_in_the_order_of_the_card_and_not_of_the_graph(backend, target, tmp_path):
    student = graph(made(tmp_path / "bundle"), "Sub", ["right", "left"])
    session = backend.load(backend.compile(student, target, made(tmp_path / "work")), target)
    left, right = np.full((2, 3), 5, "f4"), np.full((2, 3), 3, "f4")
    assert backend.run(session, 2)((left, right))[0].tolist() == [[2] * 3] * 2
    session.close()


def test_a_graph_that_the_converter_refuses_is_unsupported(backend, target, tmp_path):
    student = graph(made(tmp_path / "bundle"), "Strange", ["x"], domain="nowhere")
    with pytest.raises(Unsupported, match="converter refuses one"):
        backend.compile(student, target, made(tmp_path / "work"))


def test_compiling_needs_no_right_to_write_where_the_process_stands(backend, student, target, tmp_path):
    here = Path.cwd()
    os.chdir("/proc/self")  # where nobody can make a file, root neither
    try:
        artifact = backend.compile(student, target, tmp_path)
    finally:
        os.chdir(here)
    assert [path.name for path in tmp_path.iterdir()] == ["student.mnn"]
    assert artifact.files == (tmp_path / "student.mnn",)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"files": {}}, {}),
        ({"precision": "int8"}, {}),
        ({}, {"dynamic": True}),
    ],
    ids=["no ONNX file", "a quantised network", "dynamic shapes"],
)
def test_what_it_cannot_do_is_unsupported_with_a_hint(backend, student, target, tmp_path, changes, asked):
    with pytest.raises(Unsupported) as refusal:
        backend.compile(replace(student, **changes), replace(target, **asked), tmp_path)
    assert refusal.value.hint


def test_runners_of_different_batch_sizes_live_side_by_side(backend, student, target, tmp_path):
    session = backend.load(backend.compile(student, target, tmp_path), target)
    (images,) = load_evaluation(student).inputs
    runners = [backend.run(session, size) for size in (1, 2, 1)]
    answers = [runner((images[:size].copy(),))[0] for runner, size in zip(runners, (1, 2, 1), strict=True)]
    assert np.allclose(answers[0], answers[1][:1], atol=1e-4)
    assert not np.shares_memory(answers[0], answers[2])
    session.close()
