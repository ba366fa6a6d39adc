"""A program that stays open as long as the thread pool under it does.

The runtime has one thread pool a process. XNNPACK keeps a pointer to it from the time when a program is
opened (backends/xnnpack/runtime/XNNCompiler.cpp), and resizing destroys it
(extension/threadpool/threadpool.cpp): a program that was open then reads freed memory. So every open program
is let go before the pool changes, and opened again, with its own number of threads, when it is called next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from weakref import WeakSet

from kdbench import TensorSpec
from kdbench.errors import BackendError

if TYPE_CHECKING:
    from kdbench_executorch.engine import Arrays, Engine, Method

_open: WeakSet[Loaded] = WeakSet()
"""What stands on the pool now; a state of the process, as the pool is."""


class Loaded:
    """One program at one batch size, with `threads` of the pool."""

    def __init__(
        self,
        engine: Engine,
        path: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch_size: int,
        threads: int,
    ) -> None:
        self._engine, self._threads = engine, threads
        self._what = (path, inputs, outputs, batch_size)
        self._ring: list[Arrays] = []
        self._call: Callable[[Arrays], Arrays] = self._open_and_call
        self._method: Method | None = self._open()

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run once; BackendError after close."""
        return self._call(inputs)

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate inputs that cost least when they come back."""
        method = self._method or self._open()
        fresh = method.allocate_inputs(count)
        # Kept here too, so that they outlive a method that is opened again.
        self._ring += fresh
        return fresh

    def park(self) -> None:
        """Let the program go until the next call."""
        if self._method is not None:
            self._method.close()
        self._method = None
        self._call = self._open_and_call
        _open.discard(self)

    def close(self) -> None:
        """Let the program go for good."""
        self.park()
        self._call = refuse
        self._ring.clear()

    def _open(self) -> Method:
        settle(self._engine, self._threads)
        self._method = self._call = method = self._engine.open(*self._what)
        _open.add(self)
        return method

    def _open_and_call(self, inputs: Arrays) -> Arrays:
        return self._open()(inputs)


def settle(engine: Engine, threads: int) -> None:
    """Give the pool this size, once nothing stands on it."""
    # Asked first, since it is the size that the runtime chose only as long as nobody has changed it.
    vendor_threads(engine)
    if engine.threads() == threads:
        return
    for loaded in tuple(_open):
        loaded.park()
    engine.use_threads(threads)


@cache
def _first_size(read: Callable[[], int]) -> int:
    return read()


def vendor_threads(engine: Engine) -> int:
    """Tell the size of the pool that the runtime chose itself."""
    return _first_size(engine.threads)


def refuse(*_: object) -> NoReturn:
    """Stand in for what a closed session has no more."""
    raise BackendError("This ExecuTorch session is closed.", hint="Load the artifact again.", phase="run")
