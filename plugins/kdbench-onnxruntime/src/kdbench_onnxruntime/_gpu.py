"""A session of ONNX Runtime on an NVIDIA GPU.

Several requests are in flight as one inference session and one stream each, fed by one thread. That is what
ONNX Runtime's Python offers: a session runs in the one stream that it was made with, and a CUDA graph belongs
to the thread that captured it, so that threads which come and go would capture it again and again. It costs
the network's weights once per request in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from kdbench import Artifact, Target
from kdbench.spec import Precision
from kdbench_onnxruntime._device import Cuda
from kdbench_onnxruntime._flight import DeviceRunner, Flight, HostRunner, refuse
from kdbench_onnxruntime._model import specs
from kdbench_onnxruntime._placement import placement
from kdbench_onnxruntime._slots import Engine, Slot


class GpuSession:
    """The inference sessions of one target, by batch size and place in the queue.

    provider: the one that has to compute. opened: makes an inference session for a batch size (None for any)
    and a stream's address.
    """

    def __init__(
        self, artifact: Artifact, target: Target, provider: str, opened: Callable[[int | None, int], Any]
    ) -> None:
        self._inputs = specs(artifact.notes["inputs"])
        self._outputs = specs(artifact.notes["outputs"])
        self._target, self._opened = target, opened
        self._graph = bool(target.options["graph"])
        self._runners: list[Flight[Any, Any]] = []
        self._cuda = Cuda(index_of(target.device), spins=target.options["sync"] == "spin")
        self._engines: dict[int | None, list[Engine]] = {}
        for batch_size in target.batch_sizes:
            self._grow(batch_size, 1)
        [first, *_] = self._grow(target.batch_sizes[0], 1)
        precision = cast("Precision", artifact.notes["precision"])
        self.placement = placement(first.session, target.device, provider, precision)
        self._taken: set[int] = set()
        self._closed = False

    def runner(self, batch_size: int, depth: int) -> Flight[Any, Any]:
        """Give a runner with memory of its own, for the boundary of the target."""
        if self._closed:
            refuse()
        slots = [
            Slot(engine, self._inputs, self._outputs, batch_size) for engine in self._free(batch_size, depth)
        ]
        kind: type[Flight[Any, Any]] = DeviceRunner if self._target.boundary == "device" else HostRunner
        runner = kind(self._cuda, slots, self._inputs, batch_size, graph=self._graph)
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners, then the inference sessions."""
        self._closed = True
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        for engine in [engine for engines in self._engines.values() for engine in engines]:
            engine.close()
        self._engines.clear()

    def _free(self, batch_size: int, depth: int) -> list[Engine]:
        """Give engines for a new runner; one with a CUDA graph has fixed addresses, and is not shared."""
        if not self._graph:
            return self._grow(batch_size, depth)[:depth]
        engines = self._grow(batch_size, 0)
        used = sum(id(engine) in self._taken for engine in engines)
        free = [engine for engine in self._grow(batch_size, used + depth) if id(engine) not in self._taken][
            :depth
        ]
        self._taken |= {id(engine) for engine in free}
        return free

    def _grow(self, batch_size: int, count: int) -> list[Engine]:
        """Give the engines of a batch size, at least `count`."""
        fixed = None if self._target.dynamic else batch_size
        engines = self._engines.setdefault(fixed, [])
        while len(engines) < count:
            engines.append(Engine(self._cuda, lambda stream: self._opened(fixed, stream)))
        return engines


def index_of(device: str) -> int:
    """Read the number of a device's id, `cuda:0`."""
    return int(device.partition(":")[2] or 0)
