"""A bare TensorRT loop: one engine, one context, one CUDA graph of copy, network and copy back.

Started with MODULE ENGINE BATCH IMAGES; then for each number of seconds on standard input, one line with
the median of the calls in nanoseconds on standard output. Fresh images are copied into the pinned input
between the calls, outside the clock. Written after docs.nvidia.com/deeplearning/tensorrt, "Python API" and
"CUDA graphs".
"""

from __future__ import annotations

import ctypes
import importlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cuda.bindings import runtime as rt


def asked(answer: tuple[Any, ...]) -> Any:
    """Give what a function of CUDA answers, or stop with its error."""
    error, *rest = answer
    if error != rt.cudaError_t.cudaSuccess:
        raise SystemExit(f"CUDA: {error.name}")
    return rest[0] if rest else None


def pinned(shape: tuple[int, ...]) -> tuple[int, Any]:
    """Allocate a page-locked array of float32."""
    size = int(np.prod(shape)) * 4
    address = int(asked(rt.cudaHostAlloc(size, rt.cudaHostAllocDefault)))
    block: Any = (ctypes.c_byte * size).from_address(address)
    return address, np.frombuffer(block, np.float32).reshape(shape)


def main() -> None:
    """Serve slices until standard input ends."""
    trt = importlib.import_module(sys.argv[1])
    batch, stock = int(sys.argv[3]), np.load(sys.argv[4])
    asked(rt.cudaSetDevice(0))
    asked(rt.cudaSetDeviceFlags(rt.cudaDeviceScheduleSpin))
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(Path(sys.argv[2]).read_bytes())
    context = engine.create_execution_context()
    stream = asked(rt.cudaStreamCreateWithFlags(rt.cudaStreamNonBlocking))
    places = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        address, array = pinned((batch, *tuple(engine.get_tensor_shape(name))[1:]))
        device = asked(rt.cudaMalloc(array.nbytes))
        context.set_tensor_address(name, int(device))
        places[engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT] = (address, array, device)
    (come_from, given, taken), (go_to, answer, left) = places[True], places[False]

    def call() -> None:
        into, out = rt.cudaMemcpyKind.cudaMemcpyHostToDevice, rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        asked(rt.cudaMemcpyAsync(taken, come_from, given.nbytes, into, stream))
        context.execute_async_v3(int(stream))
        asked(rt.cudaMemcpyAsync(go_to, left, answer.nbytes, out, stream))

    call()
    asked(rt.cudaStreamSynchronize(stream))
    mode = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    asked(rt.cudaStreamBeginCapture(stream, mode))
    call()
    graph = asked(rt.cudaGraphInstantiate(asked(rt.cudaStreamEndCapture(stream)), 0))
    launch, wait, clock = rt.cudaGraphLaunch, rt.cudaStreamSynchronize, time.perf_counter_ns
    turn = 0
    for line in sys.stdin:
        samples = []
        end = clock() + float(line) * 1e9
        while clock() < end:
            given[...] = stock[(np.arange(batch) + turn * batch) % len(stock)]
            turn += 1
            begin = clock()
            launch(graph, stream)
            wait(stream)
            samples.append(clock() - begin)
        print(statistics.median(samples), flush=True)


if __name__ == "__main__":
    main()
