"""A bare ONNX Runtime loop on the GPU, by its own Python alone: update the input in place, run, copy out.

Started with MODEL BATCH IMAGES; then for each number of seconds on standard input, one line with the median
of the calls in nanoseconds on standard output. Written after onnxruntime.ai/docs, "Device tensors".
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import onnxruntime as ort


def main() -> None:
    """Serve slices until standard input ends."""
    model, batch, stock = sys.argv[1], int(sys.argv[2]), np.load(sys.argv[3])
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", batch)
    settings = {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}
    session = ort.InferenceSession(model, options, providers=[("CUDAExecutionProvider", settings)])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise SystemExit("ONNX Runtime fell back to the CPU.")
    node, answer = session.get_inputs()[0], session.get_outputs()[0]
    given = ort.OrtValue.ortvalue_from_numpy(np.empty((batch, *stock.shape[1:]), np.float32), "cuda", 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(node.name, given)
    binding.bind_output(answer.name, "cuda")
    clock, turn = time.perf_counter_ns, 0
    for line in sys.stdin:
        samples = []
        end = clock() + float(line) * 1e9
        while clock() < end:
            images = np.ascontiguousarray(stock[(np.arange(batch) + turn * batch) % len(stock)])
            turn += 1
            begin = clock()
            given.update_inplace(images)
            session.run_with_iobinding(binding)
            binding.copy_outputs_to_cpu()
            samples.append(clock() - begin)
        print(statistics.median(samples), flush=True)


if __name__ == "__main__":
    main()
