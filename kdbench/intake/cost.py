"""What a graph costs, counted and not timed, and weights that are no numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import TYPE_CHECKING

from kdbench.errors import StudentError
from kdbench.intake.walk import constants
from kdbench.problems import quote
from kdbench.walk import inner, tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

    Shape = tuple[int, ...]

CLASSICAL = "ai.onnx.ml"

_NO_WEIGHTS: Mapping[str, Collection[int]] = {
    # Running statistics, bounds, sizes, scales and zero points: set or measured, not trained.
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Pad": (1, 2),
    "Resize": (1, 2, 3),
    "Where": (0,),
    "Pow": (1,),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3),
}
"""Inputs of an operator that hold no trained numbers, by position."""

_INTEGER_WEIGHTS: Mapping[str, Collection[int]] = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "QGemm": (3, 6),
    "ConvInteger": (1,),
    "MatMulInteger": (0, 1),
    "DynamicQuantizeMatMul": (1,),
    "MatMulIntegerToFloat": (1,),
}
"""Inputs that hold trained numbers as integers; any other integer is an index, a size or a zero point."""

_UNCOUNTED = frozenset(
    {"Einsum", "LSTM", "GRU", "RNN", "DeformConv", "Attention", "MultiHeadAttention"}
    | {"QAttention", "DynamicQuantizeLSTM", "MatMulNBits"}
)
"""Operators that multiply and are not counted: with one of them, the sum would be too small."""


def refuse_non_numbers(model: ModelProto) -> None:
    """Refuse NaN in any tensor, and infinity in one of several values, naming the tensor.

    A single infinite value may be the bound of a Clip or what a mask fills in.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    for tensor in tensors(model):
        if tensor.data_type not in floats:
            continue
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as fault:
            raise StudentError(
                f"The weight {quote(tensor.name)} has not as many values as its shape says.",
                hint="Export it again.",
            ) from fault
        finite = np.isfinite(values)
        if finite.all() or (values.size == 1 and not np.isnan(values).any()):
            continue
        kind = "NaN" if np.isnan(values).any() else "infinite"
        bad = int(values.size - finite.sum())
        raise StudentError(
            f"The weight {quote(tensor.name)} has {bad} of {values.size} values that are {kind}.",
            hint="Training went wrong, or the file is damaged: export a checkpoint whose weights are finite.",
        )


def count_parameters(model: ModelProto, leave_out: Collection[str] = ()) -> int | None:
    """Count the trained numbers of the outermost graph, each once, quantised ones too.

    Not counted: running statistics, scales, zero points, single numbers that are no bias, and the tensors in
    `leave_out`.
    None for trees and other operators of classical machine learning, which keep theirs in attributes.
    """
    if any(node.domain == CLASSICAL for node in model.graph.node):
        return None
    weights = {name: int(prod(tensor.dims)) for name, tensor in _weights(model).items()}
    return sum(size for name, size in weights.items() if name not in leave_out)


def count_bytes(model: ModelProto) -> int:
    """Count the bytes of the trained numbers as they stand in the file."""
    from onnx import TensorProto, helper

    packed = {TensorProto.INT4: 2, TensorProto.UINT4: 2}
    sizes = {kind: helper.tensor_dtype_to_np_dtype(kind).itemsize for kind in _kinds(model)}
    return sum(
        -(-prod(tensor.dims) * int(sizes[tensor.data_type]) // packed.get(tensor.data_type, 1))
        for tensor in _weights(model).values()
    )


def _kinds(model: ModelProto) -> set[int]:
    return {tensor.data_type for tensor in _weights(model).values()}


def _weights(model: ModelProto) -> dict[str, TensorProto]:
    """Give the tensors of trained numbers by name."""
    from onnx import TensorProto

    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    known = constants(model)
    counted = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            tensor = known.get(name)
            if tensor is None or place in _NO_WEIGHTS.get(node.op_type, ()):
                continue
            whole = place in _INTEGER_WEIGHTS.get(node.op_type, ())
            several = prod(tensor.dims) > 1 or node.op_type in _RULES
            if whole or (tensor.data_type in floats and several):
                counted[name] = tensor
    return counted


def count_macs(model: ModelProto, shapes: Mapping[str, Shape]) -> int | None:
    """Count the multiply-accumulates of convolutions and products for one image.

    shapes: of tensors by name, for a batch of any one size. None where one is not known that is needed, or
    where the graph has operators that multiply and are not counted, or control flow.
    """
    batch = shapes.get(model.graph.input[0].name, (1,))[0]
    if not is_countable(model):
        return None
    try:
        return sum(_RULES[node.op_type](node, shapes) for node in _products(model)) // batch
    except (KeyError, IndexError, ZeroDivisionError):
        return None


def is_countable(model: ModelProto) -> bool:
    """Tell whether all that multiplies in a graph is counted, and none of it in a branch."""
    return not any(
        node.op_type in _UNCOUNTED or node.domain == CLASSICAL or any(True for _ in inner(node))
        for node in model.graph.node
    )


def measured(model: ModelProto) -> set[str]:
    """Name the tensors whose shapes `count_macs` needs."""
    return {name for node in _products(model) for name in (*node.input, *node.output) if name}


def _products(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type in _RULES]


def _convolution(weights: int) -> Callable[[NodeProto, Mapping[str, Shape]], int]:
    """Each point of the output sums over one kernel: (inputs / groups) * k * k products."""

    def count(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
        return prod(shapes[node.output[0]]) * prod(shapes[node.input[weights]][1:])

    return count


def _transposed(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Each point of the input is multiplied with one kernel: (outputs / groups) * k * k products."""
    return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])


def _product(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Each point of the output sums over the last axis of the first operand."""
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _general(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """A product of matrices, the first of which may be transposed."""
    transposed = any(one.name == "transA" and one.i for one in node.attribute)
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


_RULES: Mapping[str, Callable[[NodeProto, Mapping[str, Shape]], int]] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "Gemm": _general,
    "QGemm": _general,
    "FusedGemm": _general,
    "MatMul": _product,
    "FusedMatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "DynamicQuantizeMatMul": _product,
    "MatMulIntegerToFloat": _product,
}
