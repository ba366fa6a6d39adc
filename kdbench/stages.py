"""The stages of a run: compile, blocks, windows, tails, memory, observers; what is finished is journaled.

Nothing is timed in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from kdbench import cache, journal, protocol
from kdbench.block import latency_block, memory_pass, tail_stretch, throughput_block
from kdbench.card import unjudged
from kdbench.compiling import compile_jobs
from kdbench.errors import BackendError
from kdbench.finalists import finalists
from kdbench.journal import Entry, Journal
from kdbench.ledger import Ledger
from kdbench.member import Built, Site
from kdbench.meter import Meter
from kdbench.observed import folder_of, observe_pass
from kdbench.outfit import memory_limit_bytes
from kdbench.plan import Plan
from kdbench.process import Worker
from kdbench.progress import Report
from kdbench.spec import Scenario
from kdbench.student import read_card

Search = Callable[[Site, Journal, Meter], None]
"""Measure by steps of one's own; all that is finished is in the journal."""


def measure(
    planned: Plan,
    ledger: Ledger,
    book: Journal,
    folder: Path,
    origin_ns: int,
    report: Report | None,
    done: journal.Finished,
    search: Search | None = None,
) -> None:
    """Go through all stages of a plan; what is in `done` is not measured again.

    folder: for what workers print. origin_ns: the run's beginning by the monotonic clock.
    search: what decides on the way what is compiled and measured, in the place of the plan's stages.
    """
    meter = Meter(planned, report)
    built: dict[int, Built] = {}
    if search is None:
        meter.enter("compile", "")
        with _timed(book, "compile"):
            built = compile_jobs(planned, ledger, cache.user_folder(), folder, meter.tell)
            book.append(Entry(kind="cells", cells=ledger.changes()))
    with gauge(planned, folder) as yardstick:
        site = make_site(planned, ledger, built, folder, origin_ns, meter.tell, yardstick)
        if search is None:
            _blocks(site, book, meter, done)
            _alone(site, book, meter)
        else:
            search(site, book, meter)
    meter.finish()


@contextmanager
def gauge(planned: Plan, folder: Path) -> Iterator[Worker]:
    """Give the worker that times the yardstick: it lives as long as the run, and stands between its turns."""
    with Worker("yardstick", folder / "yardstick.log", threads=1, cpus=planned.cpus[-1:]) as worker:
        with suppress(BackendError):  # once beforehand, so that it starts up before anything is timed
            limit_s = planned.profile.limits.describe_s
            worker.ask(protocol.TimeYardstick(), protocol.Gauged, "yardstick", limit_s)
        if worker.alive:
            worker.pause()
        yield worker


def make_site(
    planned: Plan,
    ledger: Ledger,
    built: Mapping[int, Built],
    folder: Path,
    origin_ns: int,
    tell: Callable[[str], None],
    yardstick: Worker | None,
) -> Site:
    """Put together what all blocks share."""
    students = {job.student.root: job.student for job in planned.jobs}
    return Site(
        plan=planned,
        ledger=ledger,
        built=built,
        logs=folder,
        memory_bytes=memory_limit_bytes(planned.profile.limits.memory_share),
        origin_ns=origin_ns,
        unjudged={root: unjudged(read_card(student)) for root, student in students.items()},
        tell=tell,
        gauge=yardstick,
    )


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
                    if (scenario, block, number) not in done and _worth_it(site, jobs):
                        with builds(site, jobs) as own:
                            book.append(measure(own, block, number, jobs))
            # The pairs of a trial are not ranked among one another.
            last = [] if site.plan.trial else finalists(site.plan, book.path, scenario, cohorts)
            for number, pair in enumerate(last, len(cohorts)):
                for block in range(blocks):
                    meter.enter(name, "", 1.0)
                    if (scenario, block, number) not in done:
                        book.append(measure(site, block, number, pair))


def _worth_it(site: Site, jobs: Sequence[int]) -> bool:
    """Tell whether a block can tell anything: one side of a trial alone is no comparison."""
    if site.plan.trial is None:
        return True
    alive = [any(site.ledger.alive(cell) for cell in site.plan.jobs[index].cells.values()) for index in jobs]
    return all(alive)


@contextmanager
def builds(site: Site, jobs: Sequence[int]) -> Iterator[Site]:
    """Give the site with artifacts compiled for this block alone, where the plan wants that."""
    if not site.plan.rebuild:
        yield site
        return
    # Below the user's cache, as all native code: a folder for temporary files may forbid to execute it.
    with cache.draft(cache.user_folder(), "builds") as fresh:
        built: dict[int, Built] = {}
        for index in jobs:  # each in a folder of its own: alike sides are two builds, too
            place = fresh / str(index)
            built |= compile_jobs(site.plan, site.ledger, place, site.logs, site.tell, only=[index])
        yield replace(site, built=built)


def _alone(site: Site, book: Journal, meter: Meter) -> None:
    """Do the passes in which one cell has the machine for itself, with the cells that lack them."""
    profile = site.plan.profile
    weighed = {index for index, record in enumerate(site.ledger.records) if record.memory is not None}
    seen = {index for index, record in enumerate(site.ledger.records) if record.observed}
    observe = partial(observe_pass, folder=folder_of(book.path))
    passes: list[tuple[str, Callable[[Site, int, int], Entry], bool, set[int]]] = [
        ("tail", tail_stretch, profile.tail.duration_s > 0, site.ledger.stretched),
        ("memory", memory_pass, profile.memory.measure, weighed),
        ("observe", observe, bool(site.plan.observers), seen),
    ]
    for name, measure, wanted, passed in passes:
        work = [
            (index, batch)
            for index, job in enumerate(site.plan.jobs)
            for batch, cell in job.cells.items()
            if site.ledger.alive(cell) and (name != "tail" or job.target.scenario == "latency")
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


def fail_unmeasured(ledger: Ledger, book: Journal) -> None:
    """Mark the cells that are planned, did not fail, and yet have nothing measured."""
    so_far = journal.fold(book.path)
    slices, windows = so_far.slices, so_far.windows
    ledger.fail_unmeasured({one.cell for one in slices} | {one.cell for one in windows})
    book.append(Entry(kind="cells", cells=ledger.changes()))
