"""Infer requests of OpenVINO with memory of their own: one at a time, or several in flight.

Inputs reach a request in the cheaper of two ways. Small ones are copied into the tensor that it has
already; large ones, if they lie in a ring that the runner allocated, are set as its tensor instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import openvino as ov  # noqa: TID253  # this module is imported inside hooks only

from kdbench import TensorSpec

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

COPY_LIMIT_BYTES = 64 * 1024
"""Below it, copying an input takes less time than the call that sets a tensor (about 1.2 µs)."""


class Memory:
    """One tensor per declared input or output, and the arrays that are views of them.

    The runtime owns the bytes: its threads may be the last to let go of a tensor, and one that belongs
    to Python would make them wait for the interpreter, which waits for them when a model is closed.
    """

    def __init__(self, specs: Sequence[TensorSpec], batch_size: int) -> None:
        self.tensors = tuple(
            ov.Tensor(ov.Type(np.dtype(spec.dtype)), ov.Shape([batch_size, *spec.shape])) for spec in specs
        )
        self.arrays: Arrays = tuple(tensor.data for tensor in self.tensors)
        self.bytes = sum(array.nbytes for array in self.arrays)
        for array in self.arrays:
            array.fill(0)


class Request:
    """One infer request with memory of its own; its outputs are the same arrays at every call."""

    def __init__(
        self,
        handle: Any,
        model: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_size: int,
    ) -> None:
        self.handle = handle
        self._places = [_place(model.inputs, spec.name) for spec in inputs]
        self._inputs = Memory(inputs, batch_size)
        self._bind(self._inputs)
        self._results = Memory(outputs, batch_size)
        self.outputs = self._results.arrays
        for spec, tensor in zip(outputs, self._results.tensors, strict=True):
            handle.set_output_tensor(_place(model.outputs, spec.name), tensor)

    def feed(self, inputs: Arrays, ring: Memory | None) -> None:
        """Take `inputs`: by setting the tensors of the ring entry that they are, otherwise by copying."""
        if ring is not None:
            self._bind(ring)
            return
        if self._bound is not self._inputs:
            self._bind(self._inputs)
        # By index: in a call this short, zip(strict=True) alone is 2 % of it.
        for index, given in enumerate(inputs):
            self._inputs.arrays[index][...] = given

    def _bind(self, memory: Memory) -> None:
        for index, tensor in enumerate(memory.tensors):
            self.handle.set_input_tensor(self._places[index], tensor)
        self._bound = memory


class Ring:
    """The inputs that one runner allocated, found again by the identity of an entry."""

    def __init__(self, specs: Sequence[TensorSpec], batch_size: int) -> None:
        self._specs, self._batch_size = specs, batch_size
        self._entries: dict[int, Memory] = {}
        # Looked up at every call, so that it holds only the entries that are to be set and not copied.
        self.settable: dict[int, Memory] = {}

    def allocate(self, count: int) -> list[Arrays]:
        """Allocate `count` entries, which live as long as the ring."""
        fresh = [Memory(self._specs, self._batch_size) for _ in range(count)]
        self._entries |= {id(memory.arrays): memory for memory in fresh}
        self.settable |= {id(memory.arrays): memory for memory in fresh if memory.bytes > COPY_LIMIT_BYTES}
        return [memory.arrays for memory in fresh]


class OpenVinoRunner:
    """Runs one request at a time, in the thread that calls."""

    def __init__(
        self, model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batch_size: int
    ) -> None:
        request = Request(model.create_infer_request(), model, inputs, outputs, batch_size)
        self._ring = Ring(inputs, batch_size)
        self._settable = self._ring.settable
        self.allocate_inputs = self._ring.allocate
        self._feed, self._infer = request.feed, request.handle.infer
        self._outputs = request.outputs

    def __call__(self, inputs: Arrays) -> Arrays:
        """Map one array per input to one per output; the outputs are the same arrays at every call."""
        self._feed(inputs, self._settable.get(id(inputs)))
        self._infer(share_outputs=True)
        return self._outputs

    def close(self) -> None:
        """Make every later call raise, and let go of the request."""
        self._feed = self._infer = refuse


class Pipeline:
    """Keeps up to `depth` requests in flight, and waits for the oldest first, as a device takes them.

    OpenVINO's AsyncInferQueue does the same with two more calls a request, and a callback into Python
    would have the threads of the runtime wait for the interpreter.
    """

    def __init__(
        self,
        model: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_size: int,
        depth: int,
    ) -> None:
        self._idle = [
            Request(model.create_infer_request(), model, inputs, outputs, batch_size) for _ in range(depth)
        ]
        self._ring = Ring(inputs, batch_size)
        self._settable = self._ring.settable
        self.allocate_inputs = self._ring.allocate
        self._in_flight: dict[int, Request] = {}
        self._set_aside: list[tuple[int, Arrays]] = []

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run one request alone; none may be in flight."""
        self.submit(inputs, 0)
        [(_, outputs)] = self.wait()
        return outputs

    def submit(self, inputs: Arrays, tag: int) -> None:
        """Start a request; blocks while all are in flight. A tag may not be in flight already."""
        if not self._idle:
            tag_complete, outputs = self._finish_oldest()
            # Its request is used again at once, before wait() has handed its outputs over.
            self._set_aside.append((tag_complete, tuple(array.copy() for array in outputs)))
        request = self._idle.pop()
        request.feed(inputs, self._settable.get(id(inputs)))
        request.handle.start_async()
        self._in_flight[tag] = request

    def wait(self) -> list[tuple[int, Arrays]]:
        """Block until the oldest is complete; answer all that are, valid until the next submit."""
        complete, self._set_aside = self._set_aside or [self._finish_oldest()], []
        ready = [tag for tag, request in self._in_flight.items() if request.handle.wait_for(0)]
        return [*complete, *map(self._finish, ready)]

    def close(self) -> None:
        """Wait for what is in flight, then make every later call raise."""
        while self._in_flight:
            self._finish_oldest()
        self._idle.clear()
        self.submit = self.wait = refuse  # type: ignore[method-assign]  # spares a check per call

    def _finish_oldest(self) -> tuple[int, Arrays]:
        return self._finish(next(iter(self._in_flight)))

    def _finish(self, tag: int) -> tuple[int, Arrays]:
        request = self._in_flight.pop(tag)
        self._idle.append(request)
        request.handle.wait()
        return tag, request.outputs


def refuse(*_: object, **__: object) -> NoReturn:
    """Stand in for what a closed session has no more."""
    raise RuntimeError("This session is closed.")


def _place(ports: Sequence[Any], name: str) -> int:
    """Find the index of the port of this name."""
    return next(index for index, port in enumerate(ports) if name in port.get_names())
