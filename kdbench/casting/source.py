"""The ONNX file that is to be cast: read, refused where it cannot be, its types known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.errors import Unsupported
from kdbench.problems import quote
from kdbench.strict import clean
from kdbench.walk import deep, tensors

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import GraphProto, ModelProto, TensorProto

    from kdbench.casting.rounding import Format

BRAIN_OPSET, BRAIN_IR = 22, 10
"""The first set of operators in which ONNX gives Conv and pooling bfloat16, and the file format with it."""

QUANTISED = ("Quantize", "Dequantize", "QLinear", "DynamicQuantize")
INTEGER = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulNBits", "MatMulIntegerToFloat", "QGemm", "QAttention"}
)
_FP32 = "Cast the fp32 network that it was made from."


def read(path: Path, target: Format) -> ModelProto:
    """Read a file, its functions written out, in a set of operators that knows the format.

    Raises Unsupported for a file that is no whole ONNX model of its own, or computes in less than fp32.
    """
    model = _parsed(path)
    if any(tensor.data_location == tensor.EXTERNAL for tensor in tensors(model)):
        raise Unsupported(
            f"{quote(path.name)} keeps its weights in another file.",
            hint="`kdbench import` puts them into one.",
        )
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    _refuse_quantised(model, path.name)
    if target.precision == "bf16" and opset(model) < BRAIN_OPSET:
        model = _raised(model, path.name)
    _drop_defaults(model)
    return model


def _parsed(path: Path) -> ModelProto:
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import ModelProto
    except ImportError as fault:
        raise Unsupported(
            "Casting a network needs the package onnx, which is not installed.",
            hint="Install it: python -m pip install 'kdbench[casting]'",
        ) from fault
    try:
        model = ModelProto.FromString(path.read_bytes())
    except (DecodeError, OSError) as fault:
        raise Unsupported(f"{quote(path.name)} cannot be read as an ONNX model.") from fault
    if not model.graph.node:
        raise Unsupported(f"{quote(path.name)} is no ONNX model with anything to compute.")
    return model


def _refuse_quantised(model: ModelProto, name: str) -> None:
    for node in deep(model.graph.node):
        if node.op_type.startswith(QUANTISED) or node.op_type in INTEGER:
            raise Unsupported(
                f"{quote(name)} is quantised already ({quote(node.op_type)}), so it is not cast.", hint=_FP32
            )


def refuse_less(model: ModelProto, types: dict[str, int], name: str) -> None:
    """Refuse a graph that takes, answers or computes 16 or 8 bits already; weights may be stored in them."""
    from onnx import TensorProto

    less = {TensorProto.FLOAT16, TensorProto.BFLOAT16} | {
        kind for label, kind in TensorProto.DataType.items() if label.startswith("FLOAT8")
    }
    ports = {port.name for port in (*model.graph.input, *model.graph.output)}
    computed = {
        out for node in model.graph.node if node.op_type not in ("Cast", "Constant") for out in node.output
    }
    if any(types.get(tensor) in less for tensor in ports | computed):
        raise Unsupported(f"{quote(name)} computes in less than fp32 already.", hint=_FP32)


def types_of(model: ModelProto) -> dict[str, int]:
    """Give the element type of each tensor of the outermost graph that is known."""
    from onnx import shape_inference

    try:
        model = shape_inference.infer_shapes(model)
    # Native code that raises whatever it trips over; what it would have said, a backend says of the graph.
    except Exception as fault:
        raise Unsupported(f"The types in the graph cannot be inferred: {first_line(fault)}.") from fault
    graph = model.graph
    ports = (*graph.value_info, *graph.input, *graph.output)
    known = {port.name: port.type.tensor_type.elem_type for port in ports}
    return known | {name: tensor.data_type for name, tensor in constants(graph).items()}


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Give the tensors that are known beforehand: initializers, and nodes of the type Constant."""
    import numpy as np
    from onnx import helper, numpy_helper

    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                known[node.output[0]] = attribute.t
            elif attribute.name in ("value_float", "value_floats"):
                given = np.array(helper.get_attribute_value(attribute), np.float32)
                known[node.output[0]] = numpy_helper.from_array(given)
    return known


def opset(model: ModelProto, domain: str = "") -> int:
    """Give the version of a domain's operators that the model uses, 0 for none."""
    same = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return max((entry.version for entry in model.opset_import if entry.domain in same), default=0)


def first_line(fault: Exception) -> str:
    """Give what a library says of a fault, on one line, harmless to print."""
    return clean(str(fault).strip().split("\n")[0])[:200].rstrip(".") or type(fault).__name__


def _raised(model: ModelProto, name: str) -> ModelProto:
    from onnx import version_converter

    try:
        model = version_converter.convert_version(model, BRAIN_OPSET)
    # As above: native code.
    except Exception as fault:
        raise Unsupported(
            f"bf16 needs the operators of opset {BRAIN_OPSET}, and {quote(name)} of opset {opset(model)} "
            f"cannot be converted to them: {first_line(fault)}.",
            hint=f"Export the network for opset {BRAIN_OPSET}.",
        ) from fault
    model.ir_version = max(model.ir_version, BRAIN_IR)
    return model


def _drop_defaults(model: ModelProto) -> None:
    """Take weights off the list of inputs, where files of the first years had to name them."""
    given = {tensor.name for tensor in model.graph.initializer}
    kept = [port for port in model.graph.input if port.name not in given]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)
