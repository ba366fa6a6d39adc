"""Trials of each backend against itself: how small a change this machine can tell from none.

Nothing differs, so whatever the two sides differ by is error. Each sitting is a trial of its own, and the
sittings of all backends take turns, so that those of one are spread over the whole time.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdbench.errors import BackendError, BackendUnavailable, UsageError
from kdbench.figures import count, duration
from kdbench.floors import FEWEST_RUNS, Sitting, processor
from kdbench.header import now as utc_now
from kdbench.ranking import costs_of
from kdbench.records import CellRecord, Result, Slice, Window
from kdbench.request import Request
from kdbench.spec import Scenario

BLOCKS = 3
"""Of one sitting: the fewest that an interval can be made of."""

BUDGET_S = 120.0

Measure = Callable[[Request], Result]


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What came of it. rounds: how many sittings each backend and thread count had. seconds: in all."""

    sittings: tuple[Sitting, ...]
    failures: tuple[Failure, ...]
    rounds: int
    seconds: float


def run(
    requests: Sequence[Request],
    measure: Measure,
    *,
    budget_s: float = BUDGET_S,
    cores: int,
    keep: Callable[[tuple[Sitting, ...]], object],
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> SelfTest:
    """Let the requests take turns until the budget is used up, at least once.

    How many turns there are is fixed after the first, from how long that took and from nothing that it
    found; `tell` hears of it. requests: one backend and one number of threads each. measure: makes a trial of
    a request against itself. cores: how many threads `cores` means. keep: is given the sittings of each trial
    at once, so that an interruption costs one. What fails once is left out from then on.
    """
    begin = clock()
    tell(
        f"Self-test: {count(len(requests), 'sitting')} of {BLOCKS} blocks a round; the first tells the time."
    )
    sittings, failures, left = _round(requests, measure, cores, keep)
    first_s = clock() - begin
    rounds = max(1, int(budget_s / max(first_s, 1e-9))) if left else 1
    tell(_announced(rounds, first_s, budget_s))
    for _ in range(1, rounds):
        more, failed, left = _round(left, measure, cores, keep)
        sittings, failures = [*sittings, *more], [*failures, *failed]
    return SelfTest(tuple(sittings), tuple(failures), rounds, clock() - begin)


def sittings(result: Result, cores: int) -> tuple[Sitting, ...]:
    """Make a sitting of each pair of sides in the result of a trial; none of one that was not measured."""
    sides: dict[object, dict[str, int]] = {}
    for index, record in enumerate(result.cells):
        key = dataclasses.replace(record.cell, side="")
        sides.setdefault(key, {})[record.cell.side] = index
    pairs = [(own["a"], own["b"]) for own in sides.values() if {"a", "b"} <= own.keys()]
    found = [_sitting(result, a, b, cores) for a, b in pairs]
    return tuple(one for one in found if one is not None)


def _round(
    requests: Sequence[Request],
    measure: Measure,
    cores: int,
    keep: Callable[[tuple[Sitting, ...]], object],
) -> tuple[list[Sitting], list[Failure], list[Request]]:
    found: list[Sitting] = []
    failures: list[Failure] = []
    left: list[Request] = []
    for request in requests:
        what = f"{', '.join(request.backends)}, threads {request.profile.plan.threads}"
        try:
            result = measure(request)
        except (BackendError, BackendUnavailable, UsageError) as fault:
            failures.append(Failure(what, fault.message))
            continue
        own = sittings(result, cores)
        if own:
            keep(own)
            found += own
            left.append(request)
        else:
            reasons = [one.reason for one in result.cells if one.reason]
            failures.append(Failure(what, reasons[0] if reasons else "nothing was measured."))
    return found, failures, left


def _announced(rounds: int, first_s: float, budget_s: float) -> str:
    took = f"A round took {duration(first_s)}: {count(rounds, 'round')} in {duration(budget_s)}."
    if rounds >= FEWEST_RUNS:
        return took
    needed = f"--budget {math.ceil(FEWEST_RUNS * first_s / 60) + 1}m has {FEWEST_RUNS}"
    return f"{took} How far separate runs lie apart shows from {FEWEST_RUNS} on: {needed}, or repeat it."


def _sitting(result: Result, a: int, b: int, cores: int) -> Sitting | None:
    one, two = result.cells[a], result.cells[b]
    levels = _level(one), _level(two)
    ratios = tuple(costs_of(result, one.cell.scenario, {a, b}).direct(a, b).values())
    if one.status != "measured" or two.status != "measured" or None in levels or not ratios:
        return None
    versions = {known.name: known.runtime_version for known in result.backends}
    return Sitting(
        utc=utc_now(),
        backend=one.cell.backend,
        device=one.cell.device,
        scenario=one.cell.scenario,
        batch=one.cell.batch,
        threads=_threads(one, cores),
        cpu=processor(),
        student=result.subject.student_sha256[:16],
        runtime_version=versions.get(one.cell.backend, ""),
        kdbench=result.run.kdbench,
        ratios=ratios,
        block_s=_block_s(result, one.cell.scenario),
        levels=(levels[0] or 0.0, levels[1] or 0.0),
    )


def _level(record: CellRecord) -> float | None:
    summary = record.summary
    if summary is None:
        return None
    if record.cell.scenario == "latency":
        return math.log(summary.median_ns) if summary.median_ns else None
    return math.log(1e9 / summary.throughput_per_s) if summary.throughput_per_s else None


def _threads(record: CellRecord, cores: int) -> int:
    placed, asked = record.placement.threads if record.placement else None, record.cell.threads
    return placed or (asked if isinstance(asked, int) else cores)


def _block_s(result: Result, scenario: Scenario) -> float:
    """Give what a block took: fresh processes, warming up, slices or windows, and all between them.

    A result that does not tell its stages is asked for the time of its slices or windows alone.
    """
    timed: list[Slice | Window] = [*(result.slices if scenario == "latency" else result.windows)]
    whole_s = sum(seconds for name, seconds in result.stages if name.startswith(scenario))
    timed_s = sum(one.duration_ns for one in timed) / 1e9
    return max(1e-3, (whole_s or timed_s) / len({one.block for one in timed}))
