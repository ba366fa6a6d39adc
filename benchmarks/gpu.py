"""Does kdbench report on an NVIDIA GPU what `trtexec`, or a bare loop over each vendor's API, reports?

`python benchmarks/gpu.py [CASE …] --blocks N`, a case being one of those below.

A block has fresh processes on both sides, which take turns A B B A while the other is stopped, and gives one
estimate, the median of log ratios of neighbours; the interval is Student's t over blocks. `trtexec` cannot be
held alive, so it is started anew for each of its turns, with the very engine that kdbench built, and both
with a CUDA graph and a spinning host. Each line ends with the limit that it is held to. Without the backend,
the probe's sentence is all that is printed, and the exit code is 3.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

if not __package__:
    # Run as a file: the repository, which holds the package `benchmarks`, is then not on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fidelity import LIMIT_S, Peer
from kdbench import protocol
from kdbench.environment import usable_cores
from kdbench.measure import SlicePlan
from kdbench.process import Worker
from kdbench.roster import names, opening
from kdbench.spec import Available, Device, Student, Target
from kdbench.stats import t_interval
from kdbench.student import load_evaluation, open_student

TURNS = 12
TURN_S = 0.2
TRTEXEC_S = 2


@dataclass(frozen=True)
class Case:
    """A backend of kdbench held against a peer. limit: how far the ratio may lie from 1, None for none.

    figure: what of a slice is compared, of `median_ns` and `device_ns`.
    """

    backend: str
    peer: str
    limit: float | None
    figure: str = "median_ns"


CASES = {
    "trtexec": Case("tensorrt", "computeMs", 0.02, "device_ns"),
    # Its latency is that of the two copies and the network by the GPU's clock: no host is in it.
    "trtexec-copies": Case("tensorrt", "latencyMs", None),
    "tensorrt": Case("tensorrt", "tensorrt_loop.py", 0.03),
    "tensorrt-rtx": Case("tensorrt-rtx", "tensorrt_loop.py", 0.03),
    "torch-cuda": Case("torch-cuda", "torch_cuda_loop.py", 0.03),
    # The bare loop has no pinned memory and no stream of its own: ONNX Runtime's Python offers neither.
    "onnxruntime-cuda": Case("onnxruntime-cuda", "onnxruntime_cuda_loop.py", None),
}


@dataclass(frozen=True)
class Prepared:
    """kdbench's side of a block: a worker that is ready to be timed, and what it compiled."""

    worker: Worker
    folder: Path


@contextmanager
def ready(case: Case, student: Student, batch: int, device: str) -> Iterator[Prepared]:
    """Start a worker and make it ready, as a block does; end with the probe's words where it cannot run."""
    found = next((one for one in names() if one.name == case.backend), None)
    if found is None or found.source is None:
        refuse(f"The backend '{case.backend}' is not installed.")
    cpus = usable_cores()[-1:]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with Worker(case.backend, folder / "worker.log", threads=1, cpus=cpus) as one:
            info = one.ask(opening(found.source), protocol.Opened, "describe", LIMIT_S).info
            gpu = chosen(one, device)
            target = Target(
                device=gpu.id,
                threads=1,
                batch_sizes=(batch,),
                options={option.name: option.default for option in info.options},
            )
            work = folder / "artifact"
            work.mkdir()
            request = protocol.Compile(student=student, target=target, workdir=work)
            compiled = one.ask(request, protocol.Compiled, "compile", LIMIT_S)
            load = protocol.Load(
                student=student, target=target, artifact=compiled.artifact, workdir=work, uuid=gpu.uuid
            )
            one.ask(load, protocol.Loaded, "load", LIMIT_S)
            plan = SlicePlan(slice_s=TURN_S)
            one.ask(protocol.Prepare(batch=batch, depth=1, slice=plan), protocol.Prepared, "run", LIMIT_S)
            one.ask(protocol.Check(batch=batch, images=0), protocol.Checked, "check", LIMIT_S)
            warm = protocol.WarmUp(batch=batch, at_least_s=1, at_most_s=5)
            one.ask(warm, protocol.Warmed, "run", LIMIT_S)
            one.pause()
            yield Prepared(one, work)


def chosen(one: Worker, device: str) -> Device:
    """Give the device that is meant; end with the probe's words where there is none."""
    probed = one.ask(protocol.Probe(), protocol.Probed, "probe", LIMIT_S)
    if not isinstance(probed.available, Available):
        refuse(
            f"{probed.unavailable.reason} {probed.unavailable.fix}" if probed.unavailable else "No answer."
        )
    here = [gpu for gpu in probed.available.devices if device in (gpu.id, gpu.uuid)]
    return here[0] if here else refuse(f"There is no {device}.")


