"""A trial: two sides alternated slice by slice in one go, the only comparison that cancels drift.

The number of blocks is fixed before the first one counts, from how long a rehearsed block takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from kdbench import cache, estimate, journal, stages, yardstick
from kdbench.block import latency_block, throughput_block
from kdbench.compiling import compile_jobs
from kdbench.errors import UsageError
from kdbench.header import header
from kdbench.journal import Entry
from kdbench.keeping import finish, guarded, logs, removed_where_empty, room_made
from kdbench.ledger import Ledger
from kdbench.member import Site
from kdbench.observed import refuse_kept
from kdbench.plan import Plan
from kdbench.progress import Progress, Report
from kdbench.records import Result, Trial
from kdbench.request import Request
from kdbench.sides import described, merged
from kdbench.strict import clean
from kdbench.survey import planned

BUDGET_S = 30.0

SWITCH_S = 0.004
"""About what stopping one worker and letting the next go on takes."""

FEWEST = 3
"""Blocks of a trial: with two, the t distribution asks for a difference of 13 standard errors."""

MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """What `kdbench ab` was asked for: two sides, and how many blocks or how long.

    a, b: requests as of a run, alike in batch sizes, scenarios and threads. budget_s: time for the blocks;
    what comes before them (probing, compiling, rehearsing) is not part of it. blocks: their number, instead.
    rebuild: compile anew for each block, so that what differs from build to build is in the interval.
    """

    a: Request
    b: Request
    output: Path
    budget_s: float | None = BUDGET_S
    blocks: int | None = None
    rebuild: bool = False


def plan(request: TrialRequest, report: Report | None = None) -> Plan:
    """Find out what would be measured, in about as many blocks as a rehearsal would fix; measure nothing."""
    whole = _plan(request, cache.user_folder() / "logs", report)
    one = _with_blocks(whole, 1)
    return _with_blocks(whole, _blocks(request, sum(seconds for _, seconds in one.stages)))


def run(
    request: TrialRequest,
    report: Report | None = None,
    announce: Callable[[str], None] | None = None,
    admit: Callable[[Plan], None] | None = None,
) -> Result:
    """Measure both sides and write the result file, which holds both.

    announce: told once how many blocks there will be, before the first. admit: may refuse the plan, by
    raising. Raises Interrupted when the user stops it; a side that fails is a record in the result.
    """
    with guarded(request.output, resumable=False) as folder:
        if request.a.profile.observe.observers:
            refuse_kept(request.output)
        whole = _plan(request, logs(request.output), report)
        if admit is not None:
            admit(whole)
        origin_ns = time.perf_counter_ns()
        asked = replace(request.a, output=request.output)
        early = header(asked, whole)
        ledger = Ledger(whole.records, logs(request.output))
        whole = _fixed(request, whole, ledger, folder, origin_ns, report)
        if announce is not None:
            announce(_announcement(whole))
        head = _at_its_beginning(header(asked, whole), early)
        with (
            journal.create(journal.journal_path(request.output), head) as book,
            room_made(book.path),
            removed_where_empty(book.path),
        ):
            book.append(Entry(kind="cells", cells=dict(enumerate(ledger.records))))
            stages.measure(whole, ledger, book, folder, origin_ns, report, done=set())
            _spare_the_sound(whole, ledger, journal.fold(book.path))
            stages.fail_unmeasured(ledger, book)
        return finish(request.output, book.path)


def _at_its_beginning(head: Result, early: Result) -> Result:
    """Tell the time and the machine as they were before rehearsals put a load on it."""
    run = structs.replace(head.run, started_utc=early.run.started_utc)
    return structs.replace(head, run=run, environment=early.environment)


def _plan(request: TrialRequest, folder: Path, report: Report | None) -> Plan:
    if request.a.profile.crossover.largest:
        raise UsageError(
            f"A trial has the batch sizes asked for; the profile {request.a.profile.name} searches for them.",
            hint="`kdbench run --profile crossover` searches; `kdbench ab` goes with --profile ab.",
        )
    sides = (replace(request.a, side="a"), replace(request.b, side="b"))
    plans = [planned(side, folder, report) for side in sides]
    trial = Trial(
        sides=described(sides, plans),
        budget_s=None if request.blocks else request.budget_s,
        rebuild=request.rebuild,
    )
    return merged(plans, trial)


def _fixed(
    request: TrialRequest, whole: Plan, ledger: Ledger, folder: Path, origin_ns: int, report: Report | None
) -> Plan:
    """Fix the number of blocks: as asked for, or as many as fit the budget by the pace of a rehearsal."""
    block_s = _rehearsed(whole, ledger, folder, origin_ns, report)
    whole = _with_blocks(whole, _blocks(request, block_s))
    if whole.trial is None or request.blocks:
        return whole
    return replace(whole, trial=structs.replace(whole.trial, block_s=round(block_s, 3)))


def _blocks(request: TrialRequest, block_s: float) -> int:
    return request.blocks or max(FEWEST, min(MOST, round((request.budget_s or BUDGET_S) / block_s)))


def _with_blocks(whole: Plan, blocks: int) -> Plan:
    profile = estimate.with_blocks(whole.profile, blocks)
    return replace(whole, profile=profile, stages=estimate.stages(profile, whole.jobs, whole.room))


def _rehearsed(whole: Plan, ledger: Ledger, folder: Path, origin_ns: int, report: Report | None) -> float:
    """Rehearse a block, and tell about how long one takes.

    The first rehearsal finds the machine cold: it compiles, reads libraries from the disk, and verifies the
    whole evaluation split. A budget needs the pace of a warm one, so there a second follows. Their slices do
    not count; they have one round each, and the time of the others is added.
    """

    def tell(detail: str) -> None:
        if report:
            report(Progress("rehearse", detail, 0.0))

    built = compile_jobs(whole, ledger, cache.user_folder(), folder, tell)
    site = stages.make_site(_with_rounds(whole, 1), ledger, built, folder, origin_ns, tell, None)
    timed = whole.trial is not None and whole.trial.budget_s is not None
    for _ in range(2 if timed else 1):
        begin = time.monotonic()
        round_s = _pass_through(site)
        took_s = time.monotonic() - begin
    ledger.forget_rehearsals()
    return took_s + (whole.profile.latency.rounds - 1) * round_s + 2 * (yardstick.DURATION_S + SWITCH_S)


def _pass_through(site: Site) -> float:
    """Measure one block of everything, and tell how long its round of slices took."""
    round_s = 0.0
    for number, jobs in enumerate(site.plan.cohorts("latency")):
        with stages.builds(site, jobs) as own:
            slices = latency_block(own, 0, number, jobs).slices
        timed_ns = sum(one.duration_ns + one.settle_ns for one in slices)
        round_s += timed_ns / 1e9 + SWITCH_S * len(slices)
    for number, jobs in enumerate(site.plan.cohorts("throughput")):
        with stages.builds(site, jobs) as own:
            throughput_block(own, 0, number, jobs)
    return round_s


def _with_rounds(whole: Plan, rounds: int) -> Plan:
    profile = whole.profile
    return replace(
        whole, profile=structs.replace(profile, latency=structs.replace(profile.latency, rounds=rounds))
    )


def _spare_the_sound(whole: Plan, ledger: Ledger, so_far: Result) -> None:
    """Say of the side that nothing is wrong with why it has no figures, where the other one failed."""
    timed = {one.cell for one in so_far.slices} | {one.cell for one in so_far.windows}
    for first, second in zip(whole.jobs[::2], whole.jobs[1::2], strict=True):
        for batch in first.cells.keys() & second.cells.keys():
            cells = (first.cells[batch], second.cells[batch])
            for own, other in (cells, cells[::-1]):
                if own not in timed and ledger.alive(own) and not ledger.alive(other):
                    reason = "It was not measured, because the other side failed."
                    ledger.update(own, status="unavailable", phase="run", reason=reason)


def _announcement(whole: Plan) -> str:
    """Say what the sides are, how many blocks there will be, and how long they take where that is known."""
    if whole.trial is None:
        return ""
    a, b = (one.label for one in whole.trial.sides)
    sides = "A and B are alike" if (a, b) == ("A", "B") else f"A is {a}, B is {b}"
    blocks, block_s = whole.blocks, whole.trial.block_s
    pace = f" of about {block_s:.1f} s: {blocks * block_s:.0f} s" if block_s else ""
    return clean(f"{sides}. {blocks} blocks{pace}.")
