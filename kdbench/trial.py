"""A trial: two sides alternated slice by slice in one go, the only comparison that cancels drift.

The number of blocks is fixed before the first one counts, from how long a rehearsed block takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from kdbench import cache, journal, stages
from kdbench.block import latency_block, throughput_block
from kdbench.compiling import compile_jobs
from kdbench.header import header
from kdbench.journal import Entry
from kdbench.keeping import finish, guarded, logs, removed_where_empty, room_made
from kdbench.ledger import Ledger
from kdbench.member import Built
from kdbench.plan import Plan
from kdbench.progress import Progress, Report
from kdbench.records import Result, Trial
from kdbench.request import Request
from kdbench.sides import described, merged
from kdbench.survey import planned

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
    budget_s: float | None = 30.0
    blocks: int | None = None
    rebuild: bool = False


def plan(request: TrialRequest, report: Report | None = None) -> Plan:
    """Find out what would be measured; measure nothing."""
    return _plan(request, cache.user_folder() / "logs", report)


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
    with guarded(request.output) as folder:
        whole = _plan(request, logs(request.output), report)
        if admit is not None:
            admit(whole)
        origin_ns = time.perf_counter_ns()
        ledger = Ledger(whole.records, logs(request.output))
        whole = _fixed(request, whole, ledger, folder, origin_ns, report)
        if announce is not None:
            announce(_announcement(whole))
        head = header(replace(request.a, output=request.output), whole)
        with (
            journal.create(journal.journal_path(request.output), head) as book,
            room_made(book.path),
            removed_where_empty(book.path),
        ):
            book.append(Entry(kind="cells", cells=dict(enumerate(ledger.records))))
            stages.measure(whole, ledger, book, folder, origin_ns, report, done=set())
            stages.fail_unmeasured(ledger, book)
        return finish(request.output, book.path)


def _plan(request: TrialRequest, folder: Path, report: Report | None) -> Plan:
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
    blocks = request.blocks or max(FEWEST, min(MOST, round((request.budget_s or 30.0) / block_s)))
    profile = whole.profile
    profile = structs.replace(
        profile,
        latency=structs.replace(profile.latency, blocks=blocks),
        throughput=structs.replace(profile.throughput, blocks=blocks),
    )
    trial = structs.replace(whole.trial, block_s=round(block_s, 3)) if whole.trial else None
    return replace(whole, profile=profile, trial=trial, stages=(("blocks", blocks * block_s),))


def _rehearsed(whole: Plan, ledger: Ledger, folder: Path, origin_ns: int, report: Report | None) -> float:
    """Go through one block of everything twice, and tell how long the second took.

    The first finds the machine cold: it compiles, reads libraries from the disk, and verifies the whole
    evaluation split. Its slices do not count. The second is short, and its time is scaled up.
    """

    def tell(detail: str) -> None:
        if report:
            report(Progress("rehearse", detail, 0.0))

    built = compile_jobs(whole, ledger, cache.user_folder(), folder, tell)
    short = _with_rounds(whole, 1)
    _pass_through(short, ledger, built, folder, origin_ns, tell)
    begin = time.monotonic()
    _pass_through(short, ledger, built, folder, origin_ns, tell)
    rounds = whole.profile.latency.rounds
    took = time.monotonic() - begin
    return took + (rounds - 1) * _round_s(whole)


def _pass_through(
    whole: Plan,
    ledger: Ledger,
    built: dict[int, Built],
    folder: Path,
    origin_ns: int,
    tell: Callable[[str], None],
) -> None:
    site = stages.make_site(whole, ledger, built, folder, origin_ns, tell, None)
    for scenario, measure in (("latency", latency_block), ("throughput", throughput_block)):
        for number, jobs in enumerate(whole.cohorts(scenario)):  # type: ignore[arg-type]  # of a literal tuple
            with stages.builds(site, jobs) as own:
                measure(own, 0, number, jobs)


def _round_s(whole: Plan) -> float:
    """Estimate what one more round of slices takes: every latency cell, with settling and switching."""
    latency = whole.profile.latency
    cells = sum(len(job.cells) for job in whole.jobs if job.target.scenario == "latency")
    return cells * (1.05 * latency.slice_s + 0.004)


def _with_rounds(whole: Plan, rounds: int) -> Plan:
    profile = whole.profile
    return replace(
        whole, profile=structs.replace(profile, latency=structs.replace(profile.latency, rounds=rounds))
    )


def _announcement(whole: Plan) -> str:
    trial, blocks = whole.trial, whole.blocks
    if trial is None or trial.block_s is None:
        return ""
    a, b = (one.label for one in trial.sides)
    sides = "A and B are alike" if (a, b) == ("A", "B") else f"A is {a}, B is {b}"
    return f"{sides}. {blocks} blocks of about {trial.block_s:.1f} s: {blocks * trial.block_s:.0f} s."
