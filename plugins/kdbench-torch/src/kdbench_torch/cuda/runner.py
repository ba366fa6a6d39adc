"""What the harness drives: one request at a time, or several in flight on streams of their own.

A thread starts on the first device: a runner that is called in another one sets its own there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

from kdbench_torch.cuda import memory
from kdbench_torch.cuda.fault import out_of_memory
from kdbench_torch.cuda.memory import Pinned
from kdbench_torch.session import refuse

if TYPE_CHECKING:
    from kdbench.spec import Array
    from kdbench_torch.cuda.slot import Slot

    Arrays = tuple[Array, ...]


class CudaRunner:
    """Runs one request at a time; complete on return.

    enter_thread: called once in each thread that calls, before anything else.
    where: the device and the batch size, for an error.
    """

    def __init__(self, slot: Slot, enter_thread: Callable[[], None], where: str) -> None:
        self._slot, self._enter_thread, self._where = slot, enter_thread, where
        self._start: Callable[[Any], object] = slot.start
        self._finish: Callable[[], Any] = slot.finish
        self._thread = get_ident()

    def __call__(self, inputs: Any, /) -> Any:
        """Run one batch; the outputs are valid until the next call."""
        if get_ident() != self._thread:
            self._move_here()
        try:
            self._start(inputs)
            return self._finish()
        except RuntimeError as fault:
            if error := out_of_memory(fault, self._where, "run"):
                raise error from fault
            raise

    def device_ns(self, inputs: Any, /) -> int:
        """Run one batch and tell for how long the device had it, copies left out, in nanoseconds."""
        if get_ident() != self._thread:
            self._move_here()
        return self._slot.device_ns(inputs)

    def close(self) -> None:
        """Make every later call raise, and give the memory back."""
        self._slot.close()
        self._start = self._finish = refuse
        self.device_ns = refuse  # type: ignore[method-assign]  # spares a check per call

    def _move_here(self) -> None:
        self._enter_thread()
        self._thread = get_ident()


class CudaPipeline:
    """Keeps up to `depth` requests in flight, one per slot; all are driven by one thread at a time."""

    def __init__(self, slots: Sequence[Slot], enter_thread: Callable[[], None], where: str) -> None:
        self._idle = list(slots)
        self._enter_thread, self._where = enter_thread, where
        self._thread = get_ident()
        self._in_flight: dict[int, Slot] = {}
        self._set_aside: list[tuple[int, Any]] = []

    def __call__(self, inputs: Any, /) -> Any:
        """Run one request alone; none may be in flight."""
        self.submit(inputs, 0)
        [(_, outputs)] = self.wait()
        return outputs

    def submit(self, inputs: Any, tag: int) -> None:
        """Start a request; blocks while all slots are taken. A tag may not be in flight already."""
        if get_ident() != self._thread:
            self._move_here()
        if not self._idle:
            # Its slot is used again at once, before wait() has handed its outputs over.
            slot = self._in_flight[next(iter(self._in_flight))]
            complete, outputs = self._finish_oldest()
            self._set_aside.append((complete, slot.keep(outputs)))
        slot = self._idle.pop()
        try:
            slot.start(inputs)
        except RuntimeError as fault:
            self._idle.append(slot)
            if error := out_of_memory(fault, self._where, "run"):
                raise error from fault
            raise
        self._in_flight[tag] = slot

    def wait(self) -> list[tuple[int, Any]]:
        """Block until the oldest is complete; answer all that are, valid until the next submit."""
        complete, self._set_aside = self._set_aside or [self._finish_oldest()], []
        ready = [tag for tag, slot in self._in_flight.items() if slot.done()]
        return [*complete, *map(self._finish, ready)]

    def device_ns(self, inputs: Any, /) -> int:
        """Run one batch alone and tell for how long the device had it, copies left out, in nanoseconds."""
        if get_ident() != self._thread:
            self._move_here()
        return self._idle[-1].device_ns(inputs)

    def close(self) -> None:
        """Wait for what is in flight, then make every later call raise, and give the memory back."""
        while self._in_flight:
            self._finish_oldest()
        for slot in self._idle:
            slot.close()
        self._idle.clear()
        self.submit = self.wait = refuse  # type: ignore[method-assign,assignment]  # spares a check per call
        self.device_ns = refuse  # type: ignore[method-assign]

    def _finish_oldest(self) -> tuple[int, Any]:
        return self._finish(next(iter(self._in_flight)))

    def _finish(self, tag: int) -> tuple[int, Any]:
        slot = self._in_flight.pop(tag)
        self._idle.append(slot)
        return tag, slot.finish()

    def _move_here(self) -> None:
        self._enter_thread()
        self._thread = get_ident()


class HostMemory:
    """Gives a runner at the boundary `host` inputs that the device reads by itself."""

    def __init__(self, pinned: Pinned, *rest: Any) -> None:
        super().__init__(*rest)
        self._pinned = pinned

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate `count` sets of pinned arrays, which need no staging when they come back."""
        return self._pinned.allocate(count)

    def close(self) -> None:
        """Give the memory back."""
        super().close()  # type: ignore[misc]  # of the runner that this is mixed into
        self._pinned.close()


class DeviceMemory:
    """Lets a runner at the boundary `device` be filled and read from outside the timed call."""

    def __init__(self, device: str, *rest: Any) -> None:
        super().__init__(*rest)
        self._device = device

    def upload(self, inputs: Arrays, /) -> object:
        """Copy one batch to memory of the device that lives as long as the answer."""
        return memory.upload(inputs, self._device)

    def download(self, outputs: Any, /) -> Arrays:
        """Copy what a call answered to arrays of the host."""
        return memory.download(outputs)


class HostRunner(HostMemory, CudaRunner):
    """One at a time, from host arrays to host arrays."""


class HostPipeline(HostMemory, CudaPipeline):
    """Several in flight, from host arrays to host arrays."""


class DeviceRunner(DeviceMemory, CudaRunner):
    """One at a time, from tensors of the device to tensors of the device."""


class DevicePipeline(DeviceMemory, CudaPipeline):
    """Several in flight, from tensors of the device to tensors of the device."""
