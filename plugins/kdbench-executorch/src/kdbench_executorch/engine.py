"""The two ways to ExecuTorch's runtime, and which of them this environment has.

`python` is the vendor's binding, which links libtorch; `native` is the library of `kdbench_executorch.build`,
which needs no torch. Both drive the same shared libraries, with the same kernels, delegates and thread pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kdbench import TensorSpec, Unsupported
from kdbench_executorch import build

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

TORCH = "pip install 'torch>=2.13,<2.14'"


class Method(Protocol):
    """One program, open, with memory of its own."""

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run once."""
        ...

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate inputs that are recognised when they come back."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class Engine(Protocol):
    """The runtime of this process.

    threads, use_threads: the size of the one thread pool. Resetting it leaves every open method with a
        pointer to the pool that was: close them first.
    """

    name: str

    def backends(self) -> tuple[str, ...]:
        """Name the delegates that are linked in."""
        ...

    def threads(self) -> int:
        """Read the size of the thread pool."""
        ...

    def use_threads(self, count: int) -> None:
        """Replace the thread pool."""
        ...

    def open(
        self, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batch_size: int
    ) -> Method:
        """Open a program for one batch size."""
        ...


def start(binding: str) -> Engine:
    """Load the runtime by `python`, `native`, or what `auto` finds; Unsupported in one sentence if it cannot.

    auto: the vendor's binding where torch is installed, else the library that needs none.
    """
    build.home()
    if binding == "auto":
        binding = "python" if find_spec("torch") else "native"
    if binding == "python":
        if not find_spec("torch"):
            raise Unsupported(
                "ExecuTorch's Python binding links libtorch, and torch is not installed.",
                hint=f"{TORCH}, or run without it: `{build.COMMAND}`, and -o executorch.binding=native.",
            )
        from kdbench_executorch.python import PythonEngine

        return PythonEngine()
    if not build.library().is_file():
        raise Unsupported(
            "ExecuTorch's Python binding needs torch, and the library that needs none is not built here.",
            hint=f"`{build.COMMAND}` (with g++), or {TORCH}.",
        )
    from kdbench_executorch.native import NativeEngine

    return NativeEngine(build.library())
