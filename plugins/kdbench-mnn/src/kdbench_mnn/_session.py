"""One model opened by MNN, and a session of MNN's own for each runner."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import MNN  # noqa: TID253  # this module is imported inside hooks only
import numpy as np

from kdbench import Placement, Target, Unsupported

if TYPE_CHECKING:
    from kdbench.spec import Array

    Shapes = dict[str, list[int]]  # by name, in the declared order, without the batch

BACKENDS, THREAD_NUMBER = 2, 4  # what getSessionInfo can be asked for: Interpreter.hpp, SessionInfoCode
WINOGRAD_MEMORY_LEVEL, LARGE, SMALL = 3, 3, 0  # Interpreter.hpp, HintMode
CPU = {0: "CPU", 13: "CPU extension"}  # MNNForwardType.h: kernels in plain C++, and those for this CPU


class MnnSession:
    """The model of one target. MNN gives back all that belongs to it when its interpreter goes."""

    def __init__(self, model: Path, inputs: Shapes, outputs: Shapes, target: Target) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._net = MNN.Interpreter(str(model))
        self._net.setSessionHint(WINOGRAD_MEMORY_LEVEL, LARGE if target.options["winograd"] else SMALL)
        # `low` is fp16 on an ARM CPU; `high` is never less than fp32, and said rather than left to a default.
        self._config: dict[str, Any] = {"backend": "CPU", "precision": "high"}
        if target.threads is not None:
            self._config["numThread"] = target.threads
        self._ready = [self._net.createSession(self._config)]
        self._runners: list[MnnRunner] = []
        self.placement = _placement(self._net, self._ready[0])

    def runner(self, batch_size: int) -> MnnRunner:
        """Give a runner with memory of its own."""
        if self._net is None:
            raise RuntimeError("This session is closed.")
        session = self._ready.pop() if self._ready else self._net.createSession(self._config)
        self._runners.append(MnnRunner(self._net, session, self._inputs, self._outputs, batch_size))
        return self._runners[-1]

    def close(self) -> None:
        """Close the runners, then let go of the interpreter."""
        for runner in self._runners:
            runner.close()
        self._runners, self._ready, self._net = [], [], None


class MnnRunner:
    """Runs one batch; the outputs are the same arrays at every call."""

    def __init__(self, net: Any, session: Any, inputs: Shapes, outputs: Shapes, size: int) -> None:
        for name, shape in inputs.items():
            net.resizeTensor(net.getSessionInput(session, name), (size, *shape))
        net.resizeSession(session)
        self._net, self._session = net, session
        self._sources = [
            _memory(net.getSessionInput(session, name), (size, *inputs[name])) for name in inputs
        ]
        self._results = [
            _memory(net.getSessionOutput(session, name), (size, *outputs[name])) for name in outputs
        ]
        self._answer = tuple(result.copy() for result in self._results)

    def __call__(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Copy a batch into MNN's memory, run, and copy the outputs out of it."""
        if self._net is None:
            raise RuntimeError("This session is closed.")
        for source, given in zip(self._sources, inputs, strict=True):
            np.copyto(source, given)
        code = self._net.runSession(self._session)  # returns when the CPU has finished
        if code:
            error = MemoryError if code == 1 else RuntimeError  # ErrorCode.hpp: 1 is OUT_OF_MEMORY
            raise error(f"MNN failed with the code {code}.")
        for answer, result in zip(self._answer, self._results, strict=True):
            np.copyto(answer, result)
        return self._answer

    def close(self) -> None:
        """Let go of MNN's memory before MNN does."""
        self._net = self._session = None
        self._sources, self._results = [], []


def _memory(tensor: Any, shape: tuple[int, ...]) -> Array:
    """Give MNN's own memory, which its documentation allows on the CPU; Unsupported in another layout."""
    memory: Array = tensor.getNumpyData()
    if tensor.getDimensionType() != MNN.Tensor_DimensionType_Caffe or memory.shape != shape:
        raise Unsupported(
            f"MNN holds {memory.shape} where {shape} is declared.", hint="Take another backend."
        )
    return memory


def _placement(net: Any, session: Any) -> Placement:
    """Read back what computes; of the precision MNN tells nothing, and `high` is never less than fp32."""
    kind = net.getSessionInfo(session, BACKENDS)
    # MNN 3.6 hands out the number of threads in the bits of a float: 2 comes as 2.8e-45.
    (threads,) = struct.unpack("i", struct.pack("f", net.getSessionInfo(session, THREAD_NUMBER)))
    device = "cpu" if kind in CPU else f"backend {kind}"
    return Placement(device=device, precision="fp32", provider=CPU.get(kind, ""), threads=threads)
