"""ONNX Runtime by its public API: static shapes, outputs bound once, inputs bound once per ring entry.

A call on an input that the runner allocated is one `run_with_iobinding` of a binding made beforehand.
That is the quickest of the public ways: `run` builds dictionaries and an output array each time, and
rebinding an input costs about as much again as the difference.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import onnxruntime as ort  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Artifact, Placement, Target, TensorSpec, Unsupported
from kdbench.spec import Precision

if TYPE_CHECKING:
    from kdbench.spec import Array

PROVIDER = "CPUExecutionProvider"
PRODUCTS = ("Conv", "Gemm", "MatMul")
"""What the names of operators contain in which nearly all of a network's arithmetic is."""

TYPES: Mapping[str, Precision] = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "int8",
    "int8": "int8",
}
ALIGNMENT_BYTES = 64


def batch_axis(model: Path, inputs: Sequence[TensorSpec], batch_sizes: Sequence[int]) -> str:
    """Find the name of the symbolic first axis in an ONNX file; empty if it is fixed at the only batch size.

    Raises Unsupported if the inputs are not those declared or the batch size is fixed at another one.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=[PROVIDER])
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


def computed_in(
    model: Path, inputs: Sequence[TensorSpec], target: Target, axis: str, workdir: Path
) -> Precision:
    """Run the optimised graph once under the runtime's profiler, and tell what its products take.

    The CPU provider computes in fp32 what it has no kernel for, and a quantised operator that it does not
    recognise likewise. The precision asked for is told where at least half of the products are in it.
    """
    batch_size = target.batch_sizes[0]
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        options = session_options(target, axis, None if target.dynamic else batch_size)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model, options, providers=[PROVIDER])
        session.run(None, {spec.name: np.zeros((batch_size, *spec.shape), spec.dtype) for spec in inputs})
        events = json.loads(Path(session.end_profiling()).read_text())
    taken = Counter(kind for event in events if (kind := _taken(event.get("args", {}))))
    if not taken or 2 * taken[target.precision] >= taken.total():
        return target.precision
    return taken.most_common(1)[0][0]


def _taken(facts: Mapping[str, Any]) -> Precision | None:
    """Tell the type of a product's first operand; None for any other operator."""
    name, operands = facts.get("op_name", ""), facts.get("input_type_shape")
    if not operands or not any(word in name for word in PRODUCTS):
        return None
    # It quantises its first operand itself.
    return "int8" if name.startswith("DynamicQuantize") else TYPES.get(next(iter(operands[0])))


