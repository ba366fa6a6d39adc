"""A thin fake of the seam to CUDA, and of a live engine: streams are queues, graphs are lists of work.

What is put into a stream runs when somebody waits for it, and not before: a call that answers too early gives
stale outputs here, as it would on a GPU.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from kdbench import TensorSpec
from kdbench_tensorrt.editions import STANDARD
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import Opened

SIGNATURE = Signature(
    inputs=(TensorSpec("left", (3,), "float32"), TensorSpec("right", (3,), "float32")),
    outputs=(TensorSpec("difference", (3,), "float32"),),
)


@dataclass(eq=False)
class FakeStream:
    number: int
    queue: list = field(default_factory=list)
    recording: list | None = None


class FakeCuda:
    """The functions of `kdbench_tensorrt.seam.Cuda`; `alive` is what was not given back."""

    def __init__(self):
        self.calls, self.alive, self.streams, self.blocks = [], [], {}, {}
        self.clock_ns = 0
        self.free_bytes = 1 << 30

    def _made(self, kind, thing):
        self.calls.append(f"create {kind}")
        self.alive.append((kind, thing))
        return thing

    def _gone(self, kind, thing):
        self.calls.append(f"destroy {kind}")
        self.alive.remove((kind, thing))

    def _block(self, kind, size):
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        self.blocks[address] = block
        return self._made(kind, address)

    def allocate(self, size):
        return self._block("device memory", size)

    def free(self, address):
        self._gone("device memory", address)
        del self.blocks[address]

    def allocate_pinned(self, size):
        return self._block("pinned memory", size)

    def free_pinned(self, address):
        self._gone("pinned memory", address)
        del self.blocks[address]

    def create_stream(self):
        stream = FakeStream(len(self.streams) + 1)
        self.streams[stream.number] = stream
        return self._made("stream", stream)

    def destroy_stream(self, stream):
        self._gone("stream", stream)

    def handle(self, stream):
        return stream.number

    def put(self, stream, name, work):
        (stream.queue if stream.recording is None else stream.recording).append((name, work))

    def copy_in(self, device, host, size, stream):
        self.calls.append("copy in")
        self.put(stream, "copy in", lambda: ctypes.memmove(device, host, size))

    def copy_out(self, host, device, size, stream):
        self.calls.append("copy out")
        self.put(stream, "copy out", lambda: ctypes.memmove(host, device, size))

    def clear(self, device, size, stream):
        self.put(stream, "clear", lambda: ctypes.memset(device, 0, size))

    def synchronise(self, stream):
        self.calls.append("synchronise")
        assert stream.recording is None, "CUDA forbids to wait for a stream that is recorded"
        while stream.queue:
            stream.queue.pop(0)[1]()

    def finished(self, stream):
        return not stream.queue

    def create_event(self):
        return self._made("event", SimpleNamespace(at_ns=None))

    def destroy_event(self, event):
        self._gone("event", event)

    def record(self, event, stream):
        def happen():
            event.at_ns = self.clock_ns

        self.put(stream, "event", happen)

    def elapsed_ns(self, first, second):
        return second.at_ns - first.at_ns

    def begin_capture(self, stream):
        assert not stream.queue, "there is work before what is recorded"
        stream.recording = []

    def end_capture(self, stream):
        graph, stream.recording = SimpleNamespace(work=stream.recording), None
        return self._made("graph", graph)

    def abandon_capture(self, stream):
        self.calls.append("abandon")
        stream.recording = None

    def launch(self, graph, stream):
        self.calls.append("launch")
        assert ("graph", graph) in self.alive, "a graph is launched that was destroyed"
        stream.queue.extend(graph.work)

    def destroy_graph(self, graph):
        self._gone("graph", graph)


class FakeContext:
    """Computes left minus right, when its stream comes to it, from the addresses that were bound."""

    def __init__(self, cuda):
        self.cuda, self.shapes, self.addresses, self.calls = cuda, {}, {}, 0
        self.scratch = None
        self.fails_when_recorded = False

    def set_device_memory(self, address, size):
        self.scratch = (address, size)

    def set_input_shape(self, name, shape):
        assert not self.calls, "a context that ran is not changed"
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name, address):
        assert not self.calls, "a context that ran is not changed"
        assert address % 4 == 0
        self.addresses[name] = address
        return True

    def infer_shapes(self):
        return [spec.name for spec in SIGNATURE.inputs if spec.name not in self.shapes]

    def get_tensor_shape(self, name):
        return self.shapes["left"]

    def execute_async_v3(self, number):
        self.calls += 1
        stream = self.cuda.streams[number]
        if stream.recording is not None and self.fails_when_recorded:
            return False
        self.cuda.calls.append("compute")

        def work():
            self.cuda.clock_ns += 1000
            left, right, difference = (self._array(name) for name in ("left", "right", "difference"))
            difference[...] = left - right

        self.cuda.put(stream, "compute", work)
        return True

    def _array(self, name):
        shape = self.shapes["left"]
        flat = (ctypes.c_float * int(np.prod(shape))).from_address(self.addresses[name])
        return np.ctypeslib.as_array(flat).reshape(shape)


class FakeEngine:
    """A live engine whose contexts are fakes; `contexts` has all of them."""

    num_layers = 1
    device_memory_size_v2 = 4096

    def __init__(self, cuda):
        self.cuda, self.contexts, self.fails_when_recorded = cuda, [], False

    def create_execution_context(self, strategy):
        assert strategy == "user managed"
        context = FakeContext(self.cuda)
        context.fails_when_recorded = self.fails_when_recorded
        self.contexts.append(context)
        return context


@pytest.fixture
def signature():
    return SIGNATURE


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture
def engine(cuda):
    return FakeEngine(cuda)


@pytest.fixture
def opened(engine):
    trt = SimpleNamespace(
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user managed"),
        ProfilingVerbosity=SimpleNamespace(NONE="none"),
        __version__="11.4.0",
    )
    logger = SimpleNamespace(errors=["a cause that the fake tells"])
    return Opened(STANDARD, trt, logger, None, engine, (), "")
