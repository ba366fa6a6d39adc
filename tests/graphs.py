"""Small ONNX classifiers of every kind that an import meets, built node by node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # noqa: TID253  # a helper of tests that skip where it is not installed
import pytest
from onnx import helper, numpy_helper  # noqa: TID253

from kdbench.errors import KdbenchError
from kdbench.intake import Ask, Taken, take
from kdbench.intake.session import Session

OPSET, IR = 20, 10
SIDE = 8


class Net:
    """A graph under construction: every call appends a node and answers the name of what it computes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def weight(self, name: str, *shape: int, dtype: Any = np.float32) -> str:
        """Add a tensor of small random numbers."""
        return self.tensor(name, (self.rng.standard_normal(shape) * 0.5).astype(dtype))

    def tensor(self, name: str, values: Any) -> str:
        """Add a tensor."""
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; its name and its only output are the operator with a number."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def features(self, images: str, *, channels: int = 3, dtype: Any = np.float32) -> str:
        """Append a convolution and what follows it: (N, channels, H, W) to (N, 4, 1, 1)."""
        kernel, bias = (
            self.weight("kernel", 4, channels, 3, 3, dtype=dtype),
            self.weight("bias", 4, dtype=dtype),
        )
        convolved = self.node("Conv", images, kernel, bias, pads=[1, 1, 1, 1], strides=[2, 2])
        return self.node("GlobalAveragePool", self.node("Relu", convolved))

    def head(self, features: str, classes: int, *, dtype: Any = np.float32) -> str:
        """Append a linear layer: (N, 4) to (N, classes)."""
        matrix, offset = (
            self.weight("head", 4, classes, dtype=dtype),
            self.weight("offset", classes, dtype=dtype),
        )
        return self.node("Gemm", features, matrix, offset)

    def model(
        self,
        *outputs: str,
        batch: int | str | None = "N",
        shape: Sequence[int | str | None] = (3, SIDE, SIDE),
        dtype: Any = np.float32,
        outcome: Any = None,
        classes: int | None = 3,
        inputs: Sequence[str] = ("images",),
        **extra: Any,
    ) -> onnx.ModelProto:
        """Make the model: inputs of (batch, *shape), outputs of (batch, classes)."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        out = kind if outcome is None else helper.np_dtype_to_tensor_dtype(np.dtype(outcome))
        declared = None if classes is None else [batch, classes]
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(name, kind, [batch, *shape]) for name in inputs],
            [helper.make_tensor_value_info(name, out, declared) for name in outputs],
            self.initializers,
        )
        settings = {"opset_imports": [helper.make_opsetid("", OPSET)], "ir_version": IR, **extra}
        return helper.make_model(graph, producer_name="a test", **settings)


def classifier(*, classes: int = 3, dtype: Any = np.float32, ends: str = "", **model: Any) -> onnx.ModelProto:
    """Give a healthy classifier; `ends` names an operator to end in, such as Softmax."""
    net = Net()
    scores = net.head(net.node("Flatten", net.features("images", dtype=dtype)), classes, dtype=dtype)
    if ends:
        scores = net.node(ends, scores)
    return net.model(scores, dtype=dtype, classes=classes, **model)


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model as it is and answer where."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def imported(model: Any, folder: Path, **asked: Any) -> Taken:
    """Import a model, or a file, into `folder/bundle` or where `output` says."""
    path = model if isinstance(model, Path) else save(model, folder)
    return take(Ask(model=str(path), **{"output": folder / "bundle", **asked}))


def refusal(model: Any, folder: Path, **asked: Any) -> str:
    """Give the sentence, with its hint, in which an import is refused; nothing may be left behind."""
    with pytest.raises(KdbenchError) as caught:
        imported(model, folder, **asked)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith((".", "?"))
    assert not asked.get("output", folder / "bundle").exists()
    return str(caught.value)


def answers(taken: Taken, images: np.ndarray) -> np.ndarray:
    """Give what the graph of a bundle answers."""
    return Session(taken.student.files["onnx"].read_bytes()).run(images)


def quantised(*, activations: bool = True) -> onnx.ModelProto:
    """Give a classifier whose convolution has quantised weights, and activations if asked."""
    net = Net()
    scale, zero = net.tensor("scale", np.float32(0.02)), net.tensor("zero", np.int8(0))
    images = "images"
    if activations:
        images = net.node("DequantizeLinear", net.node("QuantizeLinear", images, scale, zero), scale, zero)
    stored = net.tensor("kernel", net.rng.integers(-50, 50, (4, 3, 3, 3)).astype(np.int8))
    kernel = net.node("DequantizeLinear", stored, scale, zero)
    pooled = net.node("GlobalAveragePool", net.node("Conv", images, kernel))
    return net.model(net.head(net.node("Flatten", pooled), 3))
