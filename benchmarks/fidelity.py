"""Does kdbench report what the vendor's own tool, or a bare loop, reports? A ratio with its interval.

`python benchmarks/fidelity.py [onnxruntime|openvino|openvino-app|torch-cpu|openvino-throughput] --blocks N`

Both sides are processes on the same CPU, alternated A B B A, the idle one stopped; a block has
fresh processes and gives one estimate, the median of log ratios of neighbours; the interval is Student's t
over blocks. `benchmark_app` cannot be held alive, so it is started anew for each of its turns.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdbench import protocol
from kdbench.environment import usable_cores
from kdbench.measure import SlicePlan
from kdbench.process import Worker
from kdbench.roster import names
from kdbench.spec import Student, Target
from kdbench.stats import t_interval
from kdbench.student import load_evaluation, open_student

PEERS = Path(__file__).parent / "peers"
LIMIT_S = 120.0


@dataclass(frozen=True)
class Case:
    """One comparison: a backend of kdbench with a peer program; `turn_s` is the length of one turn."""

    backend: str
    peer: str
    arguments: Callable[[Student, Path, int, int], list[str]]
    turns: int
    turn_s: float
    throughput: bool = False


CASES = {
    "onnxruntime": Case(
        "onnxruntime",
        "onnxruntime_loop.py",
        lambda s, images, batch, threads: [str(s.files["onnx"]), str(batch), str(threads), str(images)],
        12,
        0.1,
    ),
    "openvino": Case(
        "openvino",
        "openvino_loop.py",
        lambda s, images, batch, threads: [str(s.files["onnx"]), str(batch), str(threads), str(images)],
        12,
        0.1,
    ),
    # benchmark_app's latency is the runtime's own: neither the copy of the input nor Python's call is in it.
    "openvino-app": Case(
        "openvino",
        "openvino_app.py",
        lambda s, images, batch, threads: [str(s.files["onnx"]), str(batch), str(threads), "sync"],
        4,
        1.0,
    ),
    "torch-cpu": Case(
        "torch-cpu",
        "torch_timer.py",
        lambda s, images, batch, threads: [s.name, str(batch), str(threads), str(images)],
        12,
        0.2,
    ),
    "openvino-throughput": Case(
        "openvino",
        "openvino_app.py",
        lambda s, images, batch, threads: [str(s.files["onnx"]), str(batch), str(threads), "throughput"],
        4,
        1.0,
        throughput=True,
    ),
}


class Peer:
    """A peer program, alive between its turns but stopped."""

    def __init__(self, script: str, arguments: list[str], cpus: tuple[int, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PEERS / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        self.turn(0.2)

    def turn(self, seconds: float) -> float:
        """Let it run; answer its figure."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.kill(self._process.pid, signal.SIGCONT)
        print(seconds, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        os.kill(self._process.pid, signal.SIGSTOP)
        return float(line)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def worker(case: Case, student: Student, batch: int, cpus: tuple[int, ...], folder: Path) -> Worker:
    """Start a worker of kdbench and make it ready, as a block does."""
    found = next(one for one in names() if one.name == case.backend)
    assert found.source is not None
    source = found.source
    opening = protocol.Open(
        name=source.name, value=source.value, distribution=source.distribution, version=source.version
    )
    one = Worker(case.backend, folder / "worker.log", threads=len(cpus), cpus=cpus)
    info = one.ask(opening, protocol.Opened, "describe", LIMIT_S).info
    target = Target(
        device="cpu",
        threads=len(cpus),
        batch_sizes=(batch,),
        scenario="throughput" if case.throughput else "latency",
        options={option.name: option.default for option in info.options},
    )
    compile_ = protocol.Compile(student=student, target=target, workdir=folder)
    compiled = one.ask(compile_, protocol.Compiled, "compile", LIMIT_S)
    load = protocol.Load(student=student, target=target, artifact=compiled.artifact, workdir=folder)
    loaded = one.ask(load, protocol.Loaded, "load", LIMIT_S)
    depth = max(2 * len(cpus), loaded.optimal_depth or 1) if case.throughput else 1
    plan = SlicePlan(slice_s=case.turn_s)
    one.ask(protocol.Prepare(batch=batch, depth=depth, slice=plan), protocol.Prepared, "run", LIMIT_S)
    one.ask(protocol.Check(batch=batch, images=0), protocol.Checked, "check", LIMIT_S)
    warm = protocol.WarmUp(batch=batch, at_least_s=0.3, at_most_s=3)
    one.ask(warm, protocol.Warmed, "run", LIMIT_S)
    return one


def ours(case: Case, one: Worker, batch: int, depth: int) -> float:
    """Let kdbench's worker run for a turn; answer its figure: median in ns, or images per second."""
    one.resume()
    if case.throughput:
        asked = protocol.TimeWindow(batch=batch, depth=depth, window_s=case.turn_s, latencies=50)
        window = one.ask(asked, protocol.Windowed, "run", LIMIT_S)
        figure = 1e9 * window.images / window.duration_ns
    else:
        figure = one.ask(protocol.TimeSlice(batch=batch), protocol.Sliced, "run", LIMIT_S).median_ns
    one.pause()
    return figure


def block(
    case: Case, student: Student, batch: int, cpus: tuple[int, ...], images: Path
) -> tuple[float, float, float]:
    """Give one block's log ratio of kdbench to its peer, and both medians."""
    with tempfile.TemporaryDirectory() as folder:
        one = worker(case, student, batch, cpus, Path(folder))
        depth = 1
        if case.throughput:
            found = one.ask(protocol.FindDepth(batch=batch, trial_s=0.3), protocol.Found, "run", LIMIT_S)
            depth = found.depth
        one.pause()
        peer = Peer(case.peer, case.arguments(student, images, batch, len(cpus)), cpus)
        ratios, mine, theirs = [], [], []
        try:
            for turn in range(case.turns):
                figures = {}
                for side in "AB" if turn % 2 == 0 else "BA":
                    figures[side] = ours(case, one, batch, depth) if side == "A" else peer.turn(case.turn_s)
                ratios.append(math.log(figures["A"] / figures["B"]))
                mine.append(figures["A"])
                theirs.append(figures["B"])
        finally:
            peer.end()
            one.end()
    return statistics.median(ratios), statistics.median(mine), statistics.median(theirs)


def main() -> None:
    """Print a line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    student = open_student("digits-2x5")
    cpus = usable_cores()[-asked.threads :]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, load_evaluation(student).inputs[0])
        for name in asked.cases or CASES:
            found = [block(CASES[name], student, asked.batch, cpus, images) for _ in range(asked.blocks)]
            interval = t_interval([log for log, _, _ in found])
            ratio, low, high = (math.exp(x) for x in (interval.estimate, interval.low, interval.high))
            mine, theirs = (statistics.median(one[side] for one in found) for side in (1, 2))
            print(
                f"{name:<20} ratio {ratio:.3f} [{low:.3f}, {high:.3f}] over {asked.blocks} blocks; "
                f"kdbench {mine:,.0f}, peer {theirs:,.0f} {'per s' if CASES[name].throughput else 'ns'}"
            )


if __name__ == "__main__":
    main()
