"""The pass in which cells are observed: after all blocks, each alone, in a fresh worker for each observer.

What is observed is disturbed, so nothing is timed here and no figure comes from here. A fault in this pass is
told where the observer's files would be, and takes nothing from the cell.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kdbench import protocol, results
from kdbench.crew import loading, prepare, warm_up, worker_of
from kdbench.discovery import Source
from kdbench.errors import BackendError, ObserverError, UsageError
from kdbench.journal import Entry
from kdbench.member import Member, Site
from kdbench.orphans import orphans_adopted
from kdbench.records import ObservedFile, ObservedRecord
from kdbench.roster import opening
from kdbench.spec import Observation
from kdbench.strict import clean

LONGEST_S = 10.0
"""Where so many calls as were asked for would take longer, fewer are made."""

MOST_FILES = 1000
"""So many files of one observer and cell are listed; the others are only counted."""


def folder_of(output: Path) -> Path:
    """Say where observers of a run write: beside its result, `NAME.observed`. output: or its journal."""
    output = output.with_name(output.name.removesuffix(results.JOURNAL_SUFFIX))
    return output.with_name(f"{output.stem}.observed")


def refuse_kept(output: Path) -> None:
    """Raise UsageError where the folder for what observers write holds something already."""
    folder = folder_of(output)
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(
            f"{clean(str(folder))} exists, and what was observed before is not overwritten.",
            hint="Move it away, or choose another --output.",
        )


def observe_pass(site: Site, index: int, batch: int, *, folder: Path) -> Entry:
    """Run one cell of a job once more for each observer, which writes into a folder of its own."""
    cell = site.plan.jobs[index].cells[batch]
    records = tuple(_observed(site, source, index, batch, folder) for source in site.plan.observers)
    site.ledger.update(cell, observed=records)
    return Entry(kind="cells", cells=site.ledger.changes())


def _observed(site: Site, source: Source, index: int, batch: int, folder: Path) -> ObservedRecord:
    job = site.plan.jobs[index]
    cell = job.cells[batch]
    name = f"{cell:02d}-{job.label}-batch{batch}-{job.target.scenario}"
    place = folder / source.name / name
    reason = log = ""
    try:
        _make_empty(place)
        with orphans_adopted(), worker_of(site, job, f"{source.name}-batch{batch}") as worker:
            member = Member(job, site.built[index], worker, {batch: cell})
            try:
                _go_through(site, source, member, batch, place)
            except BackendError as fault:
                reason = _reason(source, fault)
                if worker.alive:  # it may still write what it has seen so far
                    with suppress(BackendError):
                        worker.ask(protocol.Close(), protocol.Closed, "close", site.limit_s)
                worker.end()
                log = site.ledger.keep_log(worker, fault)
        found = list(_files(place))
        files = tuple(_described(path, folder.parent) for path in found[:MOST_FILES])
        if not found:
            _remove_empty(place, folder)
    except OSError as error:
        raise results.unwritable(place, error) from error
    if len(found) > MOST_FILES:
        reason = reason or f"It wrote {len(found)} files, of which {MOST_FILES} are listed."
    return ObservedRecord(
        observer=source.name,
        distribution=source.distribution,
        version=source.version,
        files=files,
        reason=reason,
        log=log,
    )


def _go_through(site: Site, source: Source, member: Member, batch: int, place: Path) -> None:
    """Go through all stages of a cell; raises BackendError, an ObserverError for the observer's faults."""
    job, worker, limits = member.job, member.worker, site.plan.profile.limits
    calls = site.plan.profile.observe.calls
    observation = Observation(
        cell=site.plan.cells[member.cells[batch]],
        student=job.student,
        target=job.target,
        folder=place.resolve(),
        calls=calls,
    )
    asked = protocol.Observe(name=source.name, value=source.value, observation=observation)
    worker.ask(asked, protocol.Observing, "observe", limits.describe_s)
    worker.ask(opening(job.source), protocol.Opened, "import", limits.describe_s)
    member.loaded = worker.ask(loading(member), protocol.Loaded, "load", limits.load_s)
    prepare(site, member, batch)
    call_ns = warm_up(site, member, batch).call_ns
    calls = max(1, min(calls, int(LONGEST_S * 1e9 / max(call_ns, 1.0))))
    limit_s = site.limit_s + 2 * LONGEST_S
    if job.target.scenario == "throughput":
        depth = site.ledger.depths.get(member.cells[batch], 1)
        window = protocol.TimeWindow(batch=batch, depth=depth, window_s=0.0, latencies=calls)
        worker.ask(window, protocol.Windowed, "run", limit_s)
    else:
        worker.ask(protocol.MakeCalls(batch=batch, calls=calls), protocol.Called, "run", limit_s)
    worker.ask(protocol.Close(), protocol.Closed, "close", limit_s)


def _reason(source: Source, fault: BackendError) -> str:
    """Say whose fault it was: the observer's own, or something that happened while it watched."""
    if isinstance(fault, ObserverError) or fault.phase == "observe":
        return str(fault)
    return f"While {source.name} observed it, it failed in {fault.phase}: {fault}"


def _make_empty(place: Path) -> None:
    """Make the folder of one cell; what an interrupted run left in it goes."""
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)


def _remove_empty(place: Path, folder: Path) -> None:
    with suppress(OSError):  # others' files are there
        shutil.rmtree(place)
        for parent in (place.parent, folder):
            parent.rmdir()


def _files(place: Path) -> Iterator[Path]:
    """Give the regular files below a folder in the order of their names; links are not followed."""
    for home, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            path = Path(home, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _described(path: Path, beside: Path) -> ObservedFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    relative = clean(path.relative_to(beside).as_posix())
    return ObservedFile(path=relative, bytes=path.stat().st_size, sha256=digest)
