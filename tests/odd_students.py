"""Students unlike the embedded one: other inputs, layouts, precisions and ranks, a batch size built in.

All are small classifiers that exist as ONNX only, with random weights, bundled as an import would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from kdbench.arrays import pack_npy, pack_npz
from kdbench.card import Card, Data, Encoding, Network, Teacher
from kdbench.spec import Precision, Student, TensorSpec
from kdbench.student import write_bundle

IMAGES, CLASSES = 24, 3
KINDS = ("uint8-nhwc", "fp16", "int8", "vector", "probabilities")
"""What `odd` makes; each with a free batch axis unless told otherwise."""


def odd(folder: Path, kind: str, *, batch: int | None = None, taught: bool = False, **facts: Any) -> Student:
    """Write the bundle of one odd student and open it; `facts` replace what its card says.

    taught: whether the bundle of a `vector` keeps a teacher, 500 times as wide.
    """
    model, images, encoding = _MAKERS[kind](batch or "batch")
    named = model.graph.input[0], model.graph.output[0]
    spec_in, spec_out = (
        TensorSpec(value.name, _shape(value)[1:], _dtype(value.type.tensor_type.elem_type)) for value in named
    )
    labelled = facts.pop("labelled", True)
    card = Card(
        **{
            "name": f"odd-{kind}",
            "task": "classification",
            "classes": tuple("abc"),
            "trained": True,
            "licence": "Apache-2.0",
            "inputs": (spec_in,),
            "outputs": (spec_out,),
            "encoding": encoding,
            "precision": _PRECISIONS.get(kind, "fp32"),
            "meaning": "probabilities" if kind == "probabilities" else "logits",
            "batch": batch,
            "network": Network(),
            "data": Data(
                generator="test", source="none", licence="none", evaluation=IMAGES, labelled=labelled
            ),
            **facts,
        }
    )
    reference = _answers(model, _inputs(images, encoding, spec_in.dtype), batch)
    known = {"labels": reference.argmax(1).astype(np.int64)} if labelled else {}
    files = {
        "onnx": model.SerializeToString(),
        "evaluation": pack_npz(images=images, **known),
        "reference": pack_npy(reference),
    }
    if taught:
        teacher = _perceptron(batch or "batch")
        files |= {
            "teacher-onnx": teacher.SerializeToString(),
            "teacher-reference": pack_npy(_answers(teacher, _inputs(images, encoding, spec_in.dtype), batch)),
        }
        digest = hashlib.sha256(files["teacher-onnx"]).hexdigest()
        card = structs.replace(card, teacher=Teacher(name="wide", sha256=digest, parameters=44_000))
    return write_bundle(folder, card, files)


def model(kind: str, batch: int | str = "batch") -> bytes:
    """Give the ONNX file of one kind alone."""
    content: bytes = _MAKERS[kind](batch)[0].SerializeToString()
    return content


def _inputs(images: Any, encoding: Encoding, dtype: str) -> Any:
    values = images.astype(np.float32) / np.float32(encoding.divisor)
    return values.astype(dtype)


def _answers(model: Any, inputs: Any, batch: int | None) -> Any:
    """Run the graph as its operators are specified, in pure Python."""
    from onnx.reference import ReferenceEvaluator

    step = batch or len(inputs)
    evaluator, name = ReferenceEvaluator(model), model.graph.input[0].name
    parts = [evaluator.run(None, {name: inputs[at : at + step]})[0] for at in range(0, len(inputs), step)]
    return np.concatenate(parts).astype(np.float32)


def _uint8_nhwc(batch: int | str) -> tuple[Any, Any, Encoding]:
    """Photographs as a camera gives them: uint8, channels last, normalised inside the graph."""
    import onnx
    from onnx import helper

    image = (12, 10, 3)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "full"], ["scaled"]),
        *_tail("scaled"),
    ]
    constants = {"full": np.float32(255.0), **_weights(3)}
    built = _graph(nodes, constants, ("image", onnx.TensorProto.UINT8, image), onnx.TensorProto.FLOAT, batch)
    return built, _pictures(image), Encoding(divisor=1.0, layout="NHWC", high=255.0)


def _fp16(batch: int | str) -> tuple[Any, Any, Encoding]:
    """Weights, input and output in half precision."""
    import onnx

    image = (3, 10, 12)
    constants = {name: value.astype(np.float16) for name, value in _weights(3).items()}
    kind = onnx.TensorProto.FLOAT16
    return (
        _graph(_tail("image"), constants, ("image", kind, image), kind, batch),
        _pictures(image),
        Encoding(),
    )


def _int8(batch: int | str) -> tuple[Any, Any, Encoding]:
    """A network quantised beforehand: pairs of QuantizeLinear and DequantizeLinear around each product."""
    import onnx
    from onnx import helper

    image = (3, 10, 12)
    nodes: list[Any] = []
    constants: dict[str, Any] = {}

    def quantised(name: str, scale: float, zero: int, kind: str) -> str:
        constants[f"{name}_scale"] = np.float32(scale)
        constants[f"{name}_zero"] = np.array(zero, kind)
        facts = [f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *facts], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *facts], [f"{name}_d"]))
        return f"{name}_d"

    def stored(name: str, values: Any) -> str:
        scale = float(np.abs(values).max()) / 127
        constants[f"{name}_scale"] = np.float32(scale)
        constants[f"{name}_zero"] = np.array(0, "int8")
        constants[f"{name}_q"] = np.rint(values / scale).astype(np.int8)
        facts = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("DequantizeLinear", facts, [f"{name}_d"]))
        return f"{name}_d"

    weights = _weights(3)
    source = quantised("image", 1 / 255, 0, "uint8")
    kernel = stored("kernel", weights["kernel"])
    nodes.append(helper.make_node("Conv", [source, kernel], ["conv"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["conv"], ["features"]))
    features = quantised("features", 4 / 255, 0, "uint8")
    nodes.append(helper.make_node("GlobalAveragePool", [features], ["pooled"]))
    pooled = quantised("pooled", 2 / 255, 0, "uint8")
    nodes.append(helper.make_node("Flatten", [pooled], ["flat"]))
    head = stored("head", weights["head"])
    nodes.append(helper.make_node("MatMul", ["flat", head], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "bias"], ["logits"]))
    constants["bias"] = weights["bias"]
    kind = onnx.TensorProto.FLOAT
    return _graph(nodes, constants, ("image", kind, image), kind, batch), _pictures(image), Encoding()


def _vector(batch: int | str) -> tuple[Any, Any, Encoding]:
    """No image at all: eight numbers and one matrix."""
    import onnx
    from onnx import helper

    random = np.random.default_rng(5)
    constants = {"matrix": random.normal(size=(8, CLASSES)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["facts", "matrix"], ["logits"])]
    kind = onnx.TensorProto.FLOAT
    values = random.normal(size=(IMAGES, 8)).astype(np.float32)
    encoding = Encoding(dtype="float32", divisor=1.0, layout="any", low=-4.0, high=4.0)
    return _graph(nodes, constants, ("facts", kind, (8,)), kind, batch), values, encoding


def _perceptron(batch: int | str) -> Any:
    """A teacher for vectors: one hidden layer of four thousand."""
    import onnx
    from onnx import helper

    random = np.random.default_rng(7)
    constants = {
        "wide": random.normal(size=(8, 4000)).astype(np.float32),
        "narrow": random.normal(size=(4000, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["facts", "wide"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "narrow"], ["logits"]),
    ]
    kind = onnx.TensorProto.FLOAT
    return _graph(nodes, constants, ("facts", kind, (8,)), kind, batch)


def _probabilities(batch: int | str) -> tuple[Any, Any, Encoding]:
    """A classifier whose last step is a softmax."""
    import onnx
    from onnx import helper

    image = (3, 10, 12)
    nodes = [*_tail("image", out="scores"), helper.make_node("Softmax", ["scores"], ["logits"], axis=1)]
    kind = onnx.TensorProto.FLOAT
    return _graph(nodes, _weights(3), ("image", kind, image), kind, batch), _pictures(image), Encoding()


_MAKERS: dict[str, Callable[[int | str], tuple[Any, Any, Encoding]]] = {
    "uint8-nhwc": _uint8_nhwc,
    "fp16": _fp16,
    "int8": _int8,
    "vector": _vector,
    "probabilities": _probabilities,
}
_PRECISIONS: dict[str, Precision] = {"fp16": "fp16", "int8": "int8"}


def _weights(channels: int) -> dict[str, Any]:
    random = np.random.default_rng(4)
    return {
        "kernel": random.normal(scale=0.4, size=(8, channels, 3, 3)).astype(np.float32),
        "head": random.normal(size=(8, CLASSES)).astype(np.float32),
        "bias": np.zeros(CLASSES, np.float32),
    }


def _tail(source: str, out: str = "logits") -> list[Any]:
    """Convolve, rectify, average, and one matrix."""
    from onnx import helper

    return [
        helper.make_node("Conv", [source, "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head", "bias"], [out]),
    ]


def _pictures(shape: tuple[int, ...]) -> Any:
    """Give uint8 images that differ in their colours, so that their classes do."""
    random = np.random.default_rng(6)
    tint = random.integers(0, 200, (IMAGES, *(1,) * len(shape)))
    return (tint + random.integers(0, 56, (IMAGES, *shape))).astype(np.uint8)


def _graph(
    nodes: list[Any],
    constants: dict[str, Any],
    source: tuple[str, int, tuple[int, ...]],
    kind: int,
    batch: int | str,
) -> Any:
    from onnx import checker, helper, numpy_helper

    name, dtype, shape = source
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info(name, dtype, [batch, *shape])],
        [helper.make_tensor_value_info("logits", kind, [batch, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    checker.check_model(built, full_check=True)
    return built


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)


def _dtype(kind: int) -> str:
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(kind))
