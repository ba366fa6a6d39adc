"""One block: workers that are all alive while exactly one runs, visited slice by slice.

The block is the unit of replication. What a function measures comes back as the journal entry for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import msgspec

from kdbench import protocol
from kdbench.crew import crew, dismiss
from kdbench.errors import BackendError
from kdbench.journal import Entry
from kdbench.member import Member, Site, blamed
from kdbench.records import MemoryRecord, Samples, Slice, Stretch, Window, Yardstick
from kdbench.schedule import visits

DEPTH_TRIAL_S = 0.1

Timed = protocol.Sliced | protocol.Windowed | protocol.Stretched | protocol.Gauged


def latency_block(site: Site, block: int, cohort: int, jobs: Sequence[int]) -> Entry:
    """Measure one block of alternated slices of a cohort's jobs, given by index."""
    plan = site.plan.profile
    slices: list[Slice] = []
    samples: list[Samples] = []
    what, place = f"latency block {block + 1} of {plan.latency.blocks}", _place(block, cohort)
    where = {"scenario": "latency", "block": block, "cohort": cohort}
    with crew(site, _turned(jobs, block), what, place=place) as members, _gauged(site, where) as gauged:
        for batch in plan.plan.batches:
            for member, turn, position in _turns(members, batch, plan.latency.rounds, block):
                visit = {"block": block, "cohort": cohort, "round": turn, "position": position}
                slices += _visit(site, members, member, batch, visit)
            for member in members:
                samples += _collect(site, member, batch, block)
        dismiss(site, members)
    return Entry(
        kind="block",
        scenario="latency",
        block=block,
        cohort=cohort,
        cells=site.ledger.changes(),
        slices=tuple(slices),
        samples=tuple(samples),
        yardsticks=tuple(gauged),
    )


def throughput_block(site: Site, block: int, cohort: int, jobs: Sequence[int]) -> Entry:
    """Measure one block of throughput windows of a cohort's jobs, given by index."""
    plan = site.plan.profile
    windows: list[Window] = []
    what, place = f"throughput block {block + 1} of {plan.throughput.blocks}", _place(block, cohort)
    where = {"scenario": "throughput", "block": block, "cohort": cohort}
    with crew(site, _turned(jobs, block), what, place=place) as members, _gauged(site, where) as gauged:
        for batch in plan.plan.batches:
            for member, turn, _ in _turns(members, batch, plan.throughput.rounds, block):
                windows += _window(site, member, batch, {"block": block, "cohort": cohort, "round": turn})
        dismiss(site, members)
    return Entry(
        kind="windows",
        scenario="throughput",
        block=block,
        cohort=cohort,
        cells=site.ledger.changes(),
        windows=tuple(windows),
        yardsticks=tuple(gauged),
    )


def tail_stretch(site: Site, index: int, batch: int) -> Entry:
    """Time one latency cell of a job, alone and uninterrupted."""
    tail = site.plan.profile.tail
    cell = site.plan.jobs[index].cells[batch]
    stretches: list[Stretch] = []
    samples: list[Samples] = []
    with _alone(site, index, batch, "tail") as members:
        for member in members:
            with blamed(site, member, batch):
                member.worker.resume()
                limit_s = site.limit_s + 2 * tail.duration_s
                asked = protocol.TimeStretch(batch=batch, duration_s=tail.duration_s, step_s=tail.step_s)
                found = member.worker.ask(asked, protocol.Stretched, "run", limit_s)
                stretches.append(Stretch(cell=cell, step_s=tail.step_s, **_facts(site, found)))
                samples += _collect(site, member, batch, 0, kind="tail")
        dismiss(site, members)
    return Entry(
        kind="stretch",
        cells=site.ledger.changes(),
        stretches=tuple(stretches),
        samples=tuple(samples),
    )


def memory_pass(site: Site, index: int, batch: int) -> Entry:
    """Measure the memory of one cell in a fresh process that does nothing else."""
    job = site.plan.jobs[index]
    cell = job.cells[batch]
    with _alone(site, index, batch, "memory") as members:
        for member in members:
            with blamed(site, member, batch):
                member.worker.resume()
                if job.target.scenario == "throughput":
                    _ask_window(site, member, batch, window_s=0.3)
                found = member.worker.ask(protocol.MeasureMemory(), protocol.Measured, "run", site.limit_s)
                if found.peak_bytes is None or found.base_bytes is None:
                    record = MemoryRecord(reason="this system does not tell a process's peak")
                else:
                    record = MemoryRecord(peak_bytes=found.peak_bytes, base_bytes=found.base_bytes)
                site.ledger.update(cell, memory=record)
        dismiss(site, members)
    return Entry(kind="cells", cells=site.ledger.changes())


def _turned(jobs: Sequence[int], block: int) -> Sequence[int]:
    """Turn the order around in every other block, so that nobody is always loaded and visited first."""
    return jobs[::-1] if block % 2 else jobs


