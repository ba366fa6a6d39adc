from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kdbench_numpy
from kdbench import Student, Target, TensorSpec, Unsupported
from kdbench.backends import connect
from kdbench_numpy._runtime import Unit, convolve, fold, framed, read_safetensors


def write_safetensors(path, tensors):
    header, raw = {}, b""
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": {"float32": "F32", "int64": "I64"}[tensor.dtype.name],
            "shape": tensor.shape,
            "data_offsets": (len(raw), len(raw) + tensor.nbytes),
        }
        raw += tensor.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw)


def correlate(images, weight, stride, depthwise):
    """Convolve (N, C, H, W) in float64 by the definition, one offset of the kernel at a time."""
    margin = weight.shape[-1] // 2
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    total = 0
    for row, column in np.ndindex(*weight.shape[2:]):
        height, width = images.shape[2:]
        shifted = padded[:, :, row : row + height : stride, column : column + width : stride]
        taps = weight[:, :, row, column]
        total = total + (
            shifted * taps[:, 0][None, :, None, None]
            if depthwise
            else np.einsum("nchw,oc->nohw", shifted, taps)
        )
    return total


def random_unit(rng, index, inputs, outputs, kernel, depthwise):
    prefix = f"features.{index}"
    return {
        f"{prefix}.conv.weight": rng.normal(size=(outputs, 1 if depthwise else inputs, kernel, kernel)),
        f"{prefix}.norm.weight": rng.uniform(0.5, 1.5, outputs),
        f"{prefix}.norm.bias": rng.normal(size=outputs),
        f"{prefix}.norm.running_mean": rng.normal(size=outputs),
        f"{prefix}.norm.running_var": rng.uniform(0.5, 1.5, outputs),
    }


def logits_by_definition(tensors, units, images, mean, std):
    x = (images - mean) / std
    for index, (stride, depthwise) in enumerate(units):
        part = {name: tensors[f"features.{index}.norm.{name}"][:, None, None] for name in ("weight", "bias")}
        x = correlate(x, tensors[f"features.{index}.conv.weight"], stride, depthwise)
        x = x - tensors[f"features.{index}.norm.running_mean"][:, None, None]
        x = x / np.sqrt(tensors[f"features.{index}.norm.running_var"] + 1e-5)[:, None, None]
        x = np.maximum(x * part["weight"] + part["bias"], 0)
    return x.mean((2, 3)) @ tensors["head.weight"].T + tensors["head.bias"]


@pytest.fixture
def backend():
    return connect("numpy", kdbench_numpy)


def make_student(path: Path, factory: str, **arguments) -> Student:
    return Student(
        name="made-up",
        task="classification",
        sha256="0" * 64,
        root=path.parent,
        files={"weights": path},
        inputs=(TensorSpec("images", (3, 9, 12), "float32"),),
        outputs=(TensorSpec("logits", (3,), "float32"),),
        classes=("a", "b", "c"),
        factory=factory,
        arguments=arguments,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "depthwise"), [(1, False), (3, False), (3, True)])
def test_a_convolution_is_that_of_the_definition(kernel, stride, depthwise):
    rng = np.random.default_rng(3)
    images = rng.normal(size=(2, 4, 7, 10)).astype(np.float32)
    weight = rng.normal(size=(4 if depthwise else 5, 1 if depthwise else 4, kernel, kernel))
    last = weight.transpose(2, 3, 1, 0).astype(np.float32)
    unit = Unit(np.ascontiguousarray(last[:, :, 0] if depthwise else last), np.zeros(1), stride)
    frame, inside = framed((2, 7, 10, 4), unit.margin)
    inside[...] = images.transpose(0, 2, 3, 1)
    sums, calls = convolve(unit, frame)
    for call in calls:
        call()
    np.testing.assert_allclose(
        sums.transpose(0, 3, 1, 2), correlate(images, weight, stride, depthwise), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("factory", "arguments", "units", "widths"),
    [
        ("tiny-teacher", {"strides": (2, 1)}, [(2, False), (1, False)], [(3, 4, 3), (4, 6, 3)]),
        (
            "tiny-student",
            {"strides": (1, 2), "mean": 0.25, "std": 2.0},
            [(1, False), (2, True), (1, False)],
            [(3, 4, 3), (4, 4, 3), (4, 6, 1)],
        ),
    ],
)
def test_a_whole_network_is_that_of_the_definition(backend, tmp_path, factory, arguments, units, widths):
    rng = np.random.default_rng(4)
    tensors = {}
    for index, (unit, width) in enumerate(zip(units, widths, strict=True)):
        tensors |= random_unit(rng, index, *width, unit[1])
    tensors |= {"head.weight": rng.normal(size=(3, 6)), "head.bias": rng.normal(size=3)}
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    write_safetensors(tmp_path / "weights", tensors | {"features.0.norm.num_batches_tracked": np.int64([7])})

    student, target = make_student(tmp_path / "weights", factory, **arguments), Target(device="cpu")
    session = backend.load(backend.compile(student, target, tmp_path), target)
    images = rng.random((5, 3, 9, 12), dtype=np.float32)
    logits = backend.run(session, 5)((images,))[0]

    mean, std = arguments.get("mean", 0.5), arguments.get("std", 0.25)
    np.testing.assert_allclose(
        logits, logits_by_definition(tensors, units, images, mean, std), rtol=2e-4, atol=1e-4
    )


def test_folding_leaves_a_depthwise_unit_depthwise():
    tensors = {
        name: tensor.astype(np.float32)
        for name, tensor in random_unit(np.random.default_rng(5), 0, 4, 4, 3, True).items()
    }
    assert fold(tensors, 0, 1, True).weight.shape == (3, 3, 4)


def test_what_the_safetensors_library_writes_is_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.float32([[1.5]])}
    safetensors.save_file(tensors | {"steps": np.int64([3])}, tmp_path / "weights", metadata={"by": "a test"})
    read = read_safetensors(tmp_path / "weights")
    assert sorted(read) == ["a", "b.c"]
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factory": "resnet-18"}, "tiny-student and tiny-teacher only, not resnet-18"),
        ({"factory": None}, "not an ONNX graph"),
        ({"files": {}}, "holds no weights"),
    ],
)
def test_a_student_that_it_cannot_run_is_unsupported(backend, tmp_path, change, message):
    student = replace(make_student(tmp_path / "weights", "tiny-student"), **change)
    with pytest.raises(Unsupported, match=message):
        backend.compile(student, Target(device="cpu"), tmp_path)


def test_another_precision_than_fp32_is_unsupported(backend, tmp_path):
    with pytest.raises(Unsupported, match="fp32, not in bf16"):
        backend.compile(
            make_student(tmp_path / "weights", "tiny-student"),
            Target(device="cpu", precision="bf16"),
            tmp_path,
        )
