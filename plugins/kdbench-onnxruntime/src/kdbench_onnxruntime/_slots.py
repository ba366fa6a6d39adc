"""What one request needs on a GPU: an inference session, a stream, and memory that never moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort  # noqa: TID253  # this module is imported inside hooks only

from kdbench import TensorSpec
from kdbench_onnxruntime._device import Cuda, memory_fault

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

WARMING_RUNS = 3
"""How often a binding is run beforehand: kernels are chosen, memory is taken, and a CUDA graph is captured.

ONNX Runtime captures after the first runs of its own accord; where it does that in one call, the others are
spare.
"""


class Tensor:
    """One input or output of a batch in device memory."""

    def __init__(self, cuda: Cuda, spec: TensorSpec, batch_size: int) -> None:
        self.name, self.dtype = spec.name, np.dtype(spec.dtype)
        self.shape = (batch_size, *spec.shape)
        self.size = prod(self.shape) * self.dtype.itemsize
        self.buffer = cuda.buffer(self.size)
        self.address = self.buffer.address


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Inputs and outputs at fixed addresses of the device, ready for one session to be run on."""

    binding: Any
    options: Any


class Engine:
    """An inference session that computes in a stream of ours.

    It is told not to wait at the end of a run (`disable_synchronize_execution_providers`), so that the copy
    of the outputs follows in the same stream, and the host waits once. `opened` makes the session for a
    stream's address. Sources: onnxruntime.ai/docs/execution-providers/ CUDA-ExecutionProvider.html,
    `user_compute_stream` and "Using CUDA Graphs", and
    onnxruntime.ai/docs/performance/tune-performance/iobinding.html.
    """

    def __init__(self, cuda: Cuda, opened: Callable[[int], Any]) -> None:
        # Named first, so that it is also let go of first: it computes in the stream.
        self.session: Any = None
        self.cuda, self.stream = cuda, cuda.stream()
        try:
            self.session = opened(self.stream.address)
        except Exception as error:
            if fault := memory_fault(error):
                raise fault from error
            raise

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Bound:
        """Bind tensors on the device."""
        binding, options = self.session.io_binding(), ort.RunOptions()
        kind, index = self.cuda.kind, self.cuda.index
        for one in inputs:
            binding.bind_input(one.name, kind, index, one.dtype, one.shape, one.address)
        for one in outputs:
            binding.bind_output(one.name, kind, index, one.dtype, one.shape, one.address)
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return Bound(binding, options)

    def run(self, bound: Bound) -> None:
        """Begin to compute. Raises MemoryError where the device's memory is full."""
        try:
            self.session.run_with_iobinding(bound.binding, bound.options)
        except Exception as error:
            if fault := memory_fault(error):
                raise fault from error
            raise

    def close(self) -> None:
        """Let go of the session, then destroy its stream; nothing may be bound any more."""
        self.session = None
        self.stream.close()


class Slot:
    """One request: device memory for inputs and outputs, and pinned memory that the outputs come back to."""

    def __init__(
        self, engine: Engine, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batch_size: int
    ) -> None:
        cuda = engine.cuda
        self.stream, self._engine = engine.stream, engine
        self._inputs = [Tensor(cuda, spec, batch_size) for spec in inputs]
        self._outputs = [Tensor(cuda, spec, batch_size) for spec in outputs]
        self.outputs: Arrays = tuple(cuda.pinned((batch_size, *spec.shape), spec.dtype) for spec in outputs)
        self._backs = [
            (array.ctypes.data, tensor.address, tensor.size)
            for array, tensor in zip(self.outputs, self._outputs, strict=True)
        ]
        self.compute = engine.run
        self.bound: Bound | None = self.bind(self._inputs)

    def bind(self, inputs: Sequence[Tensor]) -> Bound:
        """Bind inputs to this slot's outputs, and run them until nothing more is prepared."""
        bound = self._engine.bind(inputs, self._outputs)
        for _ in range(WARMING_RUNS):
            self.compute(bound)
        self.stream.synchronise()
        return bound

    def upload(self, addresses: Sequence[int]) -> None:
        """Begin to copy inputs, by their addresses on the host, to where the slot's own binding has them."""
        # By index: in a call this short, zip(strict=True) is felt.
        for index, tensor in enumerate(self._inputs):
            self.stream.upload(tensor.address, addresses[index], tensor.size)

    def take(self, inputs: Sequence[Tensor]) -> None:
        """Begin to copy inputs from elsewhere on the device to where the slot's own binding has them."""
        for index, tensor in enumerate(self._inputs):
            self.stream.copy(tensor.address, inputs[index].address, tensor.size)

    def fetch(self) -> None:
        """Begin to copy the outputs back."""
        for host, device, size in self._backs:
            self.stream.download(host, device, size)

    def close(self) -> None:
        """Let go of the session."""
        self.bound = None
        del self._engine, self.compute
