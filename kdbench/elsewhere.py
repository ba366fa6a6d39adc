"""The plan of a run whose artifacts were compiled elsewhere: its jobs are those of parcels.

Nothing is compiled. The profile still says how long and how often is measured; what is measured stands in the
manifests, as far as it is wanted. Cells have the keys that they would have had, had they been compiled here.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kdbench import __version__, cache, cpu, environment, parcel, roster
from kdbench.cells import job_of
from kdbench.errors import BackendUnavailable
from kdbench.job import Brought, Job
from kdbench.manifest import Origin, Packed
from kdbench.options import check_options
from kdbench.plan import Plan, assembled, threads_and_cpus
from kdbench.progress import Progress, Report
from kdbench.records import CellRecord
from kdbench.request import Request
from kdbench.roster import Found
from kdbench.selection import Wanted, wanted as wanted_of
from kdbench.spec import Available, Device
from kdbench.strict import clean
from kdbench.survey import free_bytes_of
from kdbench.wishes import refuse_unavailable


def planned(
    request: Request, folder: Path, report: Report | None, room: Mapping[str, int] | None = None
) -> Plan:
    """Ask the backends that the parcels need, and plan what is wanted of them; see `survey.planned`.

    Raises BackendUnavailable where a backend or its device is not here, UsageError where the plugin here does
    not have an option that was compiled for.
    """
    if report:
        report(Progress("probe", "asking every backend", 0.0))
    wanted = list(wanted_of(request.parcels, request.profile, _devices(request)))
    names = tuple(dict.fromkeys(one.packed.backend for one in wanted))
    here = roster.chosen(roster.names(request.plugins), names)
    found = roster.probe(here, cache.user_folder(), folder, request.profile.limits)
    refuse_unavailable(names, found)
    threads, cpus = threads_and_cpus(request.profile.plan.threads, environment.usable_cores())
    records: list[CellRecord] = []
    jobs: list[Job] = []
    by_name = {one.name: one for one in found}
    for scenario in request.profile.plan.scenarios:
        for one in wanted:
            if one.packed.target.scenario == scenario:
                jobs += _jobs(request, one, by_name, threads, records)
    free_bytes = {} if room is not None else free_bytes_of(found)
    notes = tuple(clean(note) for note in (*request.notes, *_notes(wanted, by_name, jobs)))
    asking = replace(request, backends=names, notes=notes)
    return assembled(asking, found, jobs, records, cpus, free_bytes, room)


def _jobs(
    request: Request,
    one: Wanted,
    found: Mapping[str, Found],
    threads: int | None,
    records: list[CellRecord],
) -> Iterator[Job]:
    """Give the job of an artifact, if any of its cells can be measured here, and add the records of all."""
    packed, backend = one.packed, found[one.packed.backend]
    assert backend.info is not None
    target = replace(packed.aim, threads=threads, options=check_options(backend.info, packed.target.options))
    narrowed = replace(target, batch_sizes=one.batches)
    student, device = parcel.network(one.parcel, packed), _device(packed, backend)
    brought = Brought(
        artifact=bytes(packed.artifact).decode(),
        home=parcel.home(one.parcel, packed),
        key=packed.key,
        bytes=packed.bytes,
        compile_s=packed.compile_s,
    )
    for job in job_of(request, backend, device, narrowed, student, list(found.values()), records):
        yield replace(job, target=target, brought=brought)


def _device(packed: Packed, found: Found) -> Device:
    assert isinstance(found.answer, Available)
    for device in found.answer.devices:
        if device.id == packed.device.id:
            return device
    have = ", ".join(device.id for device in found.answer.devices)
    raise BackendUnavailable(
        f"The artifact of {packed} was compiled for {clean(packed.device.id)}, which is not here; "
        f"{packed.backend} has {have}.",
        hint="Pick others of the folder with -b or --device, or compile it for a device of this machine.",
    )


def _devices(request: Request) -> tuple[str, ...]:
    """Give the devices that are asked for; of a run that goes on, those that its journal has."""
    kept = [wish for own in request.profile.backends.values() for wish in own.devices]
    return request.devices or tuple(dict.fromkeys(kept))


def _notes(wanted: Sequence[Wanted], found: Mapping[str, Found], jobs: Sequence[Job]) -> Iterator[str]:
    """Tell that artifacts came from elsewhere, and in what that place differs from this one."""
    names = ", ".join(dict.fromkeys(one.packed.backend for one in wanted))
    yield (
        f"Compiled elsewhere, and nothing is compiled here: {names}. Their time to a cold first output is "
        "not known, and their cells have the keys of cells that are compiled on the spot."
    )
    told: dict[str, None] = {}
    for one in wanted:
        packed, backend = one.packed, found[one.packed.backend]
        differing = [
            f"{what} {then or 'unknown'} there, {now or 'not'} here"
            for what, then, now in _pairs(packed, one.parcel.manifest.origin, backend)
            if then != now
        ]
        if differing:
            told[f"{packed.backend} was compiled under other conditions: {'; '.join(differing)}."] = None
        if packed.absent:
            told[f"{packed.backend} was compiled without its device {packed.device.id}: {packed.absent}"] = (
                None
            )
    for job in jobs:
        compiled = next(one for one in wanted if one.packed.key == (job.brought and job.brought.key))
        if compiled.packed.target.threads != job.target.threads:
            then, now = (_counted(count) for count in (compiled.packed.target.threads, job.target.threads))
            told[f"{job.source.name} was compiled for {then}, and runs with {now}."] = None
    yield from told


def _pairs(packed: Packed, origin: Origin, found: Found) -> Iterator[tuple[str, str, str]]:
    """Give what may decide whether an artifact fits: what it is called, how it was there, how it is here."""
    assert found.source is not None
    assert isinstance(found.answer, Available)
    device = _device(packed, found)
    seen = roster.record(found).versions
    yield "kdbench", origin.kdbench, __version__
    yield found.source.distribution, packed.version, found.source.version
    yield f"the runtime of {packed.backend}", packed.runtime_version, found.answer.version
    for name in dict.fromkeys((*packed.versions, *seen)):
        yield name, packed.versions.get(name, ""), seen.get(name, "")
    yield "Python", origin.python, platform.python_version()
    yield "machine", origin.machine, platform.machine()
    facts = cpu.describe()
    yield "processor", origin.cpu, facts["model"] or ""
    # More of them than there were do no harm.
    yield "instruction sets", ", ".join(sorted({*origin.features} - {*(facts["features"] or ())})), ""
    for what in ("name", "uuid", "driver"):
        yield f"{what} of {packed.device.id}", getattr(packed.device, what), getattr(device, what)


def _counted(threads: int | None) -> str:
    return "the vendor's threads" if threads is None else f"{threads} thread{'s' if threads != 1 else ''}"
