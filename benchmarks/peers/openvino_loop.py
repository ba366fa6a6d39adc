"""A bare OpenVINO loop: one request, the input copied into its tensor, one call timed at a time.

Started with MODEL BATCH THREADS IMAGES; then for each number of seconds on standard input, one line with
the median of the calls in nanoseconds on standard output.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import openvino as ov


def main() -> None:
    """Serve slices until standard input ends."""
    path, batch, threads, images = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    core = ov.Core()
    model = core.read_model(path)
    stock = np.load(images)
    model.reshape([batch, *stock.shape[1:]])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    held = request.get_input_tensor(0).data
    ring = [np.ascontiguousarray(stock[(np.arange(batch) + n * batch) % len(stock)]) for n in range(64)]
    infer, clock = request.infer, time.perf_counter_ns
    for line in sys.stdin:
        samples = []
        end = clock() + float(line) * 1e9
        while clock() < end:
            for entry in ring:
                begin = clock()
                held[...] = entry
                infer(share_outputs=True)
                samples.append(clock() - begin)
        print(statistics.median(samples), flush=True)


if __name__ == "__main__":
    main()
