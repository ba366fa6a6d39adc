"""The workers of one block: freshly started, loaded, verified and warmed up, then stopped until visited.

A worker that fails takes its cells out of the block and never the block with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import msgspec

from kdbench import protocol
from kdbench.errors import BackendError
from kdbench.job import Job
from kdbench.measure import SlicePlan
from kdbench.member import Member, Site, blamed
from kdbench.orphans import orphans_adopted
from kdbench.process import Worker
from kdbench.records import AccuracyRecord, PlacementRecord
from kdbench.roster import opening
from kdbench.spec import Placement
from kdbench.stats import mcnemar

PACE_S = 0.06


@contextmanager
def crew(
    site: Site, jobs: Sequence[int], what: str, *, place: str, only: int | None = None
) -> Iterator[list[Member]]:
    """Start a worker per job, each made ready, then stopped; end all at the end.

    They import their plugins at the same time. Loading comes one after the other where it is timed as
    first output, else at the same time too. what: told as progress. place: told apart in the names of logs.
    only: the one batch size that is wanted.
    """
    with orphans_adopted(), ExitStack() as ends:
        members = _enlist(site, jobs, place, only, ends)
        _load(site, members, what)
        for member in members:
            site.tell(f"{what}: {member.job.source.name}")
            _make_ready(site, member)
        site.tell(what)
        yield members


def _enlist(site: Site, jobs: Sequence[int], place: str, only: int | None, ends: ExitStack) -> list[Member]:
    """Start a worker for each job that has a living cell and an artifact; `ends` will end them."""
    members = []
    for index in jobs:
        job = site.plan.jobs[index]
        wanted = {
            batch: cell
            for batch, cell in job.cells.items()
            if site.ledger.alive(cell) and only in (None, batch)
        }
        if wanted and index in site.built:
            worker = ends.enter_context(worker_of(site, job, place))
            members.append(Member(job, site.built[index], worker, wanted))
    return members


def worker_of(site: Site, job: Job, place: str) -> Worker:
    """Start the worker of a job. place: told apart in the name of its log."""
    return Worker(
        job.source.name,
        site.logs / f"{job.label}-{job.target.scenario}-{place}.log",
        threads=job.target.threads,
        cpus=site.plan.cpus,
        memory_bytes=site.memory_bytes,
        python=job.python.path if job.python else None,
    )


def _load(site: Site, members: Sequence[Member], what: str) -> None:
    """Connect the plugin in each worker and load its artifact."""
    timed = any(member.job.target.scenario == "latency" for member in members)
    send_load = partial(_send_load, fellows=tuple(member.worker.pid for member in members))
    for ask in (_send_open, _receive_opened):
        _each(site, members, ask)
    if timed:
        for member in members:
            site.tell(f"{what}: {member.job.source.name}")
            _each(site, [member], send_load)
            _each(site, [member], _receive_loaded)
    else:
        for ask in (send_load, _receive_loaded):
            _each(site, members, ask)


def _each(site: Site, members: Sequence[Member], step: Callable[[Site, Member], None]) -> None:
    """Do one step with each member; whoever fails is out of the block with all its cells."""
    for member in members:
        if member.cells:
            try:
                step(site, member)
            except BackendError as fault:
                member.failed = True
                site.ledger.fail(member.cells.values(), fault, member.worker)
                member.cells.clear()


def _send_open(site: Site, member: Member) -> None:
    member.worker.send(opening(member.job.source), "import")


def _receive_opened(site: Site, member: Member) -> None:
    member.worker.receive(protocol.Opened, "import", site.plan.profile.limits.describe_s)


def _send_load(site: Site, member: Member, fellows: tuple[int, ...]) -> None:
    member.worker.send(loading(member, fellows), "load")


def loading(member: Member, fellows: tuple[int, ...] = ()) -> protocol.Load:
    """Make the request with which a worker loads its artifact. fellows: process ids of those beside it."""
    return protocol.Load(
        student=member.job.student,
        target=member.job.target,
        artifact=member.built.artifact,
        workdir=member.built.workdir,
        uuid=member.job.device.uuid,
        fellows=fellows,
    )


def _receive_loaded(site: Site, member: Member) -> None:
    """Take note of where the session runs; a fall-back is a failure unless it is allowed."""
    job = member.job
    loaded = member.worker.receive(protocol.Loaded, "load", site.plan.profile.limits.load_s)
    member.loaded = loaded
    placement = loaded.placement
    fallback = placement.device != job.target.device or _narrowed(job, placement)
    record = PlacementRecord(
        requested=job.target.device,
        device=placement.device,
        device_name=job.device.name,
        uuid=job.device.uuid,
        precision=placement.precision,
        provider=placement.provider,
        threads=placement.threads,
        nodes=dict(placement.nodes),
        fallback=fallback,
    )
    for cell in member.cells.values():
        site.ledger.update(cell, placement=record, artifact=member.built.record)
    if fallback and not site.plan.profile.plan.allow_fallback:
        raise BackendError(
            f"Asked for {job.target.precision} on {job.target.device}, it runs "
            f"{placement.precision} on {placement.device}.",
            hint="A fall-back is not measured in the name of what was asked for; "
            "--allow-fallback measures it all the same, unranked.",
            phase="load",
        )


def _narrowed(job: Job, placement: Placement) -> bool:
    """Tell whether a session computes otherwise than it was asked to.

    A file in fewer bits that is run as it is stored may be computed in fp32: that is what the runtime makes
    of it, and a check tells it.
    """
    asked = job.target.precision
    widened = asked == job.student.precision and placement.precision == "fp32"
    return placement.precision != asked and not widened


def _make_ready(site: Site, member: Member) -> None:
    """Make the runner of each batch size, verify it and warm it up; then let the worker stand."""
    for batch, cell in list(member.cells.items()):
        with blamed(site, member, batch):
            call_ns = prepare(site, member, batch)
            _verify(site, member, batch)
            _warm_up(site, member, batch)
            if member.job.target.scenario == "latency" and member.loaded is not None:
                site.ledger.first_output(cell, member.loaded.load_ns, call_ns)
    if member.worker.alive:
        member.worker.pause()


def prepare(site: Site, member: Member, batch: int) -> int:
    """Make the runner of one batch size and call it once; give what that took, in nanoseconds."""
    plan = site.plan.profile.latency
    slice_plan = SlicePlan(
        slice_s=plan.slice_s,
        calls_min=plan.calls_min,
        calls_aim=plan.calls_aim,
        settle_calls=plan.settle_calls,
        settle_s=plan.settle_s,
    )
    request = protocol.Prepare(batch=batch, depth=_most_depth(site, member), slice=slice_plan)
    return member.worker.ask(request, protocol.Prepared, "run", site.limit_s).call_ns


def _most_depth(site: Site, member: Member) -> int:
    """Give the depth to make room for: what was asked, or for `auto` the deepest that is worth a try."""
    job = member.job
    if job.target.scenario == "latency" or job.info.concurrency == "serial":
        return 1
    asked = site.plan.profile.throughput.depth
    if asked != "auto":
        return asked
    recommended = member.loaded.optimal_depth if member.loaded else None
    return max(2 * (job.target.threads or 1), recommended or 1)


def _verify(site: Site, member: Member, batch: int) -> None:
    """Run the evaluation split through the runner; all of it the first time, a part in later blocks."""
    settings, cell = site.plan.profile.accuracy, member.cells[batch]
    whole = site.ledger.records[cell].accuracy is None
    images = settings.images if whole else settings.later_images
    checked = member.worker.ask(
        protocol.Check(batch=batch, images=images), protocol.Checked, "check", site.limit_s
    )
    if whole:
        facts = msgspec.structs.asdict(checked)
        fault = facts.pop("fault")
        reason = site.unjudged.get(member.job.student.root, "") if checked.correct is None else ""
        accuracy = AccuracyRecord(**facts, p=mcnemar(checked.lost, checked.gained), reason=reason)
        site.ledger.update(cell, accuracy=accuracy)
    else:
        fault = checked.fault
    if fault:
        site.ledger.update(cell, status="invalid", phase="check", reason=fault)


def _warm_up(site: Site, member: Member, batch: int) -> None:
    cell = member.cells[batch]
    warmed = warm_up(site, member, batch)
    before = site.ledger.records[cell].warm_up_settled
    site.ledger.update(cell, warm_up_settled=warmed.settled and before is not False)


def warm_up(site: Site, member: Member, batch: int) -> protocol.Warmed:
    """Let a worker call one batch size until it is settled."""
    plan = site.plan.profile.latency
    throughput = member.job.target.scenario == "throughput"
    # A throughput window is long and begins with a full queue of its own: it only needs to know the pace.
    at_least_s = min(plan.warm_up_s, PACE_S) if throughput else plan.warm_up_s
    request = protocol.WarmUp(batch=batch, at_least_s=at_least_s, at_most_s=plan.warm_up_max_s)
    return member.worker.ask(request, protocol.Warmed, "run", site.limit_s + plan.warm_up_max_s)


def dismiss(site: Site, members: Sequence[Member]) -> None:
    """Close every session; what fails in closing is told, though all figures are there.

    A worker that died without being asked for anything takes all its cells with it.
    """
    for member in members:
        if not member.cells or (member.failed and not member.worker.alive):
            continue
        try:
            member.worker.close(site.limit_s)
        except BackendError as fault:
            site.ledger.fail(member.cells.values(), fault, member.worker)
