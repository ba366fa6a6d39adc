"""A thin fake of NVIDIA's bindings of the CUDA driver, on host memory; ONNX Runtime above it is real.

What is copied back to the host arrives when somebody waits for the stream, and not before: a runner that
answers too early gives stale outputs here, as it would on a GPU.
"""

# ruff: noqa: N802  # the names are CUDA's

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import pytest

from kdbench.student import load_evaluation, open_student

OUT_OF_MEMORY = 2


@dataclass(eq=False)
class FakeStream:
    number: int
    queue: list = field(default_factory=list)

    def __int__(self):
        return self.number


class FakeDriver:
    """The functions of `cuda.bindings.driver` that the plugin calls; `alive`: what was not given back."""

    def __init__(self):
        self.alive, self.flags, self.free_bytes, self.clock = {}, None, 1 << 30, 0
        self.numbers, self.times = iter(range(1, 1 << 30)), {}

    def cuInit(self, flags):
        return (0,)

    def cuDeviceGet(self, ordinal):
        return 0, ordinal

    def cuDevicePrimaryCtxSetFlags(self, device, flags):
        self.flags = flags
        return (0,)

    def cuDevicePrimaryCtxRetain(self, device):
        return 0, "context"

    def cuCtxSetCurrent(self, context):
        return (0,)

    def _block(self, kind, size):
        if size > self.free_bytes:
            return OUT_OF_MEMORY, None
        block = ctypes.create_string_buffer(size)
        self.alive[ctypes.addressof(block)] = (kind, block)
        return 0, ctypes.addressof(block)

    def cuMemAlloc(self, size):
        return self._block("device", size)

    def cuMemHostAlloc(self, size, flags):
        return self._block("pinned", size)

    def cuMemFree(self, address):
        assert self.alive.pop(int(address))[0] == "device"
        return (0,)

    def cuMemFreeHost(self, address):
        assert self.alive.pop(int(address))[0] == "pinned"
        return (0,)

    def cuStreamCreate(self, flags):
        stream = FakeStream(next(self.numbers))
        self.alive[stream] = ("stream", None)
        return 0, stream

    def cuStreamDestroy(self, stream):
        del self.alive[stream]
        return (0,)

    def cuMemcpyHtoDAsync(self, device, host, size, stream):
        ctypes.memmove(device, host, size)
        return (0,)

    def cuMemcpyDtoDAsync(self, target, source, size, stream):
        ctypes.memmove(target, source, size)
        return (0,)

    def cuMemcpyDtoHAsync(self, host, device, size, stream):
        stream.queue.append((host, ctypes.string_at(device, size)))
        return (0,)

    def cuStreamSynchronize(self, stream):
        for host, content in stream.queue:
            ctypes.memmove(host, content, len(content))
        stream.queue.clear()
        return (0,)

    def cuStreamQuery(self, stream):
        return (600 if stream.queue else 0,)

    def cuEventCreate(self, flags):
        event = FakeStream(next(self.numbers))
        self.alive[event] = ("event", None)
        return 0, event

    def cuEventDestroy(self, event):
        del self.alive[event]
        return (0,)

    def cuEventRecord(self, event, stream):
        self.clock += 1
        self.times[event] = self.clock
        return (0,)

    def cuEventElapsedTime(self, first, second):
        return 0, float(self.times[second] - self.times[first])

    def count(self, kind):
        """Count what is alive of one kind."""
        return sum(known == kind for known, _ in self.alive.values())


@pytest.fixture(scope="module")
def student():
    return open_student("digits-2x5")


@pytest.fixture(scope="module")
def evaluation(student):
    return load_evaluation(student)


@pytest.fixture
def driver(monkeypatch):
    """Put the fake in the place of NVIDIA's bindings, and call its memory what ONNX Runtime's CPU takes."""
    pytest.importorskip("onnxruntime")
    from kdbench_onnxruntime import _device

    fake = FakeDriver()
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    monkeypatch.setattr(_device, "driver", lambda: fake)
    monkeypatch.setattr(_device.Cuda, "kind", "cpu")
    return fake
