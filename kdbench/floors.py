"""What this machine's self-tests found, kept from one to the next: how far apart alike runs come out.

One JSON file a machine in the user's cache folder. A file that is damaged is never an error: measuring goes
on without it, and `kdbench doctor` tells.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Annotated

from msgspec import Meta, Struct, field

from kdbench import cache, cpu, environment, results, stats, strict
from kdbench.errors import KdbenchError, ResultError
from kdbench.raw import Count
from kdbench.records import Floor
from kdbench.spec import Scenario

FORMAT = 1

KEPT = 200
"""Sittings of one kind that are kept, the latest ones."""

FEWEST_RUNS = 3
"""Two runs alike prove nothing about how far apart runs come out."""

_LogRatio = Annotated[float, Meta(ge=-10.0, le=10.0)]
_LogLevel = Annotated[float, Meta(ge=-50.0, le=50.0)]
_HASH = re.compile(r"[0-9a-f]{8,64}")


class Sitting(Struct, frozen=True, kw_only=True):
    """One run of one thing as two, side by side.

    cpu: what it ran on, see `processor`. student: sha256 of what was measured, or its beginning.
    threads: how many there were, in fact.
    ratios: log(a / b) of each block. levels: the log of each side's own median (ns a call, or an image).
    """

    utc: str
    backend: str
    device: str
    scenario: Scenario
    batch: Annotated[int, Meta(ge=1)]
    threads: Annotated[int, Meta(ge=1)]
    cpu: str = ""
    student: str = ""
    runtime_version: str = ""
    kdbench: str = ""
    ratios: tuple[_LogRatio, ...]
    block_s: Annotated[float, Meta(gt=0.0, le=1e6)]
    levels: tuple[_LogLevel, _LogLevel]

    @property
    def kind(self) -> tuple[str | int, ...]:
        """What must agree for two sittings to tell something about one another."""
        made = (self.runtime_version, self.kdbench)
        return (self.backend, self.device, self.scenario, self.batch, self.threads, *made)


class Kept(Struct, frozen=True, kw_only=True):
    """The file."""

    format: Count = FORMAT
    sittings: tuple[Sitting, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Store:
    """What is kept about one machine; `fault` says in a sentence why nothing could be read.

    newer: whether a newer kdbench wrote it; then it must stay as it is.
    """

    path: Path | None
    sittings: tuple[Sitting, ...] = ()
    fault: str = ""
    newer: bool = False


def load(host_hash: str | None = None) -> tuple[Floor, ...]:
    """Give the floors of a machine, None for this one; none where nothing can be read. Never raises.

    Names such as `localhost` are many machines': of this one's, only what its own CPUs gave counts.
    """
    found = opened(host_hash).sittings
    if host_hash is None or host_hash == environment.host_hash():
        here = processor()
        found = tuple(one for one in found if one.cpu in ("", here))
    return derive(found)


def processor() -> str:
    """Name the CPUs that are computed on here: model, and how many."""
    return f"{cpu.describe()['model']}, {len(environment.usable_cores())}"


def opened(host_hash: str | None = None) -> Store:
    """Read what is kept about a machine. Never raises: `Store.fault` says what is wrong."""
    try:
        path = _path(host_hash)
        if path is None or not path.exists():
            return Store(path)
        kept = strict.decode(results.load(path), Kept, f"The self-tests of this machine in {path}")
    except KdbenchError as fault:
        return Store(None, fault=fault.message)
    except OSError as fault:
        return Store(None, fault=f"The self-tests of this machine cannot be read: {fault.strerror}.")
    if kept.format > FORMAT:
        told = f"{path} was written by a newer kdbench, and its self-tests are not used."
        return Store(path, fault=told, newer=True)
    return Store(path, kept.sittings)


def add(sittings: Iterable[Sitting]) -> Path:
    """Keep these self-tests beside those that are there, and give the file.

    A damaged file is set aside under another name. Raises ResultError where the folder cannot be written.
    """
    store, path = opened(), _path(None)
    assert path is not None  # this machine's own hash is one
    if store.newer:
        raise ResultError(store.fault, hint="Upgrade kdbench, or set KDBENCH_CACHE to another folder.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if store.fault and path.exists():
            path.replace(path.with_suffix(".damaged"))
        results.put(path, strict.encode(Kept(sittings=_latest([*store.sittings, *sittings]))))
    except OSError as fault:
        raise ResultError(
            f"The self-tests cannot be kept in {path}: {fault.strerror}.",
            hint="Set KDBENCH_CACHE to a folder of yours that can be written, on a disk with room.",
        ) from fault
    return path


def derive(sittings: Iterable[Sitting]) -> tuple[Floor, ...]:
    """Give a floor for each kind of sitting; of several versions of kdbench the one that was used last."""
    kinds: dict[tuple[str | int, ...], list[Sitting]] = defaultdict(list)
    for one in sittings:
        kinds[one.kind].append(one)
    last: dict[tuple[str | int, ...], list[Sitting]] = {}
    for kind, own in sorted(kinds.items(), key=lambda item: max(one.utc for one in item[1])):
        last[kind[:-1]] = own
    floors = (_floor(own) for own in last.values())
    return tuple(floor for floor in floors if floor is not None)


def in_one_run(floor: Floor, seconds: float, confidence: float = stats.CONFIDENCE) -> tuple[float, int]:
    """Give the smallest change that a trial of so many seconds can tell from none, and its blocks.

    As a share: 0.03 for 3 %. It is half the width of the interval, t * block_sd / sqrt(blocks), so that a
    change of just this size is found in one trial of two. A trial has at least three blocks.
    """
    blocks = max(3, round(seconds / floor.block_s))
    half = stats.t_half(floor.block_sd / math.sqrt(blocks), blocks - 1, confidence)
    return math.expm1(half), blocks


def between_runs(floor: Floor, confidence: float = stats.CONFIDENCE) -> float | None:
    """Give the smallest change that two separate runs can tell from none, as a share; None: not known yet.

    t * sqrt(2) * run_sd: each of the two runs is off by its own error.
    """
    if floor.run_sd is None or floor.runs < FEWEST_RUNS:
        return None
    return math.expm1(stats.t_half(math.sqrt(2) * floor.run_sd, floor.runs - 1, confidence))


def alarms(sittings: Iterable[Sitting], margin: float = 0.0) -> tuple[int, int]:
    """Count the sittings whose interval excludes no difference, by more than a margin, and all that could.

    Nothing differs in a self-test, so each is a false alarm; 5 % of them are due by the interval's own level.
    """
    intervals = [stats.t_interval(one.ratios) for one in sittings if len(one.ratios) > 1]
    beyond = math.log1p(margin)
    told = [one for one in intervals if abs(one.estimate) > max(one.half, beyond)]
    return len(told), len(intervals)


def _floor(sittings: Sequence[Sitting]) -> Floor | None:
    """Estimate both scatters; the truth is known within a run: nothing differs, so ratios scatter about 0."""
    ratios = [ratio for one in sittings for ratio in one.ratios]
    if len(ratios) < 2:
        return None
    first = sittings[0]
    run_sd, runs = _between(sittings)
    return Floor(
        backend=first.backend,
        device=first.device,
        scenario=first.scenario,
        batch=first.batch,
        threads=first.threads,
        runtime_version=first.runtime_version,
        block_sd=math.sqrt(fmean(ratio * ratio for ratio in ratios)),
        blocks=len(ratios),
        block_s=fmean(one.block_s for one in sittings),
        run_sd=run_sd,
        runs=runs,
        since_utc=min(one.utc for one in sittings),
        until_utc=max(one.utc for one in sittings),
    )


def _between(sittings: Sequence[Sitting]) -> tuple[float | None, int]:
    """Pool the variance of runs of one student over students, and over the two sides, which are alike.

    The answer counts runs such that one less are the degrees of freedom.
    """
    by_student: dict[str, list[Sitting]] = defaultdict(list)
    for one in sittings:
        by_student[one.student].append(one)
    several = [own for own in by_student.values() if len(own) > 1]
    freedom = sum(len(own) - 1 for own in several)
    if freedom + 1 < FEWEST_RUNS:
        return None, max(map(len, by_student.values()))
    squares = sum(
        (len(own) - 1) * fmean(variance(one.levels[side] for one in own) for side in (0, 1))
        for own in several
    )
    return math.sqrt(squares / freedom), freedom + 1


def _latest(sittings: Sequence[Sitting]) -> tuple[Sitting, ...]:
    kinds: dict[tuple[str | int, ...], list[Sitting]] = defaultdict(list)
    for one in sorted(sittings, key=lambda one: one.utc):
        kinds[one.kind].append(one)
    return tuple(one for own in kinds.values() for one in own[-KEPT:])


def _path(host_hash: str | None) -> Path | None:
    """Give the file of a machine; None for what is no hash, as a result from elsewhere may claim."""
    name = environment.host_hash() if host_hash is None else host_hash
    return cache.user_folder() / "floors" / f"{name}.json" if _HASH.fullmatch(name) else None
