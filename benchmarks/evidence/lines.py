"""The lines of the evidence: what is asked, the command that measures it, and how often that is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchmarks.evidence.doubling import ALIKE

Kind = Literal["alike", "slowed", "neighbour", "unlike", "four", "ranking"]

RUNTIMES = ("onnxruntime", "openvino", "torch-cpu")
SLOW_TO_START = ("torch-cpu",)
"""Of these a block takes longer and a trial has fewer."""

BLOCKS = 40
"""Of each line of trials, at least."""

WHOLE = 60
"""Whole verdicts on alike sides, at least: no alarm in 59 bounds the rate at 5 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the evidence.

    trials, blocks: whole trials and recorded blocks that it needs at least. about_s: about what one trial
    takes, where files do not tell that it is more. pair: base and new, as sides of a trial or as backends.
    slow: the true slow-down of new, as a share. slice_s: where it is not that of kdbench's own plan.
    """

    name: str
    kind: Kind
    backend: str
    threads: int
    command: tuple[str, ...]
    trials: int
    blocks: int
    about_s: float
    pair: tuple[str, str] = ("a", "b")
    slow: float = 0.0
    slice_s: float | None = None

    @property
    def truth(self) -> float:
        """The true log ratio, new over base."""
        return math.log1p(self.slow)


def _trial(backends: str, threads: int, budget: str) -> tuple[str, ...]:
    return ("ab", "-b", backends, *_workload(threads), "--budget", budget)


def _run(backends: tuple[str, ...], threads: int, *more: str) -> tuple[str, ...]:
    return ("run", "-b", ",".join(backends), *_workload(threads), *more)


def _workload(threads: int) -> tuple[str, ...]:
    return ("--batch", "1", "--scenario", "latency", "--threads", str(threads))


def _alike(backend: str, threads: int) -> Line:
    return Line(
        name=f"alike-{backend}-{threads}",
        kind="alike",
        backend=backend,
        threads=threads,
        command=_trial(backend, threads, "10s"),
        trials=14,
        blocks=BLOCKS,
        about_s=24.0 if backend in SLOW_TO_START else 13.0,
    )


def _slowed(backend: str, threads: int, percent: int) -> Line:
    slow_start = backend in SLOW_TO_START
    return Line(
        name=f"slow{percent}-{backend}-{threads}",
        kind="slowed",
        backend=backend,
        threads=threads,
        command=_trial(f"even-{backend},slow{percent}-{backend}", threads, "30s"),
        trials=7 if slow_start else 4,
        blocks=BLOCKS,
        about_s=44.0 if slow_start else 34.0,
        slow=percent / 100,
    )


def _unlike(slice_ms: int) -> Line:
    return Line(
        name=f"unlike-{slice_ms}ms",
        kind="unlike",
        backend="onnxruntime",
        threads=1,
        command=_run(("single", "crowd"), 1, "--profile", f"slices-{slice_ms}ms.toml"),
        trials=2,
        blocks=8,
        about_s=21.0 if slice_ms > 100 else 14.0,
        pair=("single", "crowd"),
        slice_s=slice_ms / 1e3,
    )


def _four(threads: int) -> Line:
    return Line(
        name=f"four-{threads}",
        kind="four",
        backend="onnxruntime",
        threads=threads,
        command=_run(ALIKE, threads, "--blocks", "6"),
        trials=2,
        blocks=12,
        about_s=36.0,
        pair=ALIKE[:2],
    )


def _ranking(threads: int) -> Line:
    return Line(
        name=f"ranking-{threads}",
        kind="ranking",
        backend="onnxruntime",
        threads=threads,
        command=_run(ALIKE[:2], threads),
        trials=WHOLE // 2,
        blocks=0,
        about_s=9.5,
        pair=ALIKE[:2],
    )


NEIGHBOUR = Line(
    name="neighbour-2",
    kind="neighbour",
    backend="onnxruntime",
    threads=2,
    command=_run((*ALIKE[:2], "idler"), 2, "--blocks", "6"),
    trials=4,
    blocks=24,
    about_s=26.0,
    pair=ALIKE[:2],
)
"""The same pair without the idler is in the line `ranking-2`."""

LINES: tuple[Line, ...] = (
    *(_alike(backend, threads) for backend in RUNTIMES for threads in (1, 2)),
    *(_slowed(backend, threads, 5) for backend in RUNTIMES for threads in (1, 2)),
    *(_slowed(backend, 1, 3) for backend in RUNTIMES),
    NEIGHBOUR,
    *(_unlike(slice_ms) for slice_ms in (20, 100, 400)),
    *(_four(threads) for threads in (1, 2)),
    *(_ranking(threads) for threads in (1, 2)),
)

SLICES = {20: 24, 100: 8, 400: 4}
"""Rounds of a block for each length of a slice, in milliseconds, of the unlike pair."""


def profile(slice_ms: int, rounds: int) -> str:
    """Give the text of a profile whose slices have that length."""
    return (
        'schema = 1\nsummary = "The unlike pair, alternated at another pace."\n\n'
        f"[latency]\nblocks = 4\nrounds = {rounds}\nslice_s = {slice_ms / 1e3}\n"
    )


def chosen(names: str) -> tuple[Line, ...]:
    """Give the lines whose names begin with one of these, separated by commas; all for no name."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    found = tuple(line for line in LINES if not wanted or line.name.startswith(tuple(wanted)))
    if missing := [name for name in wanted if not any(line.name.startswith(name) for line in LINES)]:
        raise SystemExit(
            f"No line begins with {', '.join(missing)}; there are {', '.join(line.name for line in LINES)}."
        )
    return found
