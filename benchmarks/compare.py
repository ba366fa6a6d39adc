"""How long does `kdbench compare` take, and how much memory? Two files of 2,000 cells, and two of 4.

`python benchmarks/compare.py [--cells 2000,4] [--blocks 3] [--rounds 4]`

Makes the files, runs the command in a process of its own, and prints seconds from start to end and peak
memory. The limits are 10 s and 500 MB for 2,000 cells, 1 s for 4.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdbench import results
from kdbench.records import AccuracyRecord, CellRecord, PlacementRecord, Result, Run, Samples, Slice, Subject
from kdbench.spec import Cell

IMAGES = 100
CALLS = 100
SLICE_NS = 100_000_000


def made(number: int, cells: int, blocks: int, rounds: int) -> Result:
    """Give a result of so many cells, latency only, each at 100 µs and a few percent."""
    noise = random.Random(number)
    records, slices, samples = [], [], []
    for index in range(cells):
        key = Cell(
            backend=f"backend-{index // 100}",
            device="cpu",
            precision="fp32",
            batch=index % 100 + 1,
            scenario="latency",
            threads=1,
        )
        placed = PlacementRecord(requested="cpu", device="cpu", precision="fp32", threads=1)
        answers = tuple(noise.randrange(10) for _ in range(IMAGES))
        found = AccuracyRecord(images=IMAGES, correct=90, tolerance=1e-3, predictions=answers)
        records.append(
            CellRecord(cell=key, status="measured", placement=placed, accuracy=found, eligible=True)
        )
        for block in range(blocks):
            drawn = [1e5 * noise.lognormvariate(0, 0.03) for _ in range(max(CALLS, rounds))]
            slices += [_slice(index, block, turn, drawn[turn]) for turn in range(rounds)]
            samples.append(
                Samples(cell=index, block=block, calls=CALLS, values_ns=tuple(map(round, drawn[:CALLS])))
            )
    subject = Subject(
        student="made",
        student_sha256="5" * 64,
        task="classification",
        classes=tuple("0123456789"),
        data_sha256="d" * 64,
        images=IMAGES,
    )
    run = Run(
        id=f"run-{number}",
        started_utc=f"2026-01-0{number}T00:00:00Z",
        finished_utc=f"2026-01-0{number}T01:00:00Z",
        status="complete",
    )
    return Result(
        run=run,
        subject=subject,
        environment={},
        cells=tuple(records),
        slices=tuple(slices),
        samples=tuple(samples),
    )


def _slice(cell: int, block: int, turn: int, median_ns: float) -> Slice:
    return Slice(
        cell=cell,
        block=block,
        round=turn,
        started_ns=0,
        duration_ns=SLICE_NS,
        calls=1000,
        median_ns=median_ns,
        p10_ns=median_ns * 0.98,
        p25_ns=median_ns * 0.99,
        p75_ns=median_ns * 1.01,
        min_ns=round(median_ns * 0.97),
        max_ns=round(median_ns * 1.5),
        mean_ns=median_ns,
    )


def timed(words: list[str]) -> tuple[float, float, int]:
    """Run a command: seconds, peak megabytes, and exit code."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "kdbench", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    return time.perf_counter() - began, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main() -> None:
    """Make the files and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default="2000,4")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    counts = [int(word) for word in asked.cells.split(",")]
    if asked.make:
        for cells, number in itertools.product(counts, (1, 2)):
            results.write(made(number, cells, asked.blocks, asked.rounds), _path(asked.make, cells, number))
        return
    with tempfile.TemporaryDirectory() as place:
        # in a process of its own: what a parent once held counts as its child's peak
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--make", place], check=True)
        for cells, form in itertools.product(counts, ("table", "json")):
            paths = [_path(Path(place), cells, number) for number in (1, 2)]
            seconds, megabytes, code = timed(["compare", *map(str, paths), "--format", form])
            print(
                f"2 files of {cells:,} cells ({paths[0].stat().st_size / 1e6:.1f} MB each), {form}: "
                f"{seconds:.2f} s, {megabytes:.0f} MB, exit code {code}"
            )


def _path(folder: Path, cells: int, number: int) -> Path:
    return folder / f"{cells}-{number}.json"


if __name__ == "__main__":
    main()
