"""The runner of throughput: several requests in flight, each in a context and a stream of its own.

The driver then overlaps copies of one request with kernels of another. A graph is recorded per context, for
network and outputs; the inputs are copied before it, straight from the ring: a graph for every context and
every entry would be hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdbench_tensorrt.memory import Arena, Layout, Pinned
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import Opened
from kdbench_tensorrt.runners import new_execution, refuse, timed
from kdbench_tensorrt.seam import Cuda

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]


class Slot:
    """A place for one request in flight."""

    def __init__(
        self, opened: Opened, arena: Arena, signature: Signature, batch_size: int, *, graph: bool
    ) -> None:
        self.execution = new_execution(opened, arena, signature, batch_size)
        self.staging = arena.pinned(self.execution.inputs[0])
        self.results = arena.pinned(self.execution.outputs[0])
        self.run = self.execution.prepared(self._run, graph=graph)

    def _run(self) -> None:
        self.execution.compute()
        self.execution.copy_out(self.results.address)


class Pipeline:
    """Keeps up to `depth` requests in flight, and waits for the oldest first."""

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
        self._cuda, self._arena, self._graph = cuda, Arena(cuda), graph
        self._layout = Layout.of(signature.inputs, batch_size)
        try:
            self._idle = [Slot(opened, self._arena, signature, batch_size, graph=graph) for _ in range(depth)]
        except BaseException:
            self._arena.close()
            raise
        self._in_flight: dict[int, Slot] = {}
        self._set_aside: list[tuple[int, Arrays]] = []
        self._ring: dict[int, Pinned] = {}
        self._timed: tuple[Slot, Callable[[], int]] | None = None

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate `count` entries in page-locked memory, which live as long as they are held."""
        fresh = [self._arena.pinned(self._layout) for _ in range(count)]
        self._ring |= {id(pinned.arrays): pinned for pinned in fresh}
        return [pinned.arrays for pinned in fresh]

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run one request alone; none may be in flight."""
        self.submit(inputs, 0)
        [(_, outputs)] = self.wait()
        return outputs

    def submit(self, inputs: Arrays, tag: int) -> None:
        """Start a request; blocks while all are in flight. A tag may not be in flight already."""
        if not self._idle:
            tag_complete, outputs = self._finish_oldest()
            # Its slot is used again at once, before wait() has handed its outputs over.
            self._set_aside.append((tag_complete, tuple(array.copy() for array in outputs)))
        slot = self._idle.pop()
        slot.execution.copy_in(self._address(slot, inputs))
        slot.run()
        self._in_flight[tag] = slot

    def wait(self) -> list[tuple[int, Arrays]]:
        """Block until the oldest is complete; answer all that are, valid until the next submit."""
        complete, self._set_aside = self._set_aside or [self._finish_oldest()], []
        finished = self._cuda.finished
        ready = [tag for tag, slot in self._in_flight.items() if finished(slot.execution.stream)]
        return [*complete, *map(self._finish, ready)]

    def device_ns(self, inputs: Arrays) -> int:
        """Run one batch alone, in the slot that the events belong to, and give the time between them."""
        if self._timed is None:
            slot = self._idle[-1]
            self._timed = slot, timed(self._arena, slot.execution, graph=self._graph)
        slot, measure = self._timed
        slot.execution.copy_in(self._address(slot, inputs))
        return measure()

    def close(self) -> None:
        """Wait for what is in flight, make every later call raise, and give everything back."""
        try:
            while self._in_flight:
                self._finish_oldest()
        finally:
            self._idle.clear()
            self._ring.clear()
            self.submit = self.wait = self.device_ns = refuse  # type: ignore[method-assign]  # spares a check
            self.allocate_inputs = refuse  # type: ignore[method-assign]
            self._arena.close()

    def _address(self, slot: Slot, inputs: Arrays) -> int:
        """Give where the inputs lie in page-locked memory: in the ring, or copied into the slot's own."""
        pinned = self._ring.get(id(inputs))
        if pinned is not None:
            return pinned.address
        for mine, given in zip(slot.staging.arrays, inputs, strict=True):
            mine[...] = given
        return slot.staging.address

    def _finish_oldest(self) -> tuple[int, Arrays]:
        return self._finish(next(iter(self._in_flight)))

    def _finish(self, tag: int) -> tuple[int, Arrays]:
        slot = self._in_flight.pop(tag)
        self._idle.append(slot)
        self._cuda.synchronise(slot.execution.stream)
        return tag, slot.results.arrays
