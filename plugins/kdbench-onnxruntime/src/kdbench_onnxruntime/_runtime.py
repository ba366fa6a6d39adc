"""ONNX Runtime by its public API: static shapes, outputs bound once, inputs bound once per ring entry.

A call on an input that the runner allocated is one `run_with_iobinding` of a binding made beforehand.
That is the quickest of the public ways: `run` builds dictionaries and an output array each time, and
rebinding an input costs about as much again as the difference. All arrays are on the host: a provider that
computes elsewhere copies them itself, inside the call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import onnxruntime as ort  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Artifact, Target, TensorSpec
from kdbench.spec import Precision
from kdbench_onnxruntime._model import session_options, specs
from kdbench_onnxruntime._opening import opened
from kdbench_onnxruntime._placement import placement
from kdbench_onnxruntime.providers import CPU, PROVIDERS, kind_of, requested, settings

if TYPE_CHECKING:
    from kdbench.spec import Array

ALIGNMENT_BYTES = 64


def threaded_options(target: Target, axis: str, batch_size: int | None) -> Any:
    """Translate a target into SessionOptions; `batch_size` None leaves the batch axis symbolic."""
    modes = {
        "sequential": ort.ExecutionMode.ORT_SEQUENTIAL,
        "parallel": ort.ExecutionMode.ORT_PARALLEL,
    }
    options = session_options(target, axis, batch_size)
    options.execution_mode = modes[str(target.options["execution"])]
    options.intra_op_num_threads = 1 if spreads_requests(target) else target.threads or 0
    options.inter_op_num_threads = 1 if target.options["execution"] == "sequential" else target.threads or 0
    spinning = "1" if target.options["spinning"] else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
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
        self._inputs = specs(artifact.notes["inputs"])
        self._outputs = specs(artifact.notes["outputs"])
        self._runners: list[OrtRunner] = []
        provider = requested(target)
        self._binds_once = not provider.memory
        given = settings(provider, target)

        def one(batch_size: int | None) -> Any:
            options = threaded_options(target, artifact.notes["batch_axis"], batch_size)
            return opened(artifact.files[0], options, provider, kind_of(target.device), given)

        if target.dynamic:
            self._sessions = dict.fromkeys(target.batch_sizes, one(None))
        else:
            self._sessions = {batch_size: one(batch_size) for batch_size in target.batch_sizes}
        first = self._sessions[target.batch_sizes[0]]
        precision = cast("Precision", artifact.notes["precision"])
        spreads = spreads_requests(target)
        # Another provider has threads of its own, and tells nothing of them.
        counted = provider is PROVIDERS[CPU] and not spreads
        threads = first.get_session_options().intra_op_num_threads or None if counted else None
        self.placement = placement(first, target.device, provider.name, precision, threads)
        self.optimal_depth = (target.threads or os.cpu_count() or 1) if spreads else 1

    def runner(self, batch_size: int) -> OrtRunner:
        """Give a runner with outputs of its own."""
        if not self._sessions:
            _refuse()
        runner = OrtRunner(
            self._sessions[batch_size], self._inputs, self._outputs, batch_size, once=self._binds_once
        )
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners, and let the inference sessions go."""
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        self._sessions.clear()


class OrtRunner:
    """Runs one inference session; the outputs are the same arrays at every call.

    once: whether an input may be bound beforehand; to a provider with memory of its own, binding is the copy.
    """

    def __init__(
        self,
        session: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_size: int,
        *,
        once: bool = True,
    ) -> None:
        self._batch_size, self._inputs, self._once = batch_size, inputs, once
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
        if self._once:
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


def _refuse(*_: object) -> NoReturn:
    raise RuntimeError("This session is closed.")
