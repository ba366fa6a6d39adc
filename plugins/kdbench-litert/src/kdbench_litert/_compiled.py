"""api=compiled: CompiledModel of LiteRT Next, the API that GPU and NPU accelerators are reached by.

An input is written into a buffer of the model and an output read from one, a copy each. A buffer around an
array of the caller's would spare them, but the Python wrapper of LiteRT 2.3 gives it one axis, which the
runtime refuses: "Cannot auto-resize tensor" (github.com/google-ai-edge/LiteRT/pull/7931). The API:
ai.google.dev/edge/litert/next/python.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.compiled_model import (  # noqa: TID253  # this module is imported inside hooks only
    CompiledModel,
    CpuKernelMode,
    CpuOptions,
    HardwareAccelerator,
    Options,
)

from kdbench_litert._form import SIGNATURE, Form
from kdbench_litert._interpreter import refuse

if TYPE_CHECKING:
    from kdbench.spec import Array


class CompiledRunner:
    """Runs one CompiledModel, with buffers and threads of its own, at one batch size."""

    def __init__(
        self, file: Path, form: Form, batch_size: int, *, threads: int | None, xnnpack: bool
    ) -> None:
        mode = CpuKernelMode.XNNPACK if xnnpack else CpuKernelMode.BUILTIN
        model = CompiledModel.from_file(
            str(file),
            options=Options(
                hardware_accelerators=HardwareAccelerator.CPU,
                cpu_options=CpuOptions(num_threads=threads or 0, kernel_mode=mode),
            ),
        )
        inputs = model.get_input_tensor_details(SIGNATURE)
        for name, spec in zip(form.input_names, form.inputs, strict=True):
            wanted = (batch_size, *spec.shape)
            if name in inputs and tuple(inputs[name]["shape"]) != wanted:
                model.resize_input_tensor_by_name(SIGNATURE, name, wanted, strict=False)
        form.check(
            model.get_input_tensor_details(SIGNATURE), model.get_output_tensor_details(SIGNATURE), batch_size
        )
        self._model: Any = model
        self._bind(form, batch_size)

    def _bind(self, form: Form, batch_size: int) -> None:
        """Allocate buffers, and keep what a call needs of them in the declared order."""
        model = self._model
        index, names = model.get_signature_index(SIGNATURE), model.get_signature_list()[SIGNATURE]
        inputs, outputs = model.create_input_buffers(index), model.create_output_buffers(index)
        self._run = partial(model.run_by_index, index, inputs, outputs)
        self._write = [inputs[names["inputs"].index(name)].write for name in form.input_names]
        self._read = []
        for name, spec in zip(form.output_names, form.outputs, strict=True):
            shape, buffer = (batch_size, *spec.shape), outputs[names["outputs"].index(name)]
            length, dtype = int(np.prod(shape)), np.dtype(spec.dtype)
            self._read.append((partial(buffer.read, length, dtype), shape))

    def __call__(self, inputs: tuple[Array, ...], /) -> tuple[Array, ...]:
        """Map one array (batch, *shape) per input to one per output, which are new arrays at every call."""
        for write, array in zip(self._write, inputs):  # noqa: B905  # strict costs a few per cent of a call
            write(array)
        self._run()
        return tuple([read().reshape(shape) for read, shape in self._read])

    def provider(self) -> str:
        """Name XNNPACK if the runtime says that it runs the whole graph, else the runtime itself."""
        return "XNNPACK" if self._model.is_fully_accelerated() else "LiteRT"

    def nodes(self) -> Mapping[str, int]:
        """Tell nothing: this API says whether all of the graph is accelerated, and not how much of it."""
        return {}

    def close(self) -> None:
        """Give model and buffers back, and make every later call raise."""
        self._write, self._read, self._run = [], [], refuse  # type: ignore[assignment]  # spares a check per call
        self._model.close()
