"""The runtime by the library that `kdbench_executorch.build` makes: NumPy arrays, and no torch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench import TensorSpec, Unsupported
from kdbench_executorch.inputs import Inputs

if TYPE_CHECKING:
    from kdbench_executorch.engine import Arrays

TYPES = {
    "uint8": 0,
    "int8": 1,
    "int16": 2,
    "int32": 3,
    "int64": 4,
    "float16": 5,
    "float32": 6,
    "float64": 7,
    "bool": 11,
}
"""ExecuTorch's numbers of the dtypes (runtime/core/portable_type/scalar_type.h)."""

ROOM = 256
"""Bytes for what a function says of its failure."""


class NativeEngine:
    """The library, loaded."""

    name = "native"

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as fault:
            raise Unsupported(
                f"The library that runs ExecuTorch without torch does not load: {fault}.",
                hint="Build it anew: python -m kdbench_executorch.build",
            ) from fault
        self._library.kx_backend.restype = ctypes.c_char_p
        self._library.kx_open.restype = ctypes.c_void_p

    def backends(self) -> tuple[str, ...]:
        """Name the delegates that are linked in."""
        names: list[str] = []
        while name := self._library.kx_backend(len(names)):
            names.append(name.decode())
        return tuple(names)

    def threads(self) -> int:
        """Read the size of the thread pool."""
        return int(self._library.kx_threads())

    def use_threads(self, count: int) -> None:
        """Replace the thread pool."""
        self._library.kx_use_threads(count)

    def open(
        self, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batch_size: int
    ) -> NativeMethod:
        """Open a program for inputs of these shapes."""
        return NativeMethod(self._library, path, inputs, outputs, batch_size)


class NativeMethod:
    """Reads the caller's memory; its outputs are the same arrays at every call."""

    def __init__(
        self,
        library: ctypes.CDLL,
        path: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_size: int,
    ) -> None:
        shapes = [(batch_size, *spec.shape) for spec in inputs]
        self._fault = ctypes.create_string_buffer(ROOM)
        self._close, self._run = library.kx_close, library.kx_run
        self._handle: Any = ctypes.c_void_p(
            library.kx_open(
                str(path).encode(),
                len(inputs),
                _integers([TYPES[spec.dtype] for spec in inputs]),
                _integers([len(shape) for shape in shapes]),
                _integers([size for shape in shapes for size in shape]),
                self._fault,
                ctypes.c_size_t(ROOM),
            )
        )
        if not self._handle:
            raise RuntimeError(f"{self._fault.value.decode()}.")
        self._inputs = Inputs(inputs, batch_size, _point)
        self._outputs: Arrays = tuple(np.empty((batch_size, *spec.shape), spec.dtype) for spec in outputs)
        sizes = (ctypes.c_size_t * len(outputs))(*(array.nbytes for array in self._outputs))
        self._rest = (_point(self._outputs), sizes, len(outputs), self._fault, ctypes.c_size_t(ROOM))
        self._known = self._inputs.known

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run once."""
        if self._run(self._handle, self._known.get(id(inputs)) or _point(inputs), *self._rest):
            raise RuntimeError(f"{self._fault.value.decode()}.")
        return self._outputs

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate inputs whose addresses are kept."""
        return self._inputs.allocate(count)

    def close(self) -> None:
        """Delete the program; calling it again does nothing."""
        if self._handle:
            self._close(self._handle)
        self._handle = None
        self._inputs.clear()


def _integers(values: Sequence[int]) -> Any:
    return (ctypes.c_int32 * len(values))(*values)


def _point(arrays: Arrays) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
