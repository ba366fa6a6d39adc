"""Memory that never moves: tensors side by side in one block, on the host and on the device.

All inputs of a batch lie in one block, and so do its outputs: however many they are, one copy brings them
over.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench import TensorSpec
from kdbench_tensorrt.seam import Cuda

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

ALIGNMENT_BYTES = 256
"""What TensorRT asks of an address, and what CUDA's allocator gives."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each tensor of a batch lies in a block."""

    specs: tuple[TensorSpec, ...]
    batch_size: int
    offsets: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, specs: Sequence[TensorSpec], batch_size: int) -> Layout:
        """Lay the tensors of a batch out, one after the other, each aligned."""
        offsets, end = [], 0
        for spec in specs:
            offsets.append(end)
            count = batch_size * int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
            end += -(-count // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        return cls(tuple(specs), batch_size, tuple(offsets), max(end, ALIGNMENT_BYTES))

    def views(self, block: Any) -> Arrays:
        """Give the tensors that lie in a block of host memory; each keeps the block alive."""
        return tuple(
            self._view(block, spec, offset) for spec, offset in zip(self.specs, self.offsets, strict=True)
        )

    def _view(self, block: Any, spec: TensorSpec, offset: int) -> Array:
        shape = (self.batch_size, *spec.shape)
        flat = np.frombuffer(block, np.dtype(spec.dtype), count=int(np.prod(shape)), offset=offset)
        return flat.reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """A block of page-locked host memory, and the arrays in it."""

    address: int
    arrays: Arrays


class Arena:
    """All that one runner has of CUDA; `close` gives it back in the opposite order.

    Page-locked memory is the exception: arrays in it may be in the harness's hands, so it lives until the
    last of them is gone.
    """

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self._undo: list[Callable[[], object]] = []

    def device(self, size: int) -> int:
        """Allocate device memory."""
        address = self.cuda.allocate(max(size, ALIGNMENT_BYTES))
        self.finally_do(lambda: self.cuda.free(address))
        return address

    def pinned(self, layout: Layout) -> Pinned:
        """Allocate page-locked memory for a batch, filled with zeros: every page of it is touched."""
        address = self.cuda.allocate_pinned(layout.size)
        block = (ctypes.c_byte * layout.size).from_address(address)
        # Not when Python ends: CUDA may have ended before, and takes its memory with it.
        weakref.finalize(block, self.cuda.free_pinned, address).atexit = False
        ctypes.memset(address, 0, layout.size)
        return Pinned(address, layout.views(block))

    def stream(self) -> Any:
        """Create a stream."""
        stream = self.cuda.create_stream()
        self.finally_do(lambda: self.cuda.destroy_stream(stream))
        return stream

    def event(self) -> Any:
        """Create an event."""
        event = self.cuda.create_event()
        self.finally_do(lambda: self.cuda.destroy_event(event))
        return event

    def graph(self, stream: Any, work: Callable[[], None]) -> Any:
        """Record what `work` puts into a stream as a graph."""
        self.cuda.begin_capture(stream)
        try:
            work()
        except BaseException:
            self.cuda.abandon_capture(stream)
            raise
        graph = self.cuda.end_capture(stream)
        self.finally_do(lambda: self.cuda.destroy_graph(graph))
        return graph

    def finally_do(self, undo: Callable[[], object]) -> None:
        """Have something done on close, before what is there already."""
        self._undo.append(undo)

    def close(self) -> None:
        """Give everything back; again does nothing. What one step raises does not keep the others from it."""
        faults: list[Exception] = []
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except Exception as fault:
                faults.append(fault)
        if faults:
            raise faults[0]
