"""What `kdbench compare` says of separate runs of one thing, as they are and with a change planted.

Pairs are runs of one line that are neighbours in time, each run used once. Of each run only one cell is kept,
so that a pair is one verdict. A change is planted by scaling all times of the later run: its noise is real.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from msgspec.structs import replace

from benchmarks.evidence import judging
from benchmarks.evidence.chance import Share
from benchmarks.evidence.reading import Record, Trial
from kdbench.comparison import Change
from kdbench.records import Result, Samples, Slice
from kdbench.summary import summarise

PLANTED = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Slow-downs, as shares; 0 is the runs as they were."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two separate runs of one thing: the verdict by the slow-down planted, and the minutes between them."""

    changes: Mapping[float, Change]
    minutes: float


@dataclass(frozen=True, slots=True)
class Separate:
    """The verdicts on some pairs, by the slow-down planted.

    found: how many intervals exclude none; with a slow-down planted, how many are of slower ones only.
    called: how many kdbench calls a change, and with a slow-down planted one for the worse.
    apart: log ratios of the runs as they were. minutes: median time from one run of a pair to the other.
    detectable: median of the smallest change that compare says it could have seen.
    """

    found: dict[float, Share]
    called: dict[float, Share]
    apart: tuple[float, ...]
    minutes: float
    detectable: float | None


def pairs(record: Record) -> tuple[Pair, ...]:
    """Judge the pairs of a line's runs, each with every slow-down planted."""
    kept = [alone(trial, record.line.pair[0]) for trial in record.trials]
    return tuple(_judged(base, new) for base, new in zip(kept[::2], kept[1::2], strict=False))


def separate(some: Sequence[Pair]) -> Separate | None:
    """Count the verdicts on these pairs; None of none."""
    if not some:
        return None
    plain = [pair.changes[0.0] for pair in some]
    known = [one.detectable for one in plain if one.detectable is not None]
    return Separate(
        found=_shares(some, judging.found),
        called=_shares(some, judging.called),
        apart=tuple(math.log(one.effect) for one in plain if one.effect),
        minutes=median(pair.minutes for pair in some),
        detectable=median(known) if known else None,
    )


def alone(trial: Trial, name: str) -> Result:
    """Keep one cell of a result, by side or backend, as if it had been measured with nothing beside it."""
    result, index = trial.result, trial.cell(name)
    record = result.cells[index]
    kept = replace(
        result,
        cells=(replace(record, cell=dataclasses.replace(record.cell, side="")),),
        slices=tuple(replace(one, cell=0) for one in result.slices if one.cell == index),
        samples=tuple(replace(one, cell=0) for one in result.samples if one.cell == index),
        windows=(),
        stretches=(),
        trial=None,
    )
    return summarise(kept)


def planted(result: Result, slow: float) -> Result:
    """Make all calls of a result slower by the share `slow`."""
    if not slow:
        return result
    slower = replace(
        result,
        run=replace(result.run, id=f"{result.run.id}-{slow:g}"),
        slices=tuple(_slower(one, 1 + slow) for one in result.slices),
        samples=tuple(_slower_samples(one, 1 + slow) for one in result.samples),
    )
    return summarise(slower)


def _judged(base: Result, new: Result) -> Pair:
    changes = {slow: judging.compared(base, planted(new, slow)) for slow in PLANTED}
    return Pair(changes, _minutes(base, new))


def _slower(one: Slice, factor: float) -> Slice:
    return replace(
        one,
        median_ns=one.median_ns * factor,
        p10_ns=one.p10_ns * factor,
        p25_ns=one.p25_ns * factor,
        p75_ns=one.p75_ns * factor,
        mean_ns=one.mean_ns * factor,
        min_ns=round(one.min_ns * factor),
        max_ns=round(one.max_ns * factor),
    )


def _slower_samples(one: Samples, factor: float) -> Samples:
    """Scale raw samples; a histogram is moved by whole bins, each of which is 0.2 %."""
    moved = round(math.log(factor) / math.log(one.growth)) if one.growth else 0
    return replace(
        one,
        values_ns=tuple(round(value * factor) for value in one.values_ns),
        bins=tuple(k + moved for k in one.bins),
    )


def _shares(some: Sequence[Pair], judge: Callable[[Change, float], bool]) -> dict[float, Share]:
    return {slow: Share(sum(judge(pair.changes[slow], slow) for pair in some), len(some)) for slow in PLANTED}


def _minutes(base: Result, new: Result) -> float:
    begin, end = (datetime.fromisoformat(one.run.started_utc) for one in (base, new))
    return (end - begin).total_seconds() / 60
