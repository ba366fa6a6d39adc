"""Search for the batch sizes at which one configuration overtakes another: step after step.

A step measures some jobs at one batch size in a few blocks, alternated as in any run. Which step comes next
follows from what the journal holds, and no step measures again what is there, so a resumed run goes on where
it stopped.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from msgspec import structs

from kdbench import bisection, cache, estimate, journal
from kdbench.bisection import Answer
from kdbench.block import latency_block, throughput_block
from kdbench.compiling import compile_jobs
from kdbench.crossover import signs
from kdbench.errors import UsageError
from kdbench.journal import Entry, Journal
from kdbench.meetings import meetings
from kdbench.member import Site
from kdbench.meter import Meter
from kdbench.plan import Plan
from kdbench.records import CellRecord, Result, Slice, Window
from kdbench.summary import summarise


def search(site: Site, book: Journal, meter: Meter) -> None:
    """Measure what tells where pairs of jobs change places; every finished block is in the journal."""
    settings, rungs = site.plan.profile.crossover, site.plan.profile.plan.batches
    for members in estimate.arenas(site.plan.jobs):
        arena = _Arena(site, book, meter, members)
        bisection.search(
            len(members),
            rungs,
            arena.measure,
            resolution=settings.resolution,
            changes=settings.changes,
        )
        arena.close()


def refuse_alone(planned: Plan) -> None:
    """Raise UsageError unless two configurations can be compared."""
    if all(len(members) < 2 for members in estimate.arenas(planned.jobs)):
        what = f"there is {planned.jobs[0].label}" if planned.jobs else "there is none"
        raise UsageError(
            f"A search for crossovers compares two configurations or more, and here {what}.",
            hint="Name several: --backend A,B or --precision fp32,bf16. `kdbench backends` has all.",
        )


def foretold(planned: Plan) -> Plan:
    """Say what a search would do beyond the cells of its plan, and what of the estimate is an upper bound."""
    settings, rungs = planned.profile.crossover, planned.profile.plan.batches
    pairs = sum(len(list(combinations(members, 2))) for members in estimate.arenas(planned.jobs))
    steps = pairs * bisection.most_steps(rungs, settings.resolution, settings.changes)
    told = (
        f"Bisection adds {2 * steps} cells at most, and its time is an upper bound: most pairs change places "
        "once or never. A call of a large batch that outlasts a slice takes longer than this estimate knows."
    )
    stages = tuple(
        (f"{name}, {estimate.BOUND}" if name.endswith("bisection") else name, seconds)
        for name, seconds in planned.stages
    )
    return replace(planned, stages=stages, notes=(*planned.notes, told))


@dataclass(slots=True)
class _Arena:
    """Jobs that are compared with one another, and how far the search among them is. members: jobs by index.

    ends: why a member, by its place in `members`, is not measured at larger batch sizes. spent_s: by stage.
    """

    site: Site
    book: Journal
    meter: Meter
    members: Sequence[int]
    ends: dict[int, str] = field(default_factory=dict)
    spent_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def measure(self, batch: int, wanted: tuple[int, ...]) -> Answer:
        """Do one step, as far as it is not done yet, and tell what it showed."""
        begin = time.monotonic()
        stage = self._enter(batch)
        cells = self._cells(batch, wanted)
        _measure(self.site, self.book, {self.members[k]: cell for k, cell in cells.items()}, batch)
        self.spent_s[stage] += time.monotonic() - begin
        seen = _seen(self.book.path, cells.values())
        self.ends |= self._ended(seen, batch, cells)
        return Answer(signs(seen, cells, batch, len(self._rungs)), self.ends.keys())

    def close(self) -> None:
        """Say of the cells that were not tried why, and how long the search took."""
        ledger = self.site.ledger
        folded = journal.fold(self.book.path)
        timed = {one.cell for one in _timed(folded)}
        for k, index in enumerate(self.members):
            reason = self.ends.get(k, "no other configuration goes on to this batch size.")
            for cell in self.site.plan.jobs[index].cells.values():
                if ledger.alive(cell) and cell not in timed:
                    ledger.update(cell, status="unavailable", phase="plan", reason=f"Not tried: {reason}")
        spent = tuple((stage, round(seconds, 3)) for stage, seconds in self.spent_s.items())
        self.book.append(Entry(kind="stage", cells=ledger.changes(), stages=spent))

    @property
    def _rungs(self) -> tuple[int, ...]:
        return self.site.plan.profile.plan.batches

    def _enter(self, batch: int) -> str:
        scenario = self.site.plan.jobs[self.members[0]].target.scenario
        known = batch in self._rungs
        stage = f"{scenario} {'doubling' if known else 'bisection'}"
        share = self._rungs.index(batch) / len(self._rungs) if known else 0.0
        self.meter.enter(stage, f"batch {batch}", share)
        return stage

    def _cells(self, batch: int, wanted: Sequence[int]) -> dict[int, int]:
        """Give the cell of each one that is wanted; those that were not planned are added and journaled."""
        ledger = self.site.ledger
        known = {record.cell: index for index, record in enumerate(ledger.records)}
        cells: dict[int, int] = {}
        added: list[CellRecord] = []
        for k in wanted:
            any_cell = next(iter(self.site.plan.jobs[self.members[k]].cells.values()))
            key = replace(ledger.records[any_cell].cell, batch=batch)
            if key not in known:
                added.append(CellRecord(cell=key, status="measured"))
                known[key] = ledger.add(added[-1])
            cells[k] = known[key]
        if added:
            self.book.append(Entry(kind="cells", added=tuple(added)))
        return cells

    def _ended(self, seen: Result, batch: int, cells: dict[int, int]) -> Iterator[tuple[int, str]]:
        """Tell who is not measured at larger batch sizes, and why."""
        if batch not in self._rungs:
            return
        later = [size for size in self._rungs if size > batch]
        most_s = self.site.plan.profile.crossover.call_s
        for k, cell in cells.items():
            record = seen.cells[cell]
            if not self.site.ledger.alive(cell):
                told = record.status if record.status in ("failed", "timed out") else f"is {record.status}"
                yield k, f"batch {batch} {told}."
            elif record.summary is not None and not record.eligible:
                yield k, f"at batch {batch} it may not be ranked."
            elif later and (call_s := _call_s(record) * later[0] / batch) > most_s:
                yield k, f"a call would take about {call_s:.2g} s, and crossover.call_s allows {most_s:g} s."


def _measure(site: Site, book: Journal, cells: dict[int, int], batch: int) -> None:
    """Measure blocks of some jobs, by index, until each pair has met in as many as the profile asks for."""
    scenario = site.plan.jobs[next(iter(cells))].target.scenario
    section = site.plan.profile.latency if scenario == "latency" else site.plan.profile.throughput
    measure = latency_block if scenario == "latency" else throughput_block
    folded = journal.fold(book.path)
    lacking = section.blocks - _met(site, folded, cells)
    if lacking <= 0:
        return
    first = 1 + max((one.block for one in _timed(folded)), default=-1)
    step = _step(site, book, cells, batch, first + lacking)
    for block in range(first, first + lacking):
        alive = [k for k, job in enumerate(step.plan.jobs) if site.ledger.alive(job.cells[batch])]
        if len(alive) < 2:
            return
        places = [step.plan.jobs[k].physical for k in alive]
        for number, cohort in enumerate(meetings(places, site.plan.room)):
            book.append(measure(step, block, number, [alive[k] for k in cohort]))


def _met(site: Site, folded: Result, cells: dict[int, int]) -> int:
    """Count the blocks in which every living pair met: in a cohort, or in the block across devices."""
    visits: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for one in _timed(folded):
        visits[one.cell].add((one.block, one.cohort))
    alive = [(job, cell) for job, cell in cells.items() if site.ledger.alive(cell)]
    fewest = [
        len({block for block, _ in visits[a] & visits[b]})
        if site.plan.together(first, second)
        else len({block for block, _ in visits[a]} & {block for block, _ in visits[b]})
        for (first, a), (second, b) in combinations(alive, 2)
    ]
    return min(fewest, default=10**9)


def _timed(folded: Result) -> list[Slice | Window]:
    return [*folded.slices, *folded.windows]


def _step(site: Site, book: Journal, cells: dict[int, int], batch: int, blocks: int) -> Site:
    """Give the site of one step: its jobs compiled for one batch size, its cells alone."""
    jobs = tuple(
        replace(job, target=replace(job.target, batch_sizes=(batch,)), cells={batch: cell})
        for job, cell in ((site.plan.jobs[index], cell) for index, cell in cells.items())
    )
    profile = estimate.with_blocks(site.plan.profile, blocks)
    profile = structs.replace(profile, plan=structs.replace(profile.plan, batches=(batch,)))
    plan = replace(site.plan, jobs=jobs, profile=profile, records=tuple(site.ledger.records))

    def tell(detail: str) -> None:
        site.tell(f"batch {batch}, {detail}")

    built = compile_jobs(plan, site.ledger, cache.user_folder(), site.logs, tell)
    book.append(Entry(kind="cells", cells=site.ledger.changes()))
    return replace(site, plan=plan, built=built, tell=tell)


def _seen(path: Path, cells: Iterable[int]) -> Result:
    """Give what the journal holds, with the slices and windows of some cells only, summarised."""
    folded, own = journal.fold(path), set(cells)
    return summarise(
        structs.replace(
            folded,
            slices=tuple(one for one in folded.slices if one.cell in own),
            windows=tuple(one for one in folded.windows if one.cell in own),
            samples=(),
            stretches=(),
        )
    )


def _call_s(record: CellRecord) -> float:
    """Give about how long a call takes, by latency or by throughput."""
    summary, batch = record.summary, record.cell.batch
    if summary is None:
        return 0.0
    if summary.median_ns is not None:
        return summary.median_ns / 1e9
    return batch / summary.throughput_per_s if summary.throughput_per_s else 0.0
