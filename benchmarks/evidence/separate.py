"""What `kdbench compare` says of separate runs of one thing, as they are and with a change planted.

Pairs are runs of one line that are neighbours in time, each run used once. Of each run only one cell is kept,
so that a pair is one verdict. A change is planted by scaling all times of the later run: its noise is real.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from msgspec.structs import replace

from benchmarks.evidence.chance import Share
from benchmarks.evidence.judging import compared, excludes_none
from benchmarks.evidence.reading import Record, Trial
from kdbench.comparison import Change
from kdbench.records import Result, Samples, Slice
from kdbench.summary import summarise

PLANTED = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Slow-downs, as shares; 0 is the runs as they were."""


@dataclass(frozen=True, slots=True)
class Separate:
    """The verdicts on the pairs of some lines, by the slow-down planted.

    found: how many intervals exclude none. beyond: how many kdbench calls a change, and with a slow-down
    planted one for the worse. apart: log ratios of the runs as they were. minutes: median time from one run
    of a pair to the other. detectable: median of the smallest change that compare says it could have seen.
    """

    found: dict[float, Share]
    beyond: dict[float, Share]
    apart: tuple[float, ...]
    minutes: float
    detectable: float | None


def separate(records: Iterable[Record]) -> Separate | None:
    """Judge the pairs of these lines; None where no line has two runs."""
    pairs = [pair for record in records for pair in _pairs(record)]
    if not pairs:
        return None
    judged = {share: [compared(base, planted(new, share)) for base, new in pairs] for share in PLANTED}
    known = [one.detectable for one in judged[0.0] if one.detectable is not None]
    return Separate(
        found={share: _share(map(excludes_none, some)) for share, some in judged.items()},
        beyond={share: _share(_called(one, share) for one in some) for share, some in judged.items()},
        apart=tuple(math.log(one.effect) for one in judged[0.0] if one.effect),
        minutes=median(_minutes(base, new) for base, new in pairs),
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


def planted(result: Result, share: float) -> Result:
    """Make all calls of a result slower by `share`."""
    if not share:
        return result
    slower = replace(
        result,
        run=replace(result.run, id=f"{result.run.id}-{share:g}"),
        slices=tuple(_slower(one, 1 + share) for one in result.slices),
        samples=tuple(_slower_samples(one, 1 + share) for one in result.samples),
    )
    return summarise(slower)


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


def _pairs(record: Record) -> list[tuple[Result, Result]]:
    kept = [alone(trial, record.line.pair[0]) for trial in record.trials]
    return list(zip(kept[::2], kept[1::2], strict=False))


def _called(change: Change, share: float) -> bool:
    return change.verdict == "worse" or (not share and change.verdict == "better")


def _share(told: Iterable[bool]) -> Share:
    every: Sequence[bool] = list(told)
    return Share(sum(every), len(every))


def _minutes(base: Result, new: Result) -> float:
    begin, end = (datetime.fromisoformat(one.run.started_utc) for one in (base, new))
    return (end - begin).total_seconds() / 60
