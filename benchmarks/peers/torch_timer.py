"""`torch.utils.benchmark` on the bare module, built and prepared as the plugin does.

Started with STUDENT BATCH THREADS IMAGES; then for each number of seconds on standard input, one line with
the median of its blocks in nanoseconds on standard output.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.utils.benchmark import Timer

from kdbench.spec import Scalar, Target
from kdbench.student import open_student
from kdbench_torch.network import Blueprint, prepare


def main() -> None:
    """Serve slices until standard input ends."""
    name, batch, threads, images = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    student = open_student(name)
    options: dict[str, Scalar] = {"mode": "eager", "fuse": True, "channels_last": True, "freeze": False}
    target = Target(device="cpu", threads=threads, options=options)
    network = prepare(Blueprint.of(student), student.files["weights"], target)
    data = torch.from_numpy(np.ascontiguousarray(np.load(images)[:batch]))
    with torch.inference_mode():
        timer = Timer("network(data)", globals={"network": network, "data": data}, num_threads=threads)
        for line in sys.stdin:
            print(1e9 * timer.blocked_autorange(min_run_time=float(line)).median, flush=True)


if __name__ == "__main__":
    main()
