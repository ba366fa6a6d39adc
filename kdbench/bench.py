"""A run from beginning to end: survey, plan, compile, blocks, windows, tails, memory, result.

Every finished stage and block is in the journal before the next begins. Nothing is timed in this process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from kdbench import cache, journal, results
from kdbench.header import header, refuse_other_conditions
from kdbench.keeping import finish, guarded, logs, removed_where_empty, room_made
from kdbench.ledger import Ledger
from kdbench.plan import Plan
from kdbench.progress import Report
from kdbench.records import Result, Slice, Stretch, Window
from kdbench.request import Request as Request, asked_before
from kdbench.stages import fail_unmeasured, measure
from kdbench.survey import planned as make_plan, survey as survey


def plan(request: Request, report: Report | None = None) -> Plan:
    """Find out what can be measured here and how long it takes; measure nothing."""
    return make_plan(request, cache.user_folder() / "logs", report)


def run(request: Request, report: Report | None = None) -> Result:
    """Measure what was asked for and write the result file.

    Raises Interrupted when the user stops it: the journal then holds every finished block. A backend that
    fails is a record in the result, not an exception.
    """
    with guarded(request.output) as folder:
        planned = make_plan(request, logs(request.output), report)
        origin_ns = time.perf_counter_ns()
        with journal.create(journal.journal_path(request.output), header(request, planned)) as book:
            ledger = Ledger(planned.records, logs(request.output))
            with room_made(book.path), removed_where_empty(book.path):
                measure(planned, ledger, book, folder, origin_ns, report, done=set())
                fail_unmeasured(ledger, book)
        return finish(request.output, book.path)


def resume(path: Path, report: Report | None = None) -> Result:
    """Go on with the journal of an interrupted run and write its result file.

    path: the journal, or the result file that it was to become. Raises ResultError when the machine, the
    versions, the student or the plan are not what they were.
    """
    output = path.with_name(path.name.removesuffix(results.JOURNAL_SUFFIX))
    kept = journal.journal_path(output)
    with guarded(output) as folder:
        before = journal.fold(kept)
        if before.trial is not None and _all_blocks(before, journal.finished(kept)):
            return finish(output, kept)
        request = asked_before(before, output)
        planned = make_plan(request, logs(request.output), report)
        refuse_other_conditions(before, planned, request)
        done = journal.finished(kept)
        partial, book = journal.reopen(kept)
        with book:
            ledger = Ledger(partial.cells, logs(output))
            ledger.depths.update({window.cell: window.depth for window in partial.windows})
            ledger.stretched.update(stretch.cell for stretch in partial.stretches)
            origin_ns = time.perf_counter_ns() - _latest_ns(partial)
            with room_made(kept):
                measure(planned, ledger, book, folder, origin_ns, report, done=done)
                fail_unmeasured(ledger, book)
        return finish(output, kept)


def exit_code(result: Result, named: Sequence[str] = ()) -> int:
    """Give 1 when a backend or a cell failed or is invalid, or a named one measured nothing; else 0."""
    found = {one.status for one in result.backends} | {one.status for one in result.cells}
    bad = found & {"failed", "timed out", "invalid"}
    own = [one for one in result.cells if one.cell.network == "student"]
    measured = {one.cell.backend for one in own if one.status == "measured"}
    return int(bool(bad) or any(name not in measured for name in named) or not measured)


def _all_blocks(before: Result, done: journal.Finished) -> bool:
    """Tell whether a trial had all its blocks, and lacks nothing but its result file."""
    blocks = before.run.profile.get("latency", {}).get("blocks")
    scenarios = {one.cell.scenario for one in before.cells if one.pair is not None}
    counts = {scenario: {block for name, block, _ in done if name == scenario} for scenario in scenarios}
    return bool(scenarios) and all(len(found) == blocks for found in counts.values())


def _latest_ns(result: Result) -> int:
    timed: list[Slice | Window | Stretch] = [*result.slices, *result.windows, *result.stretches]
    return max((one.started_ns + one.duration_ns for one in timed), default=0)
