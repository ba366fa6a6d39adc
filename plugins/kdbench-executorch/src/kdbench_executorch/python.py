"""The runtime by the vendor's Python binding, whose inputs and outputs are tensors of torch.

`_C.so` links libtorch_python, so that torch comes first. `executorch.runtime` would be the public name, and
imports the whole compiler on the way: 5 s of every load. What it calls is called here.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import TensorSpec
from kdbench_executorch.inputs import Inputs

if TYPE_CHECKING:
    from torch import Tensor

    from kdbench_executorch.engine import Arrays


class PythonEngine:
    """The binding, with torch in the process."""

    name = "python"

    def __init__(self) -> None:
        # First torch: the binding finds its symbols in the libraries that torch loads.
        import_module("torch")
        self._binding: Any = import_module("executorch.extension.pybindings._C")

    def backends(self) -> tuple[str, ...]:
        """Name the delegates that are linked in."""
        return tuple(self._binding._get_registered_backend_names())

    def threads(self) -> int:
        """Read the size of the thread pool."""
        return int(self._binding._threadpool_get_thread_count())

    def use_threads(self, count: int) -> None:
        """Replace the thread pool."""
        self._binding._unsafe_reset_threadpool(count)

    def open(
        self, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batch_size: int
    ) -> PythonMethod:
        """Open a program; it has buffers of its own, which two methods of one program would share."""
        return PythonMethod(self._binding._load_program(str(path)), inputs, batch_size)


class PythonMethod:
    """Runs on the caller's memory; its outputs are copies, as the binding makes them."""

    def __init__(self, program: Any, inputs: Sequence[TensorSpec], batch_size: int) -> None:
        import torch

        self._program = program
        self._call = program.load_method("forward")
        self._from_numpy = torch.from_numpy
        self._inputs = Inputs(inputs, batch_size, self._view)
        self._known = self._inputs.known

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run once."""
        tensors = self._known.get(id(inputs)) or self._view(inputs)
        return tuple(tensor.numpy() for tensor in self._call(tensors))

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate inputs whose tensors are kept, so that no view of them is made again."""
        return self._inputs.allocate(count)

    def close(self) -> None:
        """Let the method go, and then its program."""
        self._call = self._program = None
        self._inputs.clear()

    def _view(self, inputs: Arrays) -> tuple[Tensor, ...]:
        # Tensors cannot be read-only: torch would print a warning, though nothing writes to its inputs here.
        return tuple(self._from_numpy(array if array.flags.writeable else array.copy()) for array in inputs)
