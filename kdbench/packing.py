"""Compile a student for the backends named, and write what came of it into a folder that travels.

All that was asked for is in the folder, or nothing is written. A device that is not here is compiled for
where it is named: many compilers work without one.
"""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from kdbench import __version__, cache, cpu, environment, parcel, roster
from kdbench.compiling import compile_jobs
from kdbench.device import kind, meant
from kdbench.errors import BackendError, Interrupted, UsageError
from kdbench.header import now
from kdbench.interruption import heard_once
from kdbench.job import Job
from kdbench.keeping import logs
from kdbench.ledger import Ledger
from kdbench.manifest import Asked, Origin, Packed, Parcel
from kdbench.member import Built
from kdbench.orphans import orphans_adopted
from kdbench.plan import Plan, plan
from kdbench.progress import Progress, Report
from kdbench.request import Request
from kdbench.roster import Found
from kdbench.spec import Available, Device, Unavailable

Absent = Mapping[tuple[str, str], str]
"""Why a device was not offered, by backend and id."""


def pack(request: Request, report: Report | None = None) -> Parcel:
    """Compile what was asked for and write it as a parcel at `request.output`.

    Raises BackendUnavailable for a backend that does not work here and that no device was named for,
    UsageError for a cell that a backend or the student lacks, BackendError where compiling fails: nothing is
    written then.
    """

    def tell(detail: str) -> None:
        if report:
            report(Progress("compile", detail, 0.0))

    parcel.refuse_taken(request.output)
    with _undisturbed() as folder:
        planned, absent = _planned(request, logs(request.output), report)
        _refuse_unsupported(planned)
        ledger = Ledger(planned.records, logs(request.output))
        built = compile_jobs(planned, ledger, cache.user_folder(), folder, tell)
        _refuse_failed(ledger, planned, absent)
        artifacts = [
            (_packed(number, planned, job, built[number], absent), built[number].workdir)
            for number, job in enumerate(planned.jobs)
        ]
        return parcel.write(request.output, request.student, _origin(), artifacts)


@contextmanager
def _undisturbed() -> Iterator[Path]:
    """Give a folder for what workers print; end every process, and turn an interruption into a sentence."""
    with tempfile.TemporaryDirectory(prefix="kdbench-") as folder, heard_once():
        try:
            with orphans_adopted():
                yield Path(folder)
        except KeyboardInterrupt:
            raise Interrupted("Interrupted. Nothing was written.") from None


def _planned(request: Request, folder: Path, report: Report | None) -> tuple[Plan, Absent]:
    if report:
        report(Progress("probe", "asking the backends", 0.0))
    names = request.backends or request.profile.plan.backends
    here = roster.chosen(roster.names(request.plugins), names)
    asked = roster.probe(here, cache.user_folder(), folder, request.profile.limits)
    absent: dict[tuple[str, str], str] = {}
    found = [_with_absent(one, request.devices, absent) for one in asked]
    wanted = replace(request, backends=tuple(one.name for one in found))
    return plan(wanted, found, environment.usable_cores(), room={}), absent


def _with_absent(one: Found, devices: Sequence[str], absent: dict[tuple[str, str], str]) -> Found:
    """Let a backend compile for a device that was named and that it can drive, though it is not here."""
    if one.info is None or one.fault is not None or one.answer is None:
        return one
    here = one.answer.devices if isinstance(one.answer, Available) else ()
    lacking = tuple(
        Device(wish, "")
        for wish in devices
        if kind(wish) in one.info.devices and not any(meant(wish, each.id, each.uuid) for each in here)
    )
    if not lacking:
        return one
    missing = isinstance(one.answer, Unavailable)
    for device in lacking:
        shown = ", ".join(each.id for each in here)
        reason = one.answer.reason if isinstance(one.answer, Unavailable) else f"its probe shows {shown} only"
        absent[one.name, device.id] = reason
    version = "" if missing else one.answer.version  # type: ignore[union-attr]
    return replace(one, answer=Available(version, (*here, *lacking)))


def _refuse_unsupported(planned: Plan) -> None:
    for record in planned.records:
        if record.status != "measured":
            raise UsageError(f"{record.cell} cannot be compiled: {record.reason}", hint=record.fix)


def _refuse_failed(ledger: Ledger, planned: Plan, absent: Absent) -> None:
    """Raise BackendError for the first cell that could not be compiled."""
    for record in ledger.records:
        if record.status == "measured":
            continue
        cell = record.cell
        reason = absent.get((cell.backend, cell.device), "")
        hints = [record.fix, f"Its device is not here: {reason.removesuffix('.')}." if reason else ""]
        hints.append(f"Its log is {record.log}." if record.log else "")
        raise BackendError(
            f"The backend '{cell.backend}' cannot compile {planned.student.name} for {cell.device}: "
            f"{record.reason} Nothing was written.",
            hint=" ".join(filter(None, hints)),
            phase="compile",
        )


def _packed(number: int, planned: Plan, job: Job, built: Built, absent: Absent) -> Packed:
    cell = planned.records[next(iter(job.cells.values()))].cell
    target = job.target
    return Packed(
        folder=_folder(number, job),
        key=built.record.key,
        backend=job.source.name,
        network=job.student.role,
        distribution=job.source.distribution,
        version=job.source.version,
        runtime_version=job.runtime_version,
        versions=dict(job.versions),
        device=job.device,
        target=Asked(
            precision=target.precision,
            batch_sizes=target.batch_sizes,
            scenario=target.scenario,
            boundary=target.boundary,
            threads=target.threads,
            dynamic=target.dynamic,
            options=dict(target.options),
        ),
        threads=cell.threads,
        artifact=msgspec.Raw(built.artifact.encode()),
        bytes=built.record.bytes,
        compile_s=built.record.compile_s,
        absent=absent.get((job.source.name, job.device.id), ""),
    )


def _folder(number: int, job: Job) -> str:
    """Name a folder that any file system takes, each artifact its own."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{job.label}-{job.target.scenario}")
    return f"{number}-{text}"[:120]


def _origin() -> Origin:
    facts = cpu.describe()
    return Origin(
        created_utc=now(),
        kdbench=__version__,
        python=platform.python_version(),
        machine=platform.machine(),
        cpu=facts["model"] or "",
        features=tuple(facts["features"] or ()),
    )
