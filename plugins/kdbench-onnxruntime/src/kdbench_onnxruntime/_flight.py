"""Runners on a GPU: requests in slots, the oldest first, at either boundary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast
from weakref import WeakSet

from kdbench import TensorSpec
from kdbench_onnxruntime._device import Cuda
from kdbench_onnxruntime._slots import Bound, Slot, Tensor

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

Given = TypeVar("Given")
Answer = TypeVar("Answer")


def refuse(*_: object, **__: object) -> NoReturn:
    """Stand in for what a closed session has no more."""
    raise RuntimeError("This session is closed.")


class Flight(ABC, Generic[Given, Answer]):
    """What both boundaries have in common: one request at a time, or as many as there are slots."""

    def __init__(
        self, cuda: Cuda, slots: Sequence[Slot], inputs: Sequence[TensorSpec], batch_size: int, *, graph: bool
    ) -> None:
        self._cuda, self._inputs, self._batch_size, self._graph = cuda, inputs, batch_size, graph
        self._slots, self._idle, self._first = list(slots), list(slots), slots[0]
        self._in_flight: deque[tuple[int, Slot]] = deque()
        self._set_aside: list[tuple[int, Answer]] = []
        self._clock = cuda.clock()

    def __call__(self, inputs: Given) -> Answer:
        """Run one batch and wait for it; none may be in flight."""
        slot = self._first
        self._start(slot, inputs)
        slot.stream.synchronise()
        return self._answer(slot)

    def submit(self, inputs: Given, tag: int) -> None:
        """Start a request; blocks while all slots are taken."""
        if not self._idle:
            done, slot = self._finish()
            # The slot is used again at once, before wait() has handed its outputs over.
            self._set_aside.append((done, self._kept(slot)))
        slot = self._idle.pop()
        self._start(slot, inputs)
        self._in_flight.append((tag, slot))

    def wait(self) -> list[tuple[int, Answer]]:
        """Block until the oldest is complete; answer all that are, valid until the next submit."""
        complete, self._set_aside = self._set_aside, []
        while self._in_flight and (not complete or self._in_flight[0][1].stream.finished()):
            tag, slot = self._finish()
            complete.append((tag, self._answer(slot)))
        return complete

    def device_ns(self, inputs: Given) -> int | None:
        """Run one batch and give the time between events before and after the network.

        Pauses of the device between two kernels are in it. One run goes ahead: the device is busy while the
        host begins the one that is timed, so that its first launch is not in it. None with CUDA graphs: ONNX
        Runtime waits for a replay itself, before the second event could be put into the stream.
        """
        if self._graph:
            return None
        slot, clock = self._first, self._clock
        bound = self._fed(slot, inputs)
        slot.compute(bound)
        slot.stream.record(clock.first)
        slot.compute(bound)
        slot.stream.record(clock.second)
        slot.stream.synchronise()
        return clock.elapsed_ns()

    def close(self) -> None:
        """Wait for what is in flight, make every later call raise, and let go of the sessions."""
        while self._in_flight:
            self._finish()
        for slot in self._slots:
            slot.close()
        for held in (self._slots, self._idle, self._set_aside):
            held.clear()
        for name in ("_start", "_fed", "_finish", "submit", "wait", "device_ns"):
            setattr(self, name, refuse)

    def _finish(self) -> tuple[int, Slot]:
        tag, slot = self._in_flight.popleft()
        self._idle.append(slot)
        slot.stream.synchronise()
        return tag, slot

    @abstractmethod
    def _start(self, slot: Slot, inputs: Given) -> None:
        """Begin a request."""

    @abstractmethod
    def _fed(self, slot: Slot, inputs: Given) -> Bound:
        """Bring inputs to the device, and give the binding that has them."""

    @abstractmethod
    def _answer(self, slot: Slot) -> Answer:
        """Give the answer of a request that is complete."""

    @abstractmethod
    def _kept(self, slot: Slot) -> Answer:
        """Give the answer of a slot that is used again before it is asked for."""


class HostRunner(Flight["Arrays", "Arrays"]):
    """From host memory to host memory, copies included; its inputs and outputs are pinned."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._rings: list[Arrays] = []
        self._addresses: dict[int, list[int]] = {}

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate `count` entries in pinned memory."""
        entries = [
            tuple(self._cuda.pinned((self._batch_size, *spec.shape), spec.dtype) for spec in self._inputs)
            for _ in range(count)
        ]
        # Kept, so that the id of an entry cannot come to mean another tuple.
        self._rings += entries
        self._addresses |= {id(entry): _addresses(entry) for entry in entries}
        return entries

    def _start(self, slot: Slot, inputs: Arrays) -> None:
        slot.compute(self._fed(slot, inputs))
        slot.fetch()

    def _fed(self, slot: Slot, inputs: Arrays) -> Bound:
        slot.upload(self._addresses.get(id(inputs)) or _addresses(inputs))
        return cast("Bound", slot.bound)

    def _answer(self, slot: Slot) -> Arrays:
        return slot.outputs

    def _kept(self, slot: Slot) -> Arrays:
        return tuple(array.copy() for array in slot.outputs)


class Uploaded:
    """Inputs on the device; `bounds` has them bound to each slot, and is empty with CUDA graphs."""

    def __init__(self, tensors: Sequence[Tensor], bounds: Mapping[int, Bound]) -> None:
        self.tensors, self.bounds = tensors, dict(bounds)


class DeviceRunner(Flight[Uploaded, Any]):
    """From device memory to device memory; the answer is a slot, whose outputs `download` fetches.

    A CUDA graph computes at the addresses that it was captured with: inputs are then copied there first, on
    the device and within the call.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._uploads: WeakSet[Uploaded] = WeakSet()

    def upload(self, inputs: Arrays) -> Uploaded:
        """Copy one batch to memory of its own on the device."""
        tensors = [Tensor(self._cuda, spec, self._batch_size) for spec in self._inputs]
        stream = self._first.stream
        for tensor, address in zip(tensors, _addresses(inputs), strict=True):
            stream.upload(tensor.address, address, tensor.size)
        stream.synchronise()
        slots = [] if self._graph else self._slots
        uploaded = Uploaded(tensors, {id(slot): slot.bind(tensors) for slot in slots})
        self._uploads.add(uploaded)
        return uploaded

    def download(self, outputs: Any) -> Arrays:
        """Copy what the last call answered to host arrays."""
        if isinstance(outputs, Slot):
            outputs.fetch()
            outputs.stream.synchronise()
            return outputs.outputs
        return cast("Arrays", outputs)

    def close(self) -> None:
        """Close, and unbind what was uploaded: whoever holds it must not hold the session."""
        for uploaded in self._uploads:
            uploaded.bounds.clear()
        super().close()
        self.upload = self.download = refuse  # type: ignore[method-assign]  # spares a check per call

    def _start(self, slot: Slot, inputs: Uploaded) -> None:
        slot.compute(self._fed(slot, inputs))

    def _fed(self, slot: Slot, inputs: Uploaded) -> Bound:
        if self._graph:
            slot.take(inputs.tensors)
            return cast("Bound", slot.bound)
        return inputs.bounds[id(slot)]

    def _answer(self, slot: Slot) -> Slot:
        return slot

    def _kept(self, slot: Slot) -> Arrays:
        return tuple(array.copy() for array in self.download(slot))


def _addresses(arrays: Arrays) -> list[int]:
    return [array.ctypes.data for array in arrays]
