"""What a stored graph computes in: its convolutions and products say so, not how its weights are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.intake.inferred import Inferred
from kdbench.intake.walk import producers
from kdbench.walk import nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from kdbench.spec import Precision

PRODUCTS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "DeformConv"}
    | {"Attention", "FusedConv", "FusedGemm", "FusedMatMul", "MatMulNBits", "MultiHeadAttention"}
)
"""Operators in which nearly all of a network's work is done."""

QUANTISED = frozenset(
    {"ConvInteger", "MatMulInteger", "QGemm", "QAttention", "DynamicQuantizeMatMul"}
    | {"DynamicQuantizeLSTM", "MatMulIntegerToFloat"}
)
"""Those of them that take integers, beside everything that is called QLinear-something."""

_PASSING = frozenset(
    {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Relu", "MaxPool"}
    | {"Concat", "Slice", "Pad"}
)
"""What computes on quantised values as on others, so that a quantised value stays one behind it."""

_COARSENESS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


def find_precision(model: ModelProto, inferred: Inferred) -> Precision:
    """Tell the coarsest precision that any product of the graph computes in.

    A product whose two operands both come from DequantizeLinear is int8: a runtime computes it in integers.
    One with only its weights quantised or cast computes in what they are converted to.
    """
    answering = producers(model)
    found: set[Precision] = set()
    for node in nodes(model):
        if node.op_type.startswith("QLinear") or node.op_type in QUANTISED:
            return "int8"
        if node.op_type in PRODUCTS:
            if len(node.input) > 1 and all(
                _quantised(answering.get(name), answering) for name in node.input[:2]
            ):
                return "int8"
            found |= {_named(inferred.types.get(name, 0)) for name in node.input[:2]}
    if not found:
        found = {
            _named(inferred.types.get(port.name, 0)) for port in (*model.graph.input, *model.graph.output)
        }
    return max(found, key=_COARSENESS.index, default="fp32")


def weighs_in_batch(model: ModelProto) -> bool:
    """Tell whether a scale is computed from the whole batch, so that an answer hangs on the others."""
    return any(node.op_type.startswith("DynamicQuantize") for node in nodes(model))


def _quantised(node: NodeProto | None, answering: dict[str, NodeProto]) -> bool:
    """Tell whether a tensor is dequantised just before it is used, whatever only moves it in between."""
    while node is not None and node.op_type in _PASSING and node.input:
        node = answering.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def _named(kind: int) -> Precision:
    from onnx import TensorProto

    names: dict[int, Precision] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    return names.get(kind, "fp32")
