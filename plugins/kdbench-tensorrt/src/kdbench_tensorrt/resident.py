"""The runner of the boundary `device`: inputs lie on the GPU already, and outputs stay there.

An entry that was uploaded has a context of its own, whose addresses are the entry's, and a graph of that:
pointing one context at another entry would invalidate what was recorded from it
(docs.nvidia.com/deeplearning/tensorrt/11.4.1/performance/optimization.html, "CUDA Graphs"). Contexts of one
slot share the memory that they compute in, and run one after the other in its stream. Uploads take the slots
in turn: those of a ring, which follow one another, are then in flight side by side.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

from kdbench_tensorrt.execution import Execution
from kdbench_tensorrt.memory import Arena, Layout
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import Opened
from kdbench_tensorrt.runners import refuse
from kdbench_tensorrt.seam import Cuda

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A place for one request in flight: a stream, memory to compute in, and memory for the outputs.

    free: places of this slot that nobody holds.
    """

    stream: Any
    scratch: int
    outputs: int
    free: list[Place] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Place:
    """Device memory for one batch of inputs, and what runs the network on it; after closing, nothing does."""

    slot: Slot
    execution: Execution
    run: Callable[[], None]


class Uploaded:
    """A batch of inputs on the device; its place is used again once nobody holds this any more."""

    def __init__(self, place: Place) -> None:
        self.place = place
        weakref.finalize(self, place.slot.free.append, place).atexit = False


class ResidentRunner:
    """Runs what was uploaded, up to `depth` requests at once; answers the slot, or host arrays set aside."""

    def __init__(
        self,
        cuda: Cuda,
        opened: Opened,
        signature: Signature,
        batch_size: int,
        depth: int,
        *,
        graph: bool,
    ) -> None:
        self._cuda, self._opened, self._graph = cuda, opened, graph
        self._arena = Arena(cuda)
        self._inputs, self._outputs = (
            Layout.of(s, batch_size) for s in (signature.inputs, signature.outputs)
        )
        try:
            self._slots = [self._slot() for _ in range(depth)]
            self._staging, self._results = self._arena.pinned(self._inputs), self._arena.pinned(self._outputs)
            self._events = self._arena.event(), self._arena.event()
        except BaseException:
            self._arena.close()
            raise
        self._turns = cycle(self._slots)
        self._places: list[Place] = []
        self._in_flight: dict[int, Uploaded] = {}
        self._set_aside: list[tuple[int, object]] = []
        self._synchronise = cuda.synchronise

    def upload(self, inputs: Arrays) -> Uploaded:
        """Copy one batch to the device."""
        slot = next(self._turns)
        place = slot.free.pop() if slot.free else self._new_place(slot)
        for mine, given in zip(self._staging.arrays, inputs, strict=True):
            mine[...] = given
        place.execution.copy_in(self._staging.address)
        self._cuda.synchronise(place.slot.stream)
        return Uploaded(place)

    def download(self, outputs: object) -> Arrays:
        """Copy the outputs of the last call to the host."""
        if not isinstance(outputs, Slot):
            return outputs  # type: ignore[return-value]  # set aside, and on the host already
        self._cuda.copy_out(self._results.address, outputs.outputs, self._outputs.size, outputs.stream)
        self._cuda.synchronise(outputs.stream)
        return tuple(array.copy() for array in self._results.arrays)

    def __call__(self, inputs: Uploaded) -> Slot:
        """Run one batch where it lies; complete on return."""
        place = inputs.place
        place.run()
        self._synchronise(place.slot.stream)
        return place.slot

    def submit(self, inputs: Uploaded, tag: int) -> None:
        """Start a request; blocks while the slot of its inputs is taken."""
        slot = inputs.place.slot
        taken = next((other for other, held in self._in_flight.items() if held.place.slot is slot), None)
        if taken is not None:
            _, outputs = self._finish(taken)
            # Its memory is used again at once, before wait() has handed the outputs over.
            self._set_aside.append((taken, self.download(outputs)))
        inputs.place.run()
        self._in_flight[tag] = inputs

    def wait(self) -> list[tuple[int, object]]:
        """Block until the oldest is complete; answer all that are, valid until the next submit."""
        complete, self._set_aside = self._set_aside or [self._finish(next(iter(self._in_flight)))], []
        ready = [tag for tag, held in self._in_flight.items() if self._cuda.finished(held.place.slot.stream)]
        return [*complete, *map(self._finish, ready)]

    def device_ns(self, inputs: Uploaded) -> int:
        """Run one batch and give the time between events around it, one run ahead: see `runners.timed`."""
        (first, second), place = self._events, inputs.place
        place.run()
        self._cuda.record(first, place.slot.stream)
        place.run()
        self._cuda.record(second, place.slot.stream)
        self._cuda.synchronise(place.slot.stream)
        return self._cuda.elapsed_ns(first, second)

    def close(self) -> None:
        """Wait for what is in flight, make every later call raise, and give everything back."""
        try:
            while self._in_flight:
                self._finish(next(iter(self._in_flight)))
        finally:
            for place in self._places:
                place.run = refuse
            self._places.clear()
            self.upload = self.download = refuse  # type: ignore[method-assign]  # spares a check per call
            self.submit = self.wait = self.device_ns = refuse  # type: ignore[method-assign]
            self._arena.close()

    def _slot(self) -> Slot:
        arena = self._arena
        return Slot(
            arena.stream(), arena.device(self._opened.scratch_bytes), arena.device(self._outputs.size)
        )

    def _new_place(self, slot: Slot) -> Place:
        arena = self._arena
        inputs, outputs = (self._inputs, arena.device(self._inputs.size)), (self._outputs, slot.outputs)
        execution = Execution(self._opened, arena, slot.stream, slot.scratch, inputs, outputs)
        place = Place(slot, execution, execution.prepared(execution.compute, graph=self._graph))
        self._places.append(place)
        return place

    def _finish(self, tag: int) -> tuple[int, object]:
        held = self._in_flight.pop(tag)
        self._cuda.synchronise(held.place.slot.stream)
        return tag, held.place.slot
