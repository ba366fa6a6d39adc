"""The runner of latency: one request at a time, from host memory to host memory.

A ring entry's block is copied, the network run and the outputs copied back by one graph of its own, recorded
when the entry is allocated: a call is one launch and one wait, as it would be in a program with one staging
buffer. One graph for all entries would need the copy as another call before it. The memory of the graphs
grows with the ring, by what the driver needs for each kernel launch; buffers and contexts are not doubled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from kdbench_tensorrt.execution import Execution
from kdbench_tensorrt.memory import Arena, Layout, Pinned
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import Opened
from kdbench_tensorrt.seam import Cuda

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]


def refuse(*_: object, **__: object) -> NoReturn:
    """Stand in for what a closed session has no more."""
    raise RuntimeError("This session is closed.")


def new_execution(opened: Opened, arena: Arena, signature: Signature, batch_size: int) -> Execution:
    """Make an execution with a stream and device memory of its own."""
    inputs, outputs = Layout.of(signature.inputs, batch_size), Layout.of(signature.outputs, batch_size)
    scratch = arena.device(opened.scratch_bytes)
    return Execution(
        opened,
        arena,
        arena.stream(),
        scratch,
        (inputs, arena.device(inputs.size)),
        (outputs, arena.device(outputs.size)),
    )


class TensorRtRunner:
    """Runs one request at a time; its outputs are the same arrays at every call."""

    def __init__(
        self, cuda: Cuda, opened: Opened, signature: Signature, batch_size: int, *, graph: bool
    ) -> None:
        self._arena, self._graph = Arena(cuda), graph
        try:
            self._execution = new_execution(opened, self._arena, signature, batch_size)
            self._stream, self._synchronise = self._execution.stream, cuda.synchronise
            self._results = self._arena.pinned(self._execution.outputs[0])
            self._outputs = self._results.arrays
            self._staging = self._arena.pinned(self._execution.inputs[0])
            self._staged = self._prepare(self._staging)
        except BaseException:
            self._arena.close()
            raise
        # By the identity of an entry, which is kept here and so not another's.
        self._ring: dict[int, Pinned] = {}
        self._launches: dict[int, Callable[[], None]] = {}
        self._timed: Callable[[], int] | None = None

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate `count` entries in page-locked memory, each with its graph."""
        fresh = [self._arena.pinned(self._execution.inputs[0]) for _ in range(count)]
        for pinned in fresh:
            self._ring[id(pinned.arrays)] = pinned
            self._launches[id(pinned.arrays)] = self._prepare(pinned)
        return [pinned.arrays for pinned in fresh]

    def __call__(self, inputs: Arrays) -> Arrays:
        """Map one array per input to one per output, complete on return."""
        launch = self._launches.get(id(inputs))
        if launch is None:
            self._stage(inputs)
            launch = self._staged
        launch()
        self._synchronise(self._stream)
        return self._outputs

    def device_ns(self, inputs: Arrays) -> int:
        """Run one batch and give the time between events around the network; copies are outside of them."""
        pinned = self._ring.get(id(inputs))
        if pinned is None:
            self._stage(inputs)
            pinned = self._staging
        if self._timed is None:
            self._timed = timed(self._arena, self._execution, graph=self._graph)
        self._execution.copy_in(pinned.address)
        return self._timed()

    def close(self) -> None:
        """Make every later call raise, and give everything back."""
        self._launches.clear()
        self._ring.clear()
        self._stage = self._staged = self._synchronise = refuse  # type: ignore[method-assign]  # spares a check
        self.allocate_inputs = self.device_ns = refuse  # type: ignore[method-assign]
        self._arena.close()

    def _stage(self, inputs: Arrays) -> None:
        for mine, given in zip(self._staging.arrays, inputs, strict=True):
            mine[...] = given

    def _prepare(self, pinned: Pinned) -> Callable[[], None]:
        execution, results = self._execution, self._results

        def work() -> None:
            execution.copy_in(pinned.address)
            execution.compute()
            execution.copy_out(results.address)

        return execution.prepared(work, graph=self._graph)


def timed(arena: Arena, execution: Execution, *, graph: bool) -> Callable[[], int]:
    """Give what runs the network between two events and tells the time between them, in nanoseconds.

    As `trtexec` does for its GPU compute time: with a graph, the events stand around its launch, and one run
    goes ahead, as trtexec enqueues one batch ahead of time. In a stream that is idle, the first event would
    happen at once, and the launch that the device waits for would count as its computing
    (docs.nvidia.com/deeplearning/tensorrt/latest/reference/command-line-programs.html).
    """
    cuda, stream = arena.cuda, execution.stream
    first, second = arena.event(), arena.event()
    compute = execution.prepared(execution.compute, graph=graph)

    def measure() -> int:
        compute()
        cuda.record(first, stream)
        compute()
        cuda.record(second, stream)
        cuda.synchronise(stream)
        return cuda.elapsed_ns(first, second)

    return measure