def session_options(target: Target, axis: str, batch_size: int | None) -> Any:
    """Translate a target into SessionOptions; `batch_size` None leaves the batch axis symbolic."""
    levels = {
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    modes = {
        "sequential": ort.ExecutionMode.ORT_SEQUENTIAL,
        "parallel": ort.ExecutionMode.ORT_PARALLEL,
    }
    options = ort.SessionOptions()
    options.graph_optimization_level = levels[str(target.options["optimization"])]
    options.execution_mode = modes[str(target.options["execution"])]
    options.intra_op_num_threads = 1 if spreads_requests(target) else target.threads or 0
    options.inter_op_num_threads = 1 if target.options["execution"] == "sequential" else target.threads or 0
    spinning = "1" if target.options["spinning"] else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if axis and batch_size is not None:
        options.add_free_dimension_override_by_name(axis, batch_size)
    return options


def spreads_requests(target: Target) -> bool:
    """Tell whether each request is computed by the one thread that asked for it."""
    spread = target.options["spread"]
    return spread == "requests" or (spread == "auto" and target.scenario == "throughput")


class OrtSession:
    """The inference sessions of one target, by batch size.

    optimal_depth: how many requests in flight keep the threads busy.
    """

    def __init__(self, artifact: Artifact, target: Target) -> None:
        self._inputs = _specs(artifact.notes["inputs"])
        self._outputs = _specs(artifact.notes["outputs"])
        self._runners: list[OrtRunner] = []

        def opened(batch_size: int | None) -> Any:
            options = session_options(target, artifact.notes["batch_axis"], batch_size)
            return ort.InferenceSession(artifact.files[0], options, providers=[PROVIDER])

        if target.dynamic:
            self._sessions = dict.fromkeys(target.batch_sizes, opened(None))
        else:
            self._sessions = {batch_size: opened(batch_size) for batch_size in target.batch_sizes}
        precision = cast("Precision", artifact.notes["precision"])
        self.placement = _placement(self._sessions[target.batch_sizes[0]], target, precision)
        self.optimal_depth = (target.threads or os.cpu_count() or 1) if spreads_requests(target) else 1

    def runner(self, batch_size: int) -> OrtRunner:
        """Give a runner with outputs of its own."""
        if not self._sessions:
            _refuse()
        runner = OrtRunner(self._sessions[batch_size], self._inputs, self._outputs, batch_size)
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners, and let the inference sessions go."""
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        self._sessions.clear()


class OrtRunner:
    """Runs one inference session; the outputs are the same arrays at every call."""

    def __init__(
        self, session: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batch_size: int
    ) -> None:
        self._batch_size, self._inputs = batch_size, inputs
        self._run: Callable[[Any], object] = session.run_with_iobinding
        self._new_binding: Callable[[], Any] = session.io_binding
        self._outputs = tuple(aligned((batch_size, *spec.shape), spec.dtype) for spec in outputs)
        self._bound_outputs = {
            spec.name: _ort_value(array) for spec, array in zip(outputs, self._outputs, strict=True)
        }
        self._rings: list[tuple[Array, ...]] = []
        self._bindings: dict[int, Any] = {}

    def __call__(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Map one array per input to one per output; inputs of its own rings are bound already."""
        self._run(self._bindings.get(id(inputs)) or self._bind(inputs))
        return self._outputs

    def allocate_inputs(self, count: int) -> list[tuple[Array, ...]]:
        """Allocate aligned inputs and bind each once; they live as long as the runner."""
        entries = [
            tuple(aligned((self._batch_size, *spec.shape), spec.dtype) for spec in self._inputs)
            for _ in range(count)
        ]
        # Kept, so that the id of an entry cannot come to mean another tuple.
        self._rings += entries
        self._bindings |= {id(entry): self._bind(entry) for entry in entries}
        return entries

    def close(self) -> None:
        """Make every later call raise, and let go of the inference session."""
        self._bindings.clear()
        self._run = self._new_binding = _refuse

    def _bind(self, inputs: tuple[Array, ...]) -> Any:
        binding = self._new_binding()
        for name, value in self._bound_outputs.items():
            binding.bind_ortvalue_output(name, value)
        for spec, array in zip(self._inputs, inputs, strict=True):
            binding.bind_ortvalue_input(spec.name, _ort_value(array))
        return binding


def aligned(shape: Sequence[int], dtype: str) -> Array:
    """Allocate a zeroed C-contiguous array that begins on a cache line."""
    size = prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + size].view(dtype).reshape(shape)


def _ort_value(array: Array) -> Any:
    """Wrap an array without copying it."""
    return ort.OrtValue.ortvalue_from_numpy(array)


def _placement(session: Any, target: Target, precision: Precision) -> Placement:
    """Read back where the nodes are and how many threads share each, where this version tells."""
    nodes: Counter[str] = Counter()
    if assignment := getattr(session, "get_provider_graph_assignment_info", None):
        for subgraph in assignment():
            nodes[subgraph.ep_name] += len(subgraph.get_nodes())
    provider = session.get_providers()[0]
    threads = session.get_session_options().intra_op_num_threads
    return Placement(
        device="cpu" if {provider, *nodes} == {PROVIDER} else provider,
        precision=precision,
        provider=provider,
        threads=None if spreads_requests(target) else threads or None,
        nodes=dict(nodes),
    )


def _specs(note: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in json.loads(note))


def _refuse(*_: object) -> NoReturn:
    raise RuntimeError("This session is closed.")
