"""One pass through the network at one batch size, from device memory to device memory: called, or replayed.

A step is run in the stream that is current, and answers before the device has finished.
docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs" and "Graph memory management".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kdbench import Unsupported
from kdbench_torch.cuda import tf32
from kdbench_torch.cuda.fault import is_out_of_memory
from kdbench_torch.inductor import first_line
from kdbench_torch.session import Network

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = tuple[Tensor, ...]

WARM_UP_CALLS = 3
"""As torch's own examples of capturing have it: cuDNN chooses its algorithms, kernels are loaded."""


class Step(Protocol):
    """The network at one batch size; `inputs` are the tensors that the next run reads."""

    inputs: Tensors

    def take(self, tensors: Tensors) -> None:
        """Compute on these tensors of the device next."""
        ...

    def run(self) -> Tensors:
        """Enqueue one pass; the answer is valid until the next one."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class CalledStep:
    """Calls the network each time: eager operators, or what Inductor made of them.

    rounded: compute in TF32. That is one switch for the process, which another session may have turned since.
    """

    def __init__(self, network: Network, inputs: Tensors, *, rounded: bool) -> None:
        import torch

        self._network, self.inputs = network, inputs
        self._rounded, self._rounds = rounded, tf32.reader()
        with torch.inference_mode():
            for _ in range(WARM_UP_CALLS):
                self.run()

    def take(self, tensors: Tensors) -> None:
        """Compute on these tensors next, where they are."""
        self.inputs = tensors

    def run(self) -> Tensors:
        """Enqueue every kernel anew."""
        if self._rounds() is not self._rounded:
            tf32.allow(self._rounded)
        return as_outputs(self._network(*self.inputs))

    def close(self) -> None:
        """Let the tensors go."""
        self.inputs = ()


class ReplayedStep:
    """Replays a CUDA graph: one launch for all kernels, always on the same memory."""

    def __init__(self, network: Network, inputs: Tensors, *, rounded: bool) -> None:
        self.inputs = inputs
        tf32.allow(rounded)
        self._graph, self._outputs = capture(lambda: as_outputs(network(*inputs)))
        self._replay = self._graph.replay

    def take(self, tensors: Tensors) -> None:
        """Copy these tensors to where the graph reads, within the device."""
        for mine, given in zip(self.inputs, tensors, strict=True):
            mine.copy_(given, non_blocking=True)

    def run(self) -> Tensors:
        """Enqueue the graph."""
        self._replay()
        return self._outputs

    def close(self) -> None:
        """Let the graph and its private pool of memory go; it must not be running."""
        self._graph.reset()
        self.inputs = self._outputs = ()


def capture(call: Callable[[], Tensors]) -> tuple[Any, Tensors]:
    """Record what `call` enqueues into a graph; answers it and the tensors that a replay fills.

    Warms up first, in the side stream in which it then captures. Raises Unsupported for what cannot be
    captured, such as a network that waits for the device in between.
    """
    import torch

    cuda: Any = torch.cuda
    graph, side, current = cuda.CUDAGraph(), cuda.Stream(), cuda.current_stream()
    side.wait_stream(current)
    broke: RuntimeError | None = None
    try:
        with torch.inference_mode():
            with cuda.stream(side):
                for _ in range(WARM_UP_CALLS):
                    call()
            side.synchronize()
            forget_workspaces()
            with cuda.graph(graph, stream=side):
                try:
                    outputs = call()
                except RuntimeError as fault:
                    broke = fault
                    raise
            forget_workspaces()
    except RuntimeError as fault:
        # The end of a capture that broke off raises an error of its own, which tells nothing.
        first = broke or fault
        if is_out_of_memory(first):
            raise first from None
        raise Unsupported(
            f"The network cannot be captured as a CUDA graph: {first_line(first)}",
            hint="Use mode=eager, or mode=compile with inductor=default.",
        ) from fault
    current.wait_stream(side)
    return graph, outputs


def forget_workspaces() -> None:
    """Have the next matrix product of each stream get a workspace of its own.

    Torch keeps cuBLAS's workspace per stream. A graph that was captured with one from before holds its bare
    address: two graphs that are replayed at once would write to the same memory, and it is freed with
    whichever goes first (github.com/pytorch/pytorch/issues/193402). Forgotten before the capture, it is taken
    from the graph's own pool; forgotten after it, nobody else gets it. torch._inductor.cudagraph_trees does
    the same.
    """
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()


def as_outputs(answer: Any) -> Tensors:
    """Give what a network answers as a tuple of contiguous tensors."""
    import torch

    if isinstance(answer, torch.Tensor):
        return (answer.contiguous(),)
    return tuple(part.contiguous() for part in answer)
