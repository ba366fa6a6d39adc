"""A slot: a stream and memory of its own for one request in flight, from its start to its outputs.

Copies and kernels are enqueued in one stream, so each waits for the one before without the host. How the host
waits for the last of them is the option `sync`:

- `spin` asks the stream without a pause. `synchronize()` would leave it to the flags of the context whether
  to spin, and torch does not set them: docs.nvidia.com/cuda/cuda-runtime-api, cudaSetDeviceFlags.
- `block` sleeps on an event of the kind cudaEventBlockingSync:
  docs.pytorch.org/docs/stable/generated/torch.cuda.Event.html.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from kdbench_torch.cuda.memory import pinned_like
from kdbench_torch.cuda.step import Step

if TYPE_CHECKING:
    from torch import Tensor

    from kdbench.spec import Array

    Arrays = tuple[Array, ...]
    Tensors = tuple[Tensor, ...]


class Slot(ABC):
    """What both boundaries share; they differ in what happens around the step.

    stream: one of its own, or None for the device's default stream, which costs no switch per call.
    make_step: called in that stream, so that its memory belongs there.
    """

    def __init__(self, make_step: Callable[[], Step], stream: Any, sync: str) -> None:
        import torch

        cuda: Any = torch.cuda
        self._stream = stream or cuda.current_stream()
        self._within: AbstractContextManager[Any] = cuda.stream(stream) if stream else nullcontext()
        # One object for every call: making it costs more than entering it.
        self._inference = torch.inference_mode()
        self._event = cuda.Event(blocking=True) if sync == "block" else None
        self.done: Callable[[], bool] = (self._event or self._stream).query
        with self._within:
            self._step = make_step()
        with self._inference, self._within:
            self._outputs: Any = self._step.run()
        self._stream.synchronize()

    def start(self, inputs: Any) -> None:
        """Enqueue one request; the slot must be idle."""
        with self._inference, self._within:
            self._feed(inputs)
            self._drain(self._step.run())
            if self._event is not None:
                self._event.record(self._stream)

    def finish(self) -> Any:
        """Wait for the request that was started; its outputs are valid until the next start."""
        self._wait()
        return self._outputs

    def device_ns(self, inputs: Any) -> int:
        """Run one request and time the step by events around it: without copies, with gaps between kernels.

        One step goes ahead: the device is at it while the host enqueues the one that is timed. In an idle
        stream the first event would happen at once, and the launch would count as computing. The resolution
        is half a microsecond: docs.nvidia.com/cuda/cuda-runtime-api, cudaEventElapsedTime.
        """
        import torch

        cuda: Any = torch.cuda
        begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
        with self._inference, self._within:
            self._feed(inputs)
            self._step.run()
            begin.record(self._stream)
            answers = self._step.run()
            end.record(self._stream)
            self._drain(answers)
        self._stream.synchronize()
        milliseconds: float = begin.elapsed_time(end)
        return round(milliseconds * 1e6)

    def close(self) -> None:
        """Let everything go, once the device has nothing of it in hand."""
        self._stream.synchronize()
        self._step.close()
        self._outputs = ()

    def _wait(self) -> None:
        if self._event is not None:
            self._event.synchronize()
            return
        done = self.done
        while not done():
            pass

    @abstractmethod
    def keep(self, outputs: Any) -> Any:
        """Copy outputs out of the way of the next request."""

    @abstractmethod
    def _feed(self, inputs: Any) -> None:
        """Bring one request to where the step reads."""

    @abstractmethod
    def _drain(self, answers: Tensors) -> None:
        """Bring what the step answers to where the outputs are."""


class HostSlot(Slot):
    """Host arrays in, host arrays out: copied by the device, from and to pinned memory.

    known: the entries of pinned inputs that need no staging; see `memory.Pinned`.
    """

    def __init__(
        self, make_step: Callable[[], Step], stream: Any, sync: str, known: Mapping[int, Tensors]
    ) -> None:
        # First the device's memory, the scarcer one: a batch too large fails before memory is pinned.
        super().__init__(make_step, stream, sync)
        self._known, self._buffers = known, self._step.inputs
        self._staging, self._results = pinned_like(self._buffers), pinned_like(self._outputs)
        self._arrays = tuple(tensor.numpy() for tensor in self._staging)
        self._outputs = tuple(tensor.numpy() for tensor in self._results)

    def keep(self, outputs: Arrays) -> Arrays:
        """Copy outputs out of the way of the next request."""
        return tuple(array.copy() for array in outputs)

    def close(self) -> None:
        """Let everything go, once the device has nothing of it in hand."""
        super().close()
        self._buffers = self._staging = self._arrays = self._results = ()

    def _feed(self, inputs: Arrays) -> None:
        sources = self._known.get(id(inputs))
        if sources is None:
            for index, given in enumerate(inputs):
                self._arrays[index][...] = given
            sources = self._staging
        for index, source in enumerate(sources):
            self._buffers[index].copy_(source, non_blocking=True)

    def _drain(self, answers: Tensors) -> None:
        for index, answer in enumerate(answers):
            self._results[index].copy_(answer, non_blocking=True)


class DeviceSlot(Slot):
    """Tensors of the device in, tensors of the device out; nothing crosses the bus."""

    def keep(self, outputs: Tensors) -> Tensors:
        """Copy outputs out of the way of the next request, all there when this returns."""
        with self._inference, self._within:
            kept = tuple(tensor.clone() for tensor in outputs)
        self._stream.synchronize()
        return kept

    def _feed(self, inputs: Tensors) -> None:
        self._step.take(inputs)

    def _drain(self, answers: Tensors) -> None:
        self._outputs = answers
