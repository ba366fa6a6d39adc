"""One execution context, bound once: a stream, and memory whose addresses stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kdbench.errors import BackendError
from kdbench_tensorrt.memory import Arena, Layout
from kdbench_tensorrt.messages import failure
from kdbench_tensorrt.opening import Opened

NOT_RECORDED = "Ask for graph=false."


class Execution:
    """Enqueues one batch at a time on its stream: copies in, computes, copies out.

    inputs, outputs: device addresses of the blocks; `scratch` may be shared with what never runs at the same
    time. A shape or an address never changes afterwards, which a recorded graph depends on
    (docs.nvidia.com/deeplearning/tensorrt/11.4.1/performance/optimization.html, "CUDA Graphs").
    """

    def __init__(
        self,
        opened: Opened,
        arena: Arena,
        stream: Any,
        scratch: int,
        inputs: tuple[Layout, int],
        outputs: tuple[Layout, int],
    ) -> None:
        self._opened, self._arena, self._cuda = opened, arena, arena.cuda
        self.stream, self.inputs, self.outputs = stream, inputs, outputs
        self._number = arena.cuda.handle(stream)
        self._context = opened.context(scratch)
        arena.finally_do(self._drop)
        self._bind()
        # Once before anything is recorded: the first call does what may not be. On zeros, since whatever
        # lies in memory may be no valid input of a network that looks things up.
        self._cuda.clear(inputs[1], inputs[0].size, stream)
        self.compute()
        self._cuda.synchronise(stream)

    def compute(self) -> None:
        """Enqueue the network alone."""
        if not self._context.execute_async_v3(self._number):
            raise failure(f"{self._opened.edition.title} did not run the network", self._opened.logger.errors)

    def copy_in(self, host: int) -> None:
        """Enqueue the copy of a block of inputs from page-locked memory."""
        layout, address = self.inputs
        self._cuda.copy_in(address, host, layout.size, self.stream)

    def copy_out(self, host: int) -> None:
        """Enqueue the copy of the outputs to page-locked memory."""
        layout, address = self.outputs
        self._cuda.copy_out(host, address, layout.size, self.stream)

    def prepared(self, work: Callable[[], None], *, graph: bool) -> Callable[[], None]:
        """Give what does `work` when it is called: one launch of a recorded graph, or the work itself.

        Raises BackendError where the network cannot be recorded, for an engine that allocates or waits as it
        runs.
        """
        if not graph:
            return work
        title = self._opened.edition.title
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._number):
            raise BackendError(
                f"{title} says that this network cannot be recorded as a graph.", hint=NOT_RECORDED
            )
        try:
            recorded = self._arena.graph(self.stream, work)
        except BackendError as fault:
            what = f"This network cannot be recorded as a CUDA graph: {fault.message}"
            raise BackendError(what, hint=fault.hint or NOT_RECORDED) from fault
        return partial(self._cuda.launch, recorded, self.stream)

    def _bind(self) -> None:
        context, title = self._context, self._opened.edition.title
        for layout, address in (self.inputs, self.outputs):
            for spec, offset in zip(layout.specs, layout.offsets, strict=True):
                shape = (layout.batch_size, *spec.shape)
                if layout is self.inputs[0] and not context.set_input_shape(spec.name, shape):
                    what = f"{title} does not take the shape {list(shape)} for {spec.name!r}"
                    raise failure(what, self._opened.logger.errors)
                if not context.set_tensor_address(spec.name, address + offset):
                    raise failure(
                        f"{title} does not know the tensor {spec.name!r}", self._opened.logger.errors
                    )
        if lacking := context.infer_shapes():
            raise BackendError(f"{title} needs more than the card tells: the shapes of {', '.join(lacking)}.")
        for spec in self.outputs[0].specs:
            shape = (self.outputs[0].batch_size, *spec.shape)
            if (found := tuple(context.get_tensor_shape(spec.name))) != shape:
                what = f"{title} computes the shape {list(found)} for {spec.name!r}"
                raise BackendError(f"{what}, and the card says {list(shape)}.")

    def _drop(self) -> None:
        self._context = None
