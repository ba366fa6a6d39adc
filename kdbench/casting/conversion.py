"""One ONNX file made of another: the same network, computing in fp16 or bf16."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.casting.choice import Graph, choose
from kdbench.casting.ranges import IMAGES, measure
from kdbench.casting.rewriting import rewrite
from kdbench.casting.rounding import FORMATS
from kdbench.casting.source import constants, first_line, read, refuse_less, types_of
from kdbench.errors import Unsupported
from kdbench.problems import quote
from kdbench.student import load_calibration, load_evaluation

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

    from kdbench.spec import Array, Precision, Student


def cast(
    model: Path,
    precision: Precision,
    folder: Path,
    *,
    inputs: Sequence[Array] = (),
    keep: Collection[str] = (),
) -> Path:
    """Write an ONNX file that computes in `precision`, fp16 or bf16, and answer its path in `folder`.

    Inputs and outputs keep their names, types and shapes. What the precision cannot hold stays in fp32, a
    Cast before and after it: an operator that ONNX does not give it, a value beyond its range, the arithmetic
    of shapes. The same file, inputs and `keep` give the same bytes.

    inputs: one array per input, (N, *shape), as a Runner takes them; the first eight show how large the
        values inside become, see `samples`. Without any, only the weights are looked at.
    keep: further operators to stay in fp32, for a runtime that does not compute them in this precision.
    Raises Unsupported where the package onnx is missing, for another precision, for a network that is
    quantised, computes in less than fp32 or keeps its weights elsewhere, and where nothing can be cast.
    """
    cannot = f"{quote(model.name)} cannot be cast to {precision}"
    target = next((one for one in FORMATS if one.precision == precision), None)
    if target is None:
        raise Unsupported(
            f"{cannot}: a network is cast to fp16 or bf16 only.",
            hint="fp32 and tf32 take the graph as it is stored; int8 needs a quantised network.",
        )
    source = read(model, target)
    types, known = types_of(source), constants(source.graph)
    refuse_less(source, types, model.name)
    weights = _floats(known)
    ranges = measure(source, inputs, _names(source, types), _arrays(weights))
    chosen = choose(Graph(source, types, known, ranges), target, keep)
    if not chosen:
        raise Unsupported(f"{cannot}: no node of it can compute in {precision}.", hint="Run it in fp32.")
    rewrite(source, chosen, weights, target)
    _check(source, cannot)
    written = folder / f"{model.stem}.{precision}.onnx"
    written.write_bytes(source.SerializeToString(deterministic=True))
    return written


def samples(student: Student) -> tuple[Array, ...]:
    """Give inputs for `cast`: of the calibration images, or of the evaluation split where there are none."""
    kept = "calibration" in student.files
    found = load_calibration(student) if kept else load_evaluation(student).inputs
    # As many as are looked at, or as a batch that is built in takes.
    return tuple(array[: max(IMAGES, student.batch or 0)] for array in found)


def _floats(tensors: Mapping[str, TensorProto]) -> dict[str, TensorProto]:
    from onnx import TensorProto

    return {name: tensor for name, tensor in tensors.items() if tensor.data_type == TensorProto.FLOAT}


def _arrays(tensors: Mapping[str, TensorProto]) -> dict[str, Array]:
    from onnx import numpy_helper

    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


def _names(model: ModelProto, types: Mapping[str, int]) -> list[str]:
    """Name the fp32 tensors of the outermost graph, in its order."""
    from onnx import TensorProto

    found = [port.name for port in model.graph.input]
    found += [name for node in model.graph.node for name in node.output]
    return [name for name in found if types.get(name) == TensorProto.FLOAT]


def _check(model: ModelProto, cannot: str) -> None:
    """Hold what was made against ONNX's own rules for types."""
    from onnx import shape_inference

    try:
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    # Native code that raises whatever it trips over.
    except Exception as fault:
        raise Unsupported(
            f"{cannot}: the graph would break a rule of ONNX: {first_line(fault)}.", hint="Run it in fp32."
        ) from fault
