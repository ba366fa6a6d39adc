"""A run from beginning to end: survey, plan, compile, blocks, windows, tails, memory, result.

Every finished stage and block is in the journal before the next begins. Nothing is timed in this process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from kdbench import cache, environment, journal, results, roster
from kdbench.block import latency_block, memory_pass, tail_stretch, throughput_block
from kdbench.card import unjudged
from kdbench.compiling import compile_jobs
from kdbench.errors import Interrupted, ResultError, UsageError
from kdbench.finalists import finalists
from kdbench.header import header, now, refuse_other_conditions
from kdbench.interruption import heard_once
from kdbench.journal import Entry, Journal
from kdbench.ledger import Ledger
from kdbench.member import Site
from kdbench.meter import Meter
from kdbench.orphans import orphans_adopted
from kdbench.plan import Plan, plan as make_plan
from kdbench.process import memory_limit_bytes
from kdbench.progress import Progress, Report
from kdbench.records import BackendRecord, Result, Slice, Stretch, Window
from kdbench.request import Request as Request, asked_before
from kdbench.sections import Limits
from kdbench.spec import Scenario
from kdbench.strict import clean
from kdbench.student import read_card
from kdbench.summary import summarise


def plan(request: Request, report: Report | None = None) -> Plan:
    """Find out what can be measured here and how long it takes; measure nothing."""
    return _plan(request, cache.user_folder() / "logs", report)


def run(request: Request, report: Report | None = None) -> Result:
    """Measure what was asked for and write the result file.

    Raises Interrupted when the user stops it: the journal then holds every finished block. A backend that
    fails is a record in the result, not an exception.
    """
    with _guarded(request.output) as folder:
        planned = _plan(request, _logs(request.output), report)
        origin_ns = time.perf_counter_ns()
        with journal.create(journal.journal_path(request.output), header(request, planned)) as book:
            ledger = Ledger(planned.records, _logs(request.output))
            with _room_made(book.path), _removed_where_empty(book.path):
                _measure(planned, ledger, book, folder, origin_ns, report, done=set())
                _fail_unmeasured(ledger, book)
        return _finish(request.output, book.path)


def resume(path: Path, report: Report | None = None) -> Result:
    """Go on with the journal of an interrupted run and write its result file.

    path: the journal, or the result file that it was to become. Raises ResultError when the machine, the
    versions, the student or the plan are not what they were.
    """
    output = path.with_name(path.name.removesuffix(results.JOURNAL_SUFFIX))
    kept = journal.journal_path(output)
    with _guarded(output) as folder:
        before = journal.fold(kept)
        request = asked_before(before, output)
        planned = _plan(request, _logs(request.output), report)
        refuse_other_conditions(before, planned, request)
        done = journal.finished(kept)
        partial, book = journal.reopen(kept)
        with book:
            ledger = Ledger(partial.cells, _logs(output))
            ledger.depths.update({window.cell: window.depth for window in partial.windows})
            ledger.stretched.update(stretch.cell for stretch in partial.stretches)
            origin_ns = time.perf_counter_ns() - _latest_ns(partial)
            with _room_made(kept):
                _measure(planned, ledger, book, folder, origin_ns, report, done=done)
                _fail_unmeasured(ledger, book)
        return _finish(output, kept)


def survey(
    *, probe: bool, report: Report | None = None, plugins: Sequence[str] | None = None
) -> tuple[BackendRecord, ...]:
    """Tell what backends exist and, with `probe`, whether each works here; the known ones come last."""
    if report:
        report(Progress("probe", "asking every backend", 0.0))
    found, folder = roster.names(plugins), cache.user_folder()
    look = roster.probe if probe else roster.describe
    asked = look(found, folder, folder / "logs", Limits())
    return (*(roster.record(one) for one in asked), *roster.missing(found))


def exit_code(result: Result, named: Sequence[str] = ()) -> int:
    """Give 1 when a backend or a cell failed or is invalid, or a named one measured nothing; else 0."""
    found = {one.status for one in result.backends} | {one.status for one in result.cells}
    bad = found & {"failed", "timed out", "invalid"}
    own = [one for one in result.cells if one.cell.network == "student"]
    measured = {one.cell.backend for one in own if one.status == "measured"}
    return int(bool(bad) or any(name not in measured for name in named) or not measured)


def _plan(request: Request, logs: Path, report: Report | None) -> Plan:
    if report:
        report(Progress("probe", "asking every backend", 0.0))
    named = request.backends or request.profile.plan.backends
    found = roster.chosen(roster.names(request.plugins), named)
    asked = roster.probe(found, cache.user_folder(), logs, request.profile.limits)
    return make_plan(replace(request, backends=named), asked, environment.usable_cores())


def _measure(
    planned: Plan,
    ledger: Ledger,
    book: Journal,
    folder: Path,
    origin_ns: int,
    report: Report | None,
    done: journal.Finished,
) -> None:
    meter = Meter(planned, report)
    meter.enter("compile", "")
    with _timed(book, "compile"):
        built = compile_jobs(planned, ledger, cache.user_folder(), folder, meter.tell)
        book.append(Entry(kind="cells", cells=ledger.changes()))
    site = Site(
        plan=planned,
        ledger=ledger,
        built=built,
        logs=folder,
        memory_bytes=memory_limit_bytes(planned.profile.limits.memory_share),
        origin_ns=origin_ns,
        unjudged=unjudged(read_card(planned.student)),
        tell=meter.tell,
    )
    _blocks(site, book, meter, done)
    _alone(site, book, meter)
    meter.finish()


def _blocks(site: Site, book: Journal, meter: Meter, done: journal.Finished) -> None:
    profile = site.plan.profile
    stages: tuple[tuple[Scenario, str, int, Callable[..., Entry]], ...] = (
        ("latency", "latency blocks", profile.latency.blocks, latency_block),
        ("throughput", "throughput blocks", profile.throughput.blocks, throughput_block),
    )
    for scenario, name, blocks, measure in stages:
        cohorts = site.plan.cohorts(scenario)
        if not cohorts:
            continue
        with _timed(book, name):
            for block in range(blocks):
                for number, jobs in enumerate(cohorts):
                    meter.enter(name, "", (block * len(cohorts) + number) / (blocks * len(cohorts)))
                    if (scenario, block, number) not in done:
                        book.append(measure(site, block, number, jobs))
            for number, pair in enumerate(finalists(site.plan, book.path, scenario, cohorts), len(cohorts)):
                for block in range(blocks):
                    meter.enter(name, "", 1.0)
                    if (scenario, block, number) not in done:
                        book.append(measure(site, block, number, pair))


def _alone(site: Site, book: Journal, meter: Meter) -> None:
    """Do the passes in which one cell has the machine for itself, with the cells that lack them."""
    profile = site.plan.profile
    weighed = {index for index, record in enumerate(site.ledger.records) if record.memory is not None}
    passes = [
        ("tail", tail_stretch, profile.tail.duration_s > 0, site.ledger.stretched),
        ("memory", memory_pass, profile.memory.measure, weighed),
    ]
    for name, measure, wanted, passed in passes:
        work = [
            (index, batch)
            for index, job in enumerate(site.plan.jobs)
            for batch, cell in job.cells.items()
            if site.ledger.alive(cell) and (name == "memory" or job.target.scenario == "latency")
            if cell not in passed
        ]
        if not wanted or not work:
            continue
        with _timed(book, name):
            for count, (index, batch) in enumerate(work):
                meter.enter(name, "", count / len(work))
                book.append(measure(site, index, batch))


@contextmanager
def _timed(book: Journal, name: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    book.append(Entry(kind="stage", stages=((name, round(time.monotonic() - begin, 3)),)))


@contextmanager
def _removed_where_empty(path: Path) -> Iterator[None]:
    """Leave no journal behind in which nothing is finished when a run is refused."""
    try:
        yield
    except UsageError:
        if not journal.finished(path):
            path.unlink()
        raise


@contextmanager
def _room_made(path: Path) -> Iterator[None]:
    """Say how to go on where something cannot be written: all that was finished is in the journal."""
    try:
        yield
    except ResultError as fault:
        if not isinstance(fault.__cause__, OSError):
            raise
        hint = f"Make room, or mend what stands in the way, then: kdbench run --resume {clean(str(path))}"
        raise ResultError(fault.message, hint=hint) from fault


@contextmanager
def _guarded(output: Path) -> Iterator[Path]:
    """Give a folder for logs; end every process, and turn an interruption into a sentence."""
    path = journal.journal_path(output)
    with tempfile.TemporaryDirectory(prefix="kdbench-") as folder, heard_once():
        try:
            with orphans_adopted():
                yield Path(folder)
        except KeyboardInterrupt:
            kept = f"What was finished is in {path}." if path.exists() else "Nothing was measured yet."
            hint = f"Go on with: kdbench run --resume {path}" if path.exists() else ""
            raise Interrupted(f"Interrupted. {kept}", hint=hint) from None


def _fail_unmeasured(ledger: Ledger, book: Journal) -> None:
    """Mark the cells that are planned, did not fail, and yet have nothing measured."""
    so_far = journal.fold(book.path)
    slices, windows = so_far.slices, so_far.windows
    ledger.fail_unmeasured({one.cell for one in slices} | {one.cell for one in windows})
    book.append(Entry(kind="cells", cells=ledger.changes()))


def _finish(output: Path, path: Path) -> Result:
    """Fold the journal into the result file; the journal goes only when that is on the disk."""
    folded = journal.fold(path)
    whole = structs.replace(folded.run, status="complete", finished_utc=now())
    result = summarise(structs.replace(folded, run=whole))
    with _room_made(path):
        if output.exists():
            raise ResultError(
                f"{clean(str(output))} appeared while the run went on, and no result is overwritten.",
                hint=f"Move it away, then: kdbench run --resume {clean(str(path))}",
            )
        results.write(result, output)
    path.unlink()
    return result


def _latest_ns(result: Result) -> int:
    timed: list[Slice | Window | Stretch] = [*result.slices, *result.windows, *result.stretches]
    return max((one.started_ns + one.duration_ns for one in timed), default=0)


def _logs(output: Path) -> Path:
    return output.with_name(f"{output.stem}.logs")
