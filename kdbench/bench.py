"""A run from beginning to end: survey, plan, compile, blocks, windows, tails, memory, observers, result.

Every finished stage and block is in the journal before the next begins. Nothing is timed in this process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kdbench import cache, elsewhere, journal, parcel, results
from kdbench.errors import ResultError
from kdbench.header import header, refuse_other_conditions
from kdbench.keeping import finish, guarded, logs, removed_where_empty, room_made
from kdbench.ledger import Ledger
from kdbench.manifest import Parcel
from kdbench.observed import refuse_kept
from kdbench.plan import Plan
from kdbench.progress import Report
from kdbench.records import Result, Slice, Stretch, Window
from kdbench.request import Request as Request, asked_before
from kdbench.searching import foretold, refuse_alone, search as crossovers
from kdbench.stages import Search, fail_unmeasured, measure
from kdbench.survey import planned as make_plan, survey as survey


def plan(request: Request, report: Report | None = None) -> Plan:
    """Find out what can be measured here and how long it takes; measure nothing."""
    planned = _planned(request, cache.user_folder() / "logs", report)
    if _search(planned) is None:
        return planned
    return foretold(planned)


def run(request: Request, report: Report | None = None) -> Result:
    """Measure what was asked for and write the result file.

    Raises Interrupted when the user stops it: the journal then holds every finished block. A backend that
    fails is a record in the result, not an exception.
    """
    with guarded(request.output) as folder:
        if request.profile.observe.observers:
            refuse_kept(request.output)
        planned = _planned(request, logs(request.output), report)
        search = _search(planned)
        origin_ns = time.perf_counter_ns()
        with journal.create(journal.journal_path(request.output), header(request, planned)) as book:
            ledger = Ledger(planned.records, logs(request.output))
            with room_made(book.path), removed_where_empty(book.path):
                measure(planned, ledger, book, folder, origin_ns, report, done=set(), search=search)
                fail_unmeasured(ledger, book)
        return finish(request.output, book.path)


def resume(path: Path, report: Report | None = None, *, trust_code: bool = False) -> Result:
    """Go on with the journal of an interrupted run and write its result file.

    path: the journal, or the result file that it was to become. trust_code: whether artifacts that were
    compiled elsewhere may be loaded again. Raises ResultError when the machine, the versions, the student,
    the artifacts or the plan are not what they were.
    """
    output = path.with_name(path.name.removesuffix(results.JOURNAL_SUFFIX))
    kept = journal.journal_path(output)
    with guarded(output) as folder:
        before = journal.fold(kept)
        if before.trial is not None and _all_blocks(before, journal.finished(kept)):
            return finish(output, kept)
        parcels = _parcels(before, trust_code=trust_code)
        request = replace(asked_before(before, output), parcels=parcels)
        planned = _planned(request, logs(request.output), report, before.run.room)
        # What a search planned on the way is no part of the plan that it began with.
        refuse_other_conditions(journal.fold(kept, through=lambda _: False), planned, request)
        search, done = _search(planned), journal.finished(kept)
        partial, book = journal.reopen(kept)
        with book:
            ledger = Ledger(partial.cells, logs(output))
            ledger.depths.update({window.cell: window.depth for window in partial.windows})
            ledger.stretched.update(stretch.cell for stretch in partial.stretches)
            origin_ns = time.perf_counter_ns() - _latest_ns(partial)
            with room_made(kept):
                measure(planned, ledger, book, folder, origin_ns, report, done=done, search=search)
                fail_unmeasured(ledger, book)
        return finish(output, kept)


def exit_code(result: Result, named: Sequence[str] = ()) -> int:
    """Give 1 when a backend or a cell failed or is invalid, or a named one measured nothing; else 0."""
    found = {one.status for one in result.backends} | {one.status for one in result.cells}
    bad = found & {"failed", "timed out", "invalid"} or _unobserved(result)
    own = [one for one in result.cells if one.cell.network == "student"]
    measured = {one.cell.backend for one in own if one.status == "measured"}
    return int(bool(bad) or any(name not in measured for name in named) or not measured)


def _unobserved(result: Result) -> bool:
    """Tell whether an observer that was asked for failed."""
    return any(watched.reason for one in result.cells for watched in one.observed)


def _planned(
    request: Request, folder: Path, report: Report | None, room: Mapping[str, int] | None = None
) -> Plan:
    """Plan what is compiled here, or what parcels bring."""
    make = elsewhere.planned if request.parcels else make_plan
    return make(request, folder, report, room)


def _parcels(before: Result, *, trust_code: bool) -> tuple[Parcel, ...]:
    """Open again the parcels of a run; raises ResultError where one is not what it was."""
    kept = before.run.parcels
    if not kept:
        return ()
    parcel.refuse_untrusted([one.folder for one in kept], trusted=trust_code)
    opened = tuple(parcel.open_parcel(Path(one.folder).expanduser()) for one in kept)
    for one, then in zip(opened, kept, strict=True):
        if one.sha256 != then.sha256:
            raise ResultError(
                f"{then.folder} does not hold the artifacts that the run began with.",
                hint="Put them back there, or start a new run.",
            )
    return opened


def _search(planned: Plan) -> Search | None:
    """Give the search of a plan that asks for one; raises UsageError where there is nothing to compare."""
    if not planned.profile.crossover.largest:
        return None
    refuse_alone(planned)
    return crossovers


def _all_blocks(before: Result, done: journal.Finished) -> bool:
    """Tell whether a trial had all its blocks, and lacks nothing but its result file."""
    blocks = before.run.profile.get("latency", {}).get("blocks")
    scenarios = {one.cell.scenario for one in before.cells if one.pair is not None}
    counts = {scenario: {block for name, block, _ in done if name == scenario} for scenario in scenarios}
    return bool(scenarios) and all(len(found) == blocks for found in counts.values())


def _latest_ns(result: Result) -> int:
    timed: list[Slice | Window | Stretch] = [*result.slices, *result.windows, *result.stretches]
    return max((one.started_ns + one.duration_ns for one in timed), default=0)
