"""The ONNX file as ONNX Runtime sees it: batch axis, what it is computed in, how a session opens it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Student, Target, TensorSpec, Unsupported
from kdbench.spec import Precision
from kdbench_onnxruntime._placement import CPU, is_product

TYPES: Mapping[str, Precision] = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "int8",
    "int8": "int8",
}


def notes(student: Student, axis: str, precision: Precision) -> dict[str, str]:
    """Write down what load has to know of a student."""
    return {
        "inputs": json.dumps([asdict(spec) for spec in student.inputs]),
        "outputs": json.dumps([asdict(spec) for spec in student.outputs]),
        "batch_axis": axis,
        "precision": precision,
    }


def specs(note: str) -> tuple[TensorSpec, ...]:
    """Read what `notes` wrote of the inputs or the outputs."""
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in json.loads(note))


def batch_axis(model: Path, inputs: Sequence[TensorSpec], batch_sizes: Sequence[int]) -> str:
    """Find the name of the symbolic first axis in an ONNX file; empty if it is fixed at the only batch size.

    Raises Unsupported if the inputs are not those declared or the batch size is fixed at another one.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=[CPU])
    shapes = {node.name: node.shape for node in session.get_inputs()}
    declared = sorted(spec.name for spec in inputs)
    if sorted(shapes) != declared:
        raise Unsupported(f"The ONNX file takes the inputs {sorted(shapes)}, and its card says {declared}.")
    axes = {shapes[spec.name][0] for spec in inputs}
    if len(axes) > 1:
        raise Unsupported(
            f"The inputs of the ONNX file differ in their first axis: {sorted(map(str, axes))}."
        )
    axis = axes.pop()
    if isinstance(axis, int) and set(batch_sizes) != {axis}:
        raise Unsupported(f"The ONNX file has the batch size {axis} built in, not {list(batch_sizes)}.")
    return axis if isinstance(axis, str) else ""


def session_options(target: Target, axis: str, batch_size: int | None) -> Any:
    """Make SessionOptions that fix the batch axis (`batch_size` None leaves it symbolic), with one thread."""
    levels = {
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    options = ort.SessionOptions()
    options.graph_optimization_level = levels[str(target.options["optimization"])]
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if axis and batch_size is not None:
        options.add_free_dimension_override_by_name(axis, batch_size)
    return options


def computed_in(
    opened: Callable[[Any], Any],
    options: Any,
    feed: Mapping[str, Any],
    stored: Precision,
    workdir: Path,
) -> Precision:
    """Run the optimised graph once under the runtime's profiler, and tell what its products take.

    A provider computes in fp32 what it has no kernel for, and a quantised operator that it does not recognise
    likewise. The precision of the graph is told where at least half of the products are in it.
    `opened` makes a session of SessionOptions.
    """
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = opened(options)
        session.run(None, dict(feed))
        events = json.loads(Path(session.end_profiling()).read_text())
    taken = Counter(kind for event in events if (kind := _taken(event.get("args", {}))))
    if not taken or 2 * taken[stored] >= taken.total():
        return stored
    return taken.most_common(1)[0][0]


def zeros(inputs: Sequence[TensorSpec], batch_size: int) -> dict[str, Any]:
    """Make one input of each kind, of zeros."""
    return {spec.name: np.zeros((batch_size, *spec.shape), spec.dtype) for spec in inputs}


def _taken(facts: Mapping[str, Any]) -> Precision | None:
    """Tell the type of a product's first operand; None for any other operator."""
    name, operands = facts.get("op_name", ""), facts.get("input_type_shape")
    if not operands or not is_product(name):
        return None
    # It quantises its first operand itself.
    return "int8" if name.startswith("DynamicQuantize") else TYPES.get(next(iter(operands[0])))
