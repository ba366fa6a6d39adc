"""Types and shapes of what flows through a graph: inferred, or seen where that does not go far enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from kdbench.errors import StudentError
from kdbench.intake.graph import packed
from kdbench.intake.session import Session
from kdbench.intake.walk import constants, producers

if TYPE_CHECKING:
    from onnx import ModelProto

    from kdbench.spec import Array


HEAVY = 4096
"""Elements above which a tensor is a weight, and no shape is computed from it."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """What is known of the tensors of the outermost graph, by name.

    types: ONNX element types. shapes: only those all of whose axes are known.
    """

    types: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]


def infer(model: ModelProto) -> Inferred:
    """Infer what can be inferred, for the batch size that the input declares, or 1 where that is symbolic."""
    from onnx import ModelProto, shape_inference

    copy = ModelProto()
    copy.CopyFrom(model)
    _declare_weights(copy)
    for port in copy.graph.input:
        axes = port.type.tensor_type.shape.dim
        if axes and axes[0].dim_value <= 0:
            axes[0].Clear()
            axes[0].dim_value = 1
    for port in copy.graph.output:
        # What the graph says of its output may hold for another batch size.
        port.type.tensor_type.ClearField("shape")
    # Native code that raises whatever it trips over; then nothing is known but what stands there.
    with suppress(Exception):
        copy = shape_inference.infer_shapes(copy, data_prop=True)
    types, shapes = {}, {}
    for port in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output):
        tensor = port.type.tensor_type
        types[port.name] = tensor.elem_type
        if tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim):
            shapes[port.name] = tuple(axis.dim_value for axis in tensor.shape.dim)
    for name, constant in constants(copy).items():
        types[name], shapes[name] = constant.data_type, tuple(constant.dims)
    return Inferred(types, shapes)


def _declare_weights(model: ModelProto) -> None:
    """Put an input of the same type and shape in the place of every large tensor.

    Shapes hang on small tensors only, and the inference copies all that it is given several times.
    """
    from onnx import helper

    heavy = [place for place, one in enumerate(model.graph.initializer) if prod(one.dims) > HEAVY]
    listed = {port.name for port in model.graph.input}
    for place in reversed(heavy):
        tensor = model.graph.initializer[place]
        if tensor.name not in listed:
            port = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(port)
        del model.graph.initializer[place]


def observe(model: ModelProto, images: Array, names: Iterable[str]) -> Mapping[str, tuple[int, ...]]:
    """Give the shapes that these tensors really have when the graph answers these images, (batch, *shape).

    For graphs with operators whose shapes ONNX itself cannot infer. None are given where it does not run.
    """
    from onnx import ModelProto, ValueInfoProto

    copy = ModelProto()
    copy.CopyFrom(model)
    known = {name: tuple(tensor.dims) for name, tensor in constants(model).items()}
    answered = [name for name in producers(model) if name in set(names) - known.keys()]
    there = {port.name for port in copy.graph.output}
    copy.graph.output.extend(ValueInfoProto(name=name) for name in answered if name not in there)
    try:
        found = Session(packed(copy)).run_all(images)
    except StudentError:
        return known
    return {**known, **found, model.graph.input[0].name: images.shape}