def refuse(reason: str) -> NoReturn:
    """Say why nothing can be compared, with the exit code of a backend that is unavailable."""
    print(reason, file=sys.stderr)
    raise SystemExit(3)


def ours(case: Case, one: Worker, batch: int) -> float:
    """Let kdbench's worker run for a turn; answer its figure in ns."""
    one.resume()
    sliced = one.ask(protocol.TimeSlice(batch=batch), protocol.Sliced, "run", LIMIT_S)
    one.pause()
    figure = getattr(sliced, case.figure)
    if figure is None:
        raise SystemExit(f"{case.backend} tells no {case.figure}.")
    return float(figure)


def trtexec(program: str, engine: Path, field: str) -> float:
    """Time an engine by `trtexec`, as NVIDIA's page on benchmarking says; answer the median of a field in ns.

    docs.nvidia.com/deeplearning/tensorrt/latest/performance/benchmarking.html
    """
    times = engine.with_name("times.json")
    words = [program, f"--loadEngine={engine}", "--useCudaGraph", "--useSpinWait", "--warmUp=500"]
    words += [f"--duration={TRTEXEC_S}", f"--exportTimes={times}"]
    words += ["--noDataTransfers"] if field == "computeMs" else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"trtexec failed: {(done.stdout + done.stderr)[-400:]}")
    return 1e6 * statistics.median(float(one[field]) for one in json.loads(times.read_text()))


def block(case: Case, student: Student, batch: int, asked: argparse.Namespace, images: Path) -> list[float]:
    """Give one block's log ratio of kdbench to its peer, and both medians in ns."""
    with ready(case, student, batch, asked.device) as prepared:
        if not case.peer.endswith(".py"):
            program = (
                asked.trtexec or shutil.which("trtexec") or refuse("trtexec is not on the PATH (--trtexec).")
            )
            engine = prepared.folder / f"batch-{batch}.engine"
            figures = alternated(case, prepared, batch, 4, lambda: trtexec(program, engine, case.peer))
        else:
            peer = Peer(
                case.peer, arguments(case, student, batch, prepared.folder, images), usable_cores()[-1:]
            )
            try:
                figures = alternated(case, prepared, batch, TURNS, lambda: peer.turn(TURN_S))
            finally:
                peer.end()
    logs = [math.log(mine / its) for mine, its in figures]
    return [statistics.median(logs), *(statistics.median(side) for side in zip(*figures, strict=True))]


def alternated(
    case: Case, prepared: Prepared, batch: int, turns: int, peer: Callable[[], float]
) -> list[tuple[float, float]]:
    """Let both sides take turns, A B B A."""
    found = []
    for turn in range(turns):
        if turn % 2:
            its = peer()
            found.append((ours(case, prepared.worker, batch), its))
        else:
            found.append((ours(case, prepared.worker, batch), peer()))
    return found


def arguments(case: Case, student: Student, batch: int, folder: Path, images: Path) -> list[str]:
    """Give what a peer program is started with."""
    if case.peer == "tensorrt_loop.py":
        module = case.backend.replace("-", "_")
        return [module, str(folder / f"batch-{batch}.engine"), str(batch), str(images)]
    if case.peer == "torch_cuda_loop.py":
        return [student.name, str(batch), str(images)]
    return [str(student.files["onnx"]), str(batch), str(images)]


def main() -> None:
    """Print a line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--student", default="digits-2x5")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--trtexec", help="where trtexec is, if not on the PATH")
    asked = parser.parse_args()
    student = open_student(asked.student)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, load_evaluation(student).inputs[0])
        for name in asked.cases or CASES:
            case = CASES[name]
            found = [block(case, student, asked.batch, asked, images) for _ in range(asked.blocks)]
            interval = t_interval([log for log, _, _ in found])
            ratio, low, high = (math.exp(x) for x in (interval.estimate, interval.low, interval.high))
            mine, its = (statistics.median(one[side] for one in found) for side in (1, 2))
            told = "no limit" if case.limit is None else f"limit {1 - case.limit:.2f} to {1 + case.limit:.2f}"
            print(
                f"{name:<17} ratio {ratio:.3f} [{low:.3f}, {high:.3f}] over {asked.blocks} blocks; "
                f"kdbench {mine:,.0f} ns, peer {its:,.0f} ns; {told}"
            )


if __name__ == "__main__":
    main()
