"""CUDA by NVIDIA's cuda-bindings: the functions of `kdbench_tensorrt.seam.Cuda`, and which device.

The runtime API, which TensorRT itself uses: both then work in the device's primary context. Signatures are
those of cuda-bindings 12.6 to 13.5, which are the same for all that is called here
(nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html): each answers a tuple that begins with
the error. The layer above it, cuda-core, would add an object and a check to every call of the timed loop.
"""

from __future__ import annotations

from typing import Any, NoReturn

from cuda.bindings import runtime as rt  # noqa: TID253  # this module is imported inside hooks only

from kdbench.errors import BackendError

_SUCCESS = rt.cudaError_t.cudaSuccess
_NOT_READY = rt.cudaError_t.cudaErrorNotReady
_NO_MEMORY = rt.cudaError_t.cudaErrorMemoryAllocation
_IN = rt.cudaMemcpyKind.cudaMemcpyHostToDevice
_OUT = rt.cudaMemcpyKind.cudaMemcpyDeviceToHost


def select(index: int, *, spin: bool) -> None:
    """Make a device current in this thread, and say how this process waits for it.

    Spinning wakes soonest and takes a core; blocking sleeps until an interrupt. The flag is the context's, so
    it holds for the whole process, and overwrites what was set before
    (docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__DEVICE.html, cudaSetDeviceFlags).
    """
    _check("select the device", rt.cudaSetDevice(index)[0])
    flag = rt.cudaDeviceScheduleSpin if spin else rt.cudaDeviceScheduleBlockingSync
    _check("set how to wait for the device", rt.cudaSetDeviceFlags(flag)[0])


def current() -> int:
    """Give the index of the device that is current in this thread."""
    error, index = rt.cudaGetDevice()
    _check("ask for the device", error)
    return int(index)


def allocate(size: int, /) -> int:
    """Allocate device memory."""
    error, address = rt.cudaMalloc(size)
    _check(f"allocate {_mebibytes(size)} on the GPU", error)
    return int(address)


def free(address: int, /) -> None:
    """Free device memory."""
    _check("free device memory", rt.cudaFree(address)[0])


def allocate_pinned(size: int, /) -> int:
    """Allocate page-locked host memory."""
    error, address = rt.cudaHostAlloc(size, rt.cudaHostAllocDefault)
    _check(f"allocate {_mebibytes(size)} of page-locked host memory", error)
    return int(address)


def free_pinned(address: int, /) -> None:
    """Free page-locked host memory; also when Python ends, when CUDA may be gone: nothing is checked."""
    rt.cudaFreeHost(address)


def create_stream() -> Any:
    """Create a stream that does not wait for the default one."""
    error, stream = rt.cudaStreamCreateWithFlags(rt.cudaStreamNonBlocking)
    _check("create a stream", error)
    return stream


def destroy_stream(stream: Any, /) -> None:
    """Destroy a stream."""
    _check("destroy a stream", rt.cudaStreamDestroy(stream)[0])


def handle(stream: Any, /) -> int:
    """Give a stream as the number that TensorRT takes."""
    return int(stream)


def copy_in(device: int, host: int, size: int, stream: Any, /) -> None:
    """Begin to copy to the device."""
    (error,) = rt.cudaMemcpyAsync(device, host, size, _IN, stream)
    if error is not _SUCCESS:
        _refuse("copy to the device", error)


def copy_out(host: int, device: int, size: int, stream: Any, /) -> None:
    """Begin to copy to the host."""
    (error,) = rt.cudaMemcpyAsync(host, device, size, _OUT, stream)
    if error is not _SUCCESS:
        _refuse("copy to the host", error)


def clear(device: int, size: int, stream: Any, /) -> None:
    """Begin to fill device memory with zeros."""
    _check("clear device memory", rt.cudaMemsetAsync(device, 0, size, stream)[0])


def synchronise(stream: Any, /) -> None:
    """Wait for all that was put into a stream, as `select` said; the interpreter is free meanwhile."""
    (error,) = rt.cudaStreamSynchronize(stream)
    if error is not _SUCCESS:
        _refuse("compute", error)


def finished(stream: Any, /) -> bool:
    """Tell whether all that was put into a stream is done, without waiting."""
    (error,) = rt.cudaStreamQuery(stream)
    if error is _NOT_READY:
        return False
    _check("compute", error)
    return True


def create_event() -> Any:
    """Create an event that takes the time."""
    error, event = rt.cudaEventCreateWithFlags(rt.cudaEventDefault)
    _check("create an event", error)
    return event


def destroy_event(event: Any, /) -> None:
    """Destroy an event."""
    _check("destroy an event", rt.cudaEventDestroy(event)[0])


def record(event: Any, stream: Any, /) -> None:
    """Put an event into a stream."""
    _check("record an event", rt.cudaEventRecord(event, stream)[0])


def elapsed_ns(first: Any, second: Any, /) -> int:
    """Give the time between two events; CUDA gives milliseconds, with a resolution of about 0.5 µs."""
    error, elapsed_ms = rt.cudaEventElapsedTime(first, second)
    _check("read the events", error)
    return int(elapsed_ms * 1e6)


def begin_capture(stream: Any, /) -> None:
    """Record what is put into a stream; what other threads do meanwhile is their own affair."""
    mode = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _check("begin to record a graph", rt.cudaStreamBeginCapture(stream, mode)[0])


def end_capture(stream: Any, /) -> Any:
    """Make what was recorded a graph that can be launched, and put it on the device: no launch has to."""
    error, recorded = rt.cudaStreamEndCapture(stream)
    _check("record a graph", error)
    error, graph = rt.cudaGraphInstantiate(recorded, 0)
    rt.cudaGraphDestroy(recorded)
    _check("instantiate a graph", error)
    _check("upload a graph", rt.cudaGraphUpload(graph, stream)[0])
    return graph


def abandon_capture(stream: Any, /) -> None:
    """End a capture that failed; whatever was recorded is thrown away, and CUDA's complaint with it."""
    error, recorded = rt.cudaStreamEndCapture(stream)
    if error is _SUCCESS:
        rt.cudaGraphDestroy(recorded)
    rt.cudaGetLastError()


def launch(graph: Any, stream: Any, /) -> None:
    """Put all that a graph holds into a stream."""
    (error,) = rt.cudaGraphLaunch(graph, stream)
    if error is not _SUCCESS:
        _refuse("launch a graph", error)


def destroy_graph(graph: Any, /) -> None:
    """Destroy a graph."""
    _check("destroy a graph", rt.cudaGraphExecDestroy(graph)[0])


def _check(what: str, error: Any) -> None:
    if error != _SUCCESS:
        _refuse(what, error)


def _refuse(what: str, error: Any) -> NoReturn:
    """Raise what CUDA said, in its own words."""
    _, text = rt.cudaGetErrorString(error)
    words = text.decode() if isinstance(text, bytes) else str(text)
    hint = "Ask for a smaller batch size, or stop what else uses the GPU." if error == _NO_MEMORY else ""
    raise BackendError(f"CUDA could not {what}: {words} ({error.name}).", hint=hint)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
