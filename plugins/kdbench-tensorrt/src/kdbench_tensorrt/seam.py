"""What this plugin asks of CUDA: a dozen functions, so that all above them can be tried without a GPU.

`kdbench_tensorrt.device` has them by NVIDIA's cuda-bindings. Addresses are integers; streams, events and
graphs are whatever the seam makes, and go back into it only.
"""

from __future__ import annotations

from typing import Any, Protocol


class Cuda(Protocol):
    """CUDA, as far as it is needed. All raise BackendError for what CUDA refuses."""

    def allocate(self, size: int, /) -> int:
        """Allocate device memory; BackendError with "out of memory" where there is none."""
        ...

    def free(self, address: int, /) -> None:
        """Free device memory."""
        ...

    def allocate_pinned(self, size: int, /) -> int:
        """Allocate page-locked host memory, from which copies do not wait for the host."""
        ...

    def free_pinned(self, address: int, /) -> None:
        """Free page-locked host memory."""
        ...

    def create_stream(self) -> Any:
        """Create a stream that does not wait for the default one."""
        ...

    def destroy_stream(self, stream: Any, /) -> None:
        """Destroy a stream."""
        ...

    def handle(self, stream: Any, /) -> int:
        """Give a stream as the number that TensorRT takes."""
        ...

    def copy_in(self, device: int, host: int, size: int, stream: Any, /) -> None:
        """Begin to copy to the device."""
        ...

    def copy_out(self, host: int, device: int, size: int, stream: Any, /) -> None:
        """Begin to copy to the host."""
        ...

    def clear(self, device: int, size: int, stream: Any, /) -> None:
        """Begin to fill device memory with zeros."""
        ...

    def synchronise(self, stream: Any, /) -> None:
        """Wait for all that was put into a stream."""
        ...

    def finished(self, stream: Any, /) -> bool:
        """Tell whether all that was put into a stream is done, without waiting."""
        ...

    def create_event(self) -> Any:
        """Create an event that takes the time."""
        ...

    def destroy_event(self, event: Any, /) -> None:
        """Destroy an event."""
        ...

    def record(self, event: Any, stream: Any, /) -> None:
        """Put an event into a stream."""
        ...

    def elapsed_ns(self, first: Any, second: Any, /) -> int:
        """Give the time between two events that have happened; CUDA resolves about half a microsecond."""
        ...

    def begin_capture(self, stream: Any, /) -> None:
        """From now on, record what is put into a stream instead of running it."""
        ...

    def end_capture(self, stream: Any, /) -> Any:
        """Give what was recorded as a graph that can be launched, already on the device."""
        ...

    def abandon_capture(self, stream: Any, /) -> None:
        """End a capture that failed, so that the stream can be used again."""
        ...

    def launch(self, graph: Any, stream: Any, /) -> None:
        """Put all that a graph holds into a stream."""
        ...

    def destroy_graph(self, graph: Any, /) -> None:
        """Destroy a graph."""
        ...
