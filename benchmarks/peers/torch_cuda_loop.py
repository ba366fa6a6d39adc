"""A bare PyTorch loop on the GPU: pinned input, non-blocking copies, the module, and one wait.

Started with STUDENT BATCH IMAGES; then for each number of seconds on standard input, one line with the
median of the calls in nanoseconds on standard output.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from kdbench.spec import Scalar, Target
from kdbench.student import open_student
from kdbench_torch.network import Blueprint, prepare


def main() -> None:
    """Serve slices until standard input ends."""
    name, batch, images = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    student = open_student(name)
    options: dict[str, Scalar] = {"mode": "eager", "fuse": True, "channels_last": False, "freeze": False}
    target = Target(device="cpu", options=options)
    network = prepare(Blueprint.of(student), student.files["weights"], target).to("cuda")
    stock = torch.from_numpy(np.load(images))
    given = torch.empty((batch, *stock.shape[1:])).pin_memory()
    answer = torch.empty((batch, len(student.classes))).pin_memory()
    event: Any = torch.cuda.Event
    clock, turn, done = time.perf_counter_ns, 0, event()
    with torch.inference_mode():
        for line in sys.stdin:
            samples = []
            end = clock() + float(line) * 1e9
            while clock() < end:
                given.copy_(stock[(torch.arange(batch) + turn * batch) % len(stock)])
                turn += 1
                begin = clock()
                answer.copy_(network(given.to("cuda", non_blocking=True)), non_blocking=True)
                done.record()
                while not done.query():
                    pass
                samples.append(clock() - begin)
            print(statistics.median(samples), flush=True)


if __name__ == "__main__":
    main()
