"""Streams, pinned memory and events on one GPU, by NVIDIA's own cuda-bindings.

ONNX Runtime's Python has no pinned memory, no stream and no event for its CUDA provider:
`OrtValue.update_inplace` and `OrtValue.numpy` copy and wait, one after the other. An expert's program puts
the copy to the device, the network and the copy back into one stream and waits once; that takes CUDA itself,
so this module is it. The TensorRT plugin moves data likewise: pinned memory, one stream, one wait.

The driver's interface is used and not the runtime's: it needs no CUDA version of its own beside the one that
ONNX Runtime links. Both see the device's primary context (docs.nvidia.com/cuda/cuda-driver-api, "Primary
Context Management").
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kdbench.spec import Array

SPIN, BLOCK = 1, 4
"""CU_CTX_SCHED_SPIN and CU_CTX_SCHED_BLOCKING_SYNC."""

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one."""

OUT_OF_MEMORY = 2
WORDS = ("out of memory", "out_of_memory", "failed to allocate memory", "alloc_failed")
"""How ONNX Runtime's arena, CUDA, cuDNN and cuBLAS say that the device's memory is full."""


def driver() -> Any:
    """Import NVIDIA's bindings of the driver."""
    from cuda.bindings import driver as bindings

    return bindings


class Cuda:
    """One GPU: memory, streams and events in its primary context.

    kind: what ONNX Runtime's IOBinding calls the device.
    """

    kind = "cuda"

    def __init__(self, index: int, *, spins: bool) -> None:
        """Start CUDA. The flag holds for every wait in this process, those inside ONNX Runtime too."""
        self.index, self._driver = index, driver()
        self._told("cuInit", 0)
        device = self._told("cuDeviceGet", index)
        self._told("cuDevicePrimaryCtxSetFlags", device, SPIN if spins else BLOCK)
        # Retained and never released: ONNX Runtime uses the same context for as long as the process lives.
        self._told("cuCtxSetCurrent", self._told("cuDevicePrimaryCtxRetain", device))

    def pinned(self, shape: Sequence[int], dtype: str) -> Array:
        """Allocate a zeroed page-locked array; its memory lives as long as the last array that shares it."""
        size = max(1, prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._told("cuMemHostAlloc", size, 0))
        block = (ctypes.c_byte * size).from_address(address)
        # Not at the end of Python: CUDA may have ended before, and took its memory along.
        weakref.finalize(block, self._driver.cuMemFreeHost, address).atexit = False
        ctypes.memset(address, 0, size)
        flat: Array = np.frombuffer(memoryview(block), np.dtype(dtype), prod(shape))
        return flat.reshape(shape)

    def buffer(self, size: int) -> Buffer:
        """Allocate device memory, which lives as long as the answer."""
        return Buffer(self._driver, self._told("cuMemAlloc", max(1, size)))

    def stream(self) -> Stream:
        """Create a stream."""
        return Stream(self._driver, self._told("cuStreamCreate", NON_BLOCKING))

    def clock(self) -> Clock:
        """Create a pair of events that take the time."""
        return Clock(self._driver, self._told("cuEventCreate", 0), self._told("cuEventCreate", 0))

    def _told(self, name: str, *arguments: Any) -> Any:
        return told(self._driver, name, *arguments)


class Buffer:
    """Device memory; `address` is what IOBinding takes."""

    def __init__(self, bindings: Any, handle: Any) -> None:
        self.address = int(handle)
        weakref.finalize(self, bindings.cuMemFree, handle).atexit = False


class Stream:
    """A stream; `address` is what ONNX Runtime takes as `user_compute_stream`.

    `close` destroys it, once everything that computes in it is gone.
    """

    def __init__(self, bindings: Any, handle: Any) -> None:
        self._handle, self.address = handle, int(handle)
        self._upload, self._download = bindings.cuMemcpyHtoDAsync, bindings.cuMemcpyDtoHAsync
        self._synchronise, self._query = bindings.cuStreamSynchronize, bindings.cuStreamQuery
        self._bindings = bindings
        self.close = weakref.finalize(self, bindings.cuStreamDestroy, handle)
        self.close.atexit = False

    def upload(self, device: int, host: int, size: int) -> None:
        """Begin to copy to the device."""
        (code,) = self._upload(device, host, size, self._handle)
        if code:
            refuse("cuMemcpyHtoDAsync", code)

    def download(self, host: int, device: int, size: int) -> None:
        """Begin to copy to the host."""
        (code,) = self._download(host, device, size, self._handle)
        if code:
            refuse("cuMemcpyDtoHAsync", code)

    def copy(self, target: int, source: int, size: int) -> None:
        """Begin to copy within the device."""
        told(self._bindings, "cuMemcpyDtoDAsync", target, source, size, self._handle)

    def synchronise(self) -> None:
        """Wait for all that was put into the stream; what went wrong in it is raised here."""
        (code,) = self._synchronise(self._handle)
        if code:
            refuse("cuStreamSynchronize", code)

    def finished(self) -> bool:
        """Tell without waiting whether the stream has done all; a fault is left for the wait."""
        (code,) = self._query(self._handle)
        return not code

    def record(self, event: Any) -> None:
        """Put an event into the stream."""
        told(self._bindings, "cuEventRecord", event, self._handle)


class Clock:
    """Two events, and the time between them; CUDA resolves about half a microsecond."""

    def __init__(self, bindings: Any, first: Any, second: Any) -> None:
        self.first, self.second, self._bindings = first, second, bindings
        for event in (first, second):
            weakref.finalize(self, bindings.cuEventDestroy, event).atexit = False

    def elapsed_ns(self) -> int:
        """Give the time between the two, both of which must have happened."""
        milliseconds: float = told(self._bindings, "cuEventElapsedTime", self.first, self.second)
        return round(milliseconds * 1e6)


def told(bindings: Any, name: str, *arguments: Any) -> Any:
    """Call the driver and give what it answers. Raises MemoryError or RuntimeError, which name the call."""
    code, *values = getattr(bindings, name)(*arguments)
    if code:
        refuse(name, code)
    return values[0] if values else None


def refuse(name: str, code: Any) -> None:
    """Raise what a code of the driver means: MemoryError where the device's memory is full."""
    if int(code) == OUT_OF_MEMORY:
        raise MemoryError(f"{name}: CUDA_ERROR_OUT_OF_MEMORY.")
    raise RuntimeError(f"{name}: {getattr(code, 'name', code)}.")


def memory_fault(error: Exception) -> MemoryError | None:
    """Give the MemoryError that an error of ONNX Runtime is about; None for any other."""
    lines = str(error).strip().splitlines()
    if not any(word in str(error).lower() for word in WORDS):
        return None
    return MemoryError(lines[0][:200] if lines else "")
