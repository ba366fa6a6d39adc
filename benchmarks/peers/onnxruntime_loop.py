"""A bare ONNX Runtime loop: one session, one binding made beforehand, one call timed at a time.

Started with MODEL BATCH THREADS IMAGES; then for each number of seconds on standard input, one line with
the median of the calls in nanoseconds on standard output.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import onnxruntime as ort


def main() -> None:
    """Serve slices until standard input ends."""
    model, batch, threads, images = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_free_dimension_override_by_name("batch", batch)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    node, answer = session.get_inputs()[0], session.get_outputs()[0]
    stock = np.load(images)
    bindings = []
    for start in range(64):
        data = np.ascontiguousarray(stock[(np.arange(batch) + start * batch) % len(stock)])
        binding = session.io_binding()
        binding.bind_ortvalue_input(node.name, ort.OrtValue.ortvalue_from_numpy(data))
        binding.bind_ortvalue_output(
            answer.name, ort.OrtValue.ortvalue_from_numpy(np.empty((batch, answer.shape[1]), np.float32))
        )
        bindings.append(binding)
    run, clock = session.run_with_iobinding, time.perf_counter_ns
    for line in sys.stdin:
        samples = []
        end = clock() + float(line) * 1e9
        while clock() < end:
            for binding in bindings:
                begin = clock()
                run(binding)
                samples.append(clock() - begin)
        print(statistics.median(samples), flush=True)


if __name__ == "__main__":
    main()