@contextmanager
def _gauged(site: Site, where: Mapping[str, Any]) -> Iterator[list[Yardstick]]:
    """Time the yardstick before and after what is timed inside, while all workers of the block stand."""
    found = list(_yardstick(site, where, after=False))
    yield found
    found += _yardstick(site, where, after=True)


def _yardstick(site: Site, where: Mapping[str, Any], *, after: bool) -> Iterator[Yardstick]:
    """Time the yardstick once; a gauge that fails is none, and harms no measurement."""
    if site.gauge is None or not site.gauge.alive:
        return
    with suppress(BackendError):
        site.gauge.resume()
        gauged = site.gauge.ask(protocol.TimeYardstick(), protocol.Gauged, "run", site.limit_s)
        site.gauge.pause()
        yield Yardstick(after=after, **where, **_facts(site, gauged))


def _place(block: int, cohort: int) -> str:
    return f"block{block + 1}-cohort{cohort + 1}"


def _alone(site: Site, index: int, batch: int, name: str) -> AbstractContextManager[list[Member]]:
    """Give the crew of one job that has the machine for itself, with one cell."""
    cell = site.plan.cells[site.plan.jobs[index].cells[batch]]
    return crew(site, [index], f"{name} of {cell}", place=f"{name}-batch{batch}", only=batch)


def _turns(
    members: Sequence[Member], batch: int, rounds: int, block: int
) -> Iterator[tuple[Member, int, int]]:
    """Give whose turn it is, in which round and at which position, of those that can still be asked."""
    for turn, order in enumerate(visits(len(members), rounds, block)):
        for position, index in enumerate(order):
            if members[index].ready(batch):
                yield members[index], turn, position


def _facts(site: Site, timed: Timed) -> dict[str, Any]:
    """Give what was timed as plain facts, its beginning counted from that of the run."""
    return {**msgspec.structs.asdict(timed), "started_ns": max(0, timed.started_ns - site.origin_ns)}


def _visit(
    site: Site, members: Sequence[Member], member: Member, batch: int, place: Mapping[str, Any]
) -> list[Slice]:
    """Let one worker run for a slice while all others stand."""
    found: list[Slice] = []
    others = [other.worker for other in members if other is not member and other.worker.alive]
    with blamed(site, member, batch):
        member.worker.resume()
        sliced = member.worker.ask(protocol.TimeSlice(batch=batch), protocol.Sliced, "run", site.limit_s)
        member.worker.pause()
        leaked_ns = sum(other.leaked_ns() for other in others)
        facts = _facts(site, sliced)
        found.append(Slice(cell=member.cells[batch], leaked_ns=leaked_ns, **place, **facts))
    return found


def _collect(
    site: Site, member: Member, batch: int, block: int, *, kind: str = "slices"
) -> Iterator[Samples]:
    if not member.ready(batch):
        return
    cell = member.cells[batch]
    with blamed(site, member, batch):
        member.worker.resume()
        found = member.worker.ask(protocol.Collect(batch=batch), protocol.Collected, "run", site.limit_s)
        member.worker.pause()
        facts = msgspec.structs.asdict(found)
        yield Samples(cell=cell, block=block, kind="tail" if kind == "tail" else "slices", **facts)


def _window(site: Site, member: Member, batch: int, place: Mapping[str, Any]) -> list[Window]:
    """Let one worker keep its queue full for a window while all others stand."""
    found: list[Window] = []
    cell = member.cells[batch]
    with blamed(site, member, batch):
        member.worker.resume()
        if cell not in site.ledger.depths:
            depth = _find_depth(site, member, batch)
            site.ledger.depths.update(dict.fromkeys([cell, *_alike(site, member, batch)], depth))
        windowed = _ask_window(site, member, batch, site.plan.profile.throughput.window_s)
        member.worker.pause()
        depth = site.ledger.depths[cell]
        found.append(Window(cell=cell, depth=depth, **place, **_facts(site, windowed)))
    return found


def _alike(site: Site, member: Member, batch: int) -> Iterator[int]:
    """Give the other side's cell where it is the same thing: unlike depths would be a difference."""
    own = member.job
    for job in site.plan.jobs:
        same = (job.source.name, job.device, job.target) == (own.source.name, own.device, own.target)
        if own.pair is not None and job.pair == own.pair and job is not own and same and batch in job.cells:
            yield job.cells[batch]


def _find_depth(site: Site, member: Member, batch: int) -> int:
    asked = site.plan.profile.throughput.depth
    if member.job.info.concurrency == "serial":
        return 1
    if asked != "auto":
        return asked
    request = protocol.FindDepth(batch=batch, trial_s=DEPTH_TRIAL_S)
    return member.worker.ask(request, protocol.Found, "run", site.limit_s).depth


def _ask_window(site: Site, member: Member, batch: int, window_s: float) -> protocol.Windowed:
    plan = site.plan.profile.throughput
    request = protocol.TimeWindow(
        batch=batch,
        depth=site.ledger.depths.get(member.cells[batch], 1),
        window_s=window_s,
        latencies=plan.latencies,
    )
    return member.worker.ask(request, protocol.Windowed, "run", site.limit_s + 2 * window_s)
