"""What the harness drives: a session that holds a network, and runners without a copy of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from kdbench import Placement, TensorSpec
from kdbench.errors import BackendError
from kdbench.spec import Precision
from kdbench_torch.network import empty_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from kdbench.spec import Array

Network = Callable[..., Any]
"""Takes one tensor per input; answers a tensor, or a sequence of one tensor per output."""


def use_threads(threads: int | None) -> None:
    """Compute with so many threads, or with torch's default for None; no parallelism between operators.

    The number holds for the calling thread, and for others only once they have asked for it.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    # Settable once a process; what it is for, forked TorchScript, is never used here.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)


def placement(provider: str, precision: Precision) -> Placement:
    """Say where this process computes, the number of threads as torch tells it."""
    import torch

    return Placement(device="cpu", precision=precision, provider=provider, threads=torch.get_num_threads())


class TorchRunner:
    """Runs the network on the caller's arrays in place; arrays from `allocate_inputs` cost least."""

    def __init__(
        self, network: Network, batch_size: int, inputs: Sequence[TensorSpec], threads: int | None
    ) -> None:
        import torch

        self._network = network
        self._batch_size, self._inputs = batch_size, inputs
        self._threads, self._thread = threads, get_ident()
        # Entered for every call, since the mode belongs to a thread; one object, since making it costs more.
        self._inference = torch.inference_mode()
        self._from_numpy, self._tensor = torch.from_numpy, torch.Tensor
        self._known: dict[int, tuple[Tensor, ...]] = {}
        self._allocated: list[tuple[Array, ...]] = []

    def __call__(self, inputs: tuple[Array, ...], /) -> tuple[Array, ...]:
        """Map one array (batch, *shape) per input to one per output, as the student declares them."""
        if get_ident() != self._thread:
            self._move_here()
        tensors = self._known.get(id(inputs)) or self._view(inputs)
        with self._inference:
            answer = self._network(*tensors)
        if type(answer) is self._tensor:
            return (answer.contiguous().numpy(),)
        return tuple(part.contiguous().numpy() for part in answer)

    def allocate_inputs(self, count: int) -> list[tuple[Array, ...]]:
        """Allocate arrays that are recognised when they come back, so that no view of them is made again."""
        fresh = []
        for _ in range(count):
            tensors = empty_inputs(self._inputs, self._batch_size)
            arrays = tuple(tensor.numpy() for tensor in tensors)
            self._known[id(arrays)] = tensors
            fresh.append(arrays)
        # An id is unique only among the living.
        self._allocated += fresh
        return fresh

    def close(self) -> None:
        """Give the network and the inputs back, and make every later call raise."""
        self._network = refuse
        self._known.clear()
        self._allocated.clear()

    def _view(self, inputs: tuple[Array, ...]) -> tuple[Tensor, ...]:
        # Tensors cannot be read-only: torch would print a warning, though nothing writes to its inputs here.
        return tuple(self._from_numpy(array if array.flags.writeable else array.copy()) for array in inputs)

    def _move_here(self) -> None:
        """Follow the caller into another thread, where OpenMP starts with its own number of threads."""
        use_threads(self._threads)
        self._thread = get_ident()


class TorchSession:
    """An open network. `open_network` gives the callable for one more runner at a batch size."""

    def __init__(
        self,
        open_network: Callable[[int], Network],
        *,
        inputs: Sequence[TensorSpec],
        threads: int | None,
        placement: Placement,
    ) -> None:
        self._open_network = open_network
        self._inputs, self._threads = inputs, threads
        self._runners: list[TorchRunner] = []
        self.placement = placement

    def runner(self, batch_size: int) -> TorchRunner:
        """Give a runner of its own inputs; BackendError if the session is closed."""
        runner = TorchRunner(self._open_network(batch_size), batch_size, self._inputs, self._threads)
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners and let the network go."""
        self._open_network = refuse
        for runner in self._runners:
            runner.close()
        self._runners.clear()


def refuse(*_: object) -> NoReturn:
    """Stand in for what a closed session has no more."""
    raise BackendError("This PyTorch session is closed.", hint="Load the artifact again.", phase="run")
