"""From what was asked for to what will be measured: cells, jobs, and the time it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdbench import capacity, estimate, observers
from kdbench.device import begins, meant
from kdbench.discovery import Source, nearest
from kdbench.environment import versions
from kdbench.errors import BackendUnavailable, UsageError
from kdbench.job import Job
from kdbench.options import check_options
from kdbench.records import BackendRecord, CellRecord, Trial
from kdbench.request import Request, homeless, networks
from kdbench.roster import Found, record
from kdbench.sections import BackendPlan, Profile
from kdbench.spec import Available, Cell, Device, Scenario, Student, Target, Unavailable, variant
from kdbench.support import Lack, lack


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be measured. `records` holds a CellRecord per cell, unsupported ones already marked.

    cpus: what workers are bound to, empty for no binding. stages: name and estimated seconds.
    trial: the two sides, where the plan is that of a trial. room: by the UUID of a GPU, how many workers may
    live on it at once, where that is fewer than alternate elsewhere. observers: that watch each cell.
    """

    student: Student
    profile: Profile
    backends: tuple[BackendRecord, ...]
    records: tuple[CellRecord, ...]
    jobs: tuple[Job, ...]
    cpus: tuple[int, ...]
    stages: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()
    trial: Trial | None = None
    room: Mapping[str, int] = field(default_factory=dict)
    observers: tuple[Source, ...] = ()

    @property
    def rebuild(self) -> bool:
        """Whether every block compiles anew."""
        return self.trial is not None and self.trial.rebuild

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The keys of the cells."""
        return tuple(one.cell for one in self.records)

    @property
    def blocks(self) -> int:
        """How many blocks of fresh processes a comparison of latencies rests on."""
        return self.profile.latency.blocks

    @property
    def seconds(self) -> float:
        """Estimate of the whole run."""
        return sum(seconds for _, seconds in self.stages)

    def cohorts(self, scenario: Scenario) -> tuple[tuple[int, ...], ...]:
        """Give the jobs of a scenario, by index, as they live together in a block."""
        return estimate.living(self.jobs, scenario, self.room)

    def together(self, a: int, b: int) -> bool:
        """Tell whether two jobs, by index, may live in one cohort: on one device, with room for both."""
        home = self.jobs[a].physical
        return home == self.jobs[b].physical and self.room.get(home, 2) > 1


def plan(
    request: Request,
    found: Sequence[Found],
    usable: Sequence[int],
    free_bytes: Mapping[str, int] | None = None,
    room: Mapping[str, int] | None = None,
) -> Plan:
    """Make the plan. `usable` are the logical CPUs to compute on, one per physical core.

    free_bytes: of the memory of GPUs, by UUID. room: that of the run that goes on, instead.
    Raises BackendUnavailable for a backend that was named and does not work here, UsageError for an
    option or a device that it does not have, or a teacher that the bundle does not keep. A precision, batch
    size or boundary that a backend or the student lacks is an unsupported cell.
    """
    refuse_unavailable(request.backends, found)
    _refuse_unknown_options(request, found)
    _refuse_missing_device(request, found)
    threads, cpus = threads_and_cpus(request.profile.plan.threads, usable)
    records: list[CellRecord] = []
    jobs: list[Job] = []
    working = [one for one in found if isinstance(one.answer, Available) and one.fault is None]
    measured = networks(request.student, request.profile.plan)
    for scenario in request.profile.plan.scenarios:
        for one in working:
            for device, target in _targets(request, one, scenario, threads):
                for network in measured:
                    jobs += job_of(request, one, device, target, network, working, records)
    return assembled(request, found, jobs, records, cpus, free_bytes, room)


def assembled(
    request: Request,
    found: Sequence[Found],
    jobs: Sequence[Job],
    records: Sequence[CellRecord],
    cpus: Sequence[int],
    free_bytes: Mapping[str, int] | None,
    room: Mapping[str, int] | None,
) -> Plan:
    """Put a plan together of its jobs and the records of all cells: the blocks that fit, stages and notes."""
    budget_s, profile = request.budget_s, request.profile
    room = capacity.room(jobs, profile, free_bytes or {}) if room is None else dict(room)
    if budget_s is not None:
        profile = estimate.within(budget_s, profile, jobs, room)
    stages = estimate.stages(profile, jobs, room)
    return Plan(
        student=request.student,
        profile=profile,
        backends=tuple(record(one) for one in found),
        records=tuple(records),
        jobs=tuple(jobs),
        cpus=tuple(cpus),
        stages=stages,
        notes=(
            *request.notes,
            *estimate.notes(budget_s, profile, sum(seconds for _, seconds in stages)),
            *_notes(jobs, room),
        ),
        room=room,
        observers=observers.chosen(profile.observe.observers),
    )


def _notes(jobs: Sequence[Job], room: Mapping[str, int]) -> Iterator[str]:
    """Tell what alternates with what, where that is not everything."""
    if len({job.physical for job in jobs}) > 1:
        yield (
            "Cells alternate within one device only; across devices they are compared by the medians of "
            "their blocks, which is less sharp. `kdbench ab` alternates any two."
        )
    for uuid, count in room.items():
        who = next(job.device for job in jobs if job.device.uuid == uuid)
        few = "1 worker at a time: its cells cannot take turns" if count == 1 else f"{count} workers at once"
        yield f"The free memory of {who.id} ({who.name}) has room for {few}."


def _targets(
    request: Request, one: Found, scenario: Scenario, threads: int | None
) -> Iterator[tuple[Device, Target]]:
    """Give what a backend is asked for in a scenario, device by device."""
    assert one.info is not None
    assert isinstance(one.answer, Available)
    settings, own = request.profile.plan, request.profile.backends.get(one.name, BackendPlan())
    options = check_options(one.info, {**own.options, **request.options.get(one.name, {})})
    for device in _devices(request, own, one.answer):
        for precision in own.precisions or settings.precisions:
            yield (
                device,
                Target(
                    device=device.id,
                    precision=precision,
                    batch_sizes=settings.batches,
                    scenario=scenario,
                    boundary=settings.boundary,
                    threads=threads,
                    dynamic=settings.shapes == "dynamic",
                    options=options,
                ),
            )


def job_of(
    request: Request,
    one: Found,
    device: Device,
    target: Target,
    network: Student,
    working: Sequence[Found],
    records: list[CellRecord],
) -> Iterator[Job]:
    """Give the job of a target, if there is one, and add the records of all its cells."""
    assert one.info is not None
    assert one.source is not None
    assert isinstance(one.answer, Available)
    offers = [other.name for other in working if other.info and target.precision in other.info.precisions]
    cells: dict[int, int] = {}
    for cell in _cells(request, one, target, network):
        lacking = lack(one.info, device, network, target, cell.batch, offers)
        if lacking is None:
            cells[cell.batch] = len(records)
        records.append(_record(cell, lacking))
    if cells:
        yield Job(
            student=network,
            source=one.source,
            info=one.info,
            runtime_version=one.answer.version,
            device=device,
            target=replace(target, batch_sizes=tuple(cells)),
            cells=cells,
            versions=one.versions if one.versions is not None else versions(one.info.distributions),
            python=one.python,
            side=request.side,
        )


def _cells(request: Request, one: Found, target: Target, network: Student) -> list[Cell]:
    """Give the keys of a target's cells, one per batch size."""
    declared, profile = one.info.options if one.info else (), request.profile
    return [
        Cell(
            backend=one.name,
            device=target.device,
            precision=target.precision,
            batch=batch,
            scenario=target.scenario,
            depth=1 if target.scenario == "latency" else profile.throughput.depth,
            threads=profile.plan.threads,
            boundary=target.boundary,
            variant=homeless(variant(target.options, declared, dynamic=target.dynamic)),
            network=network.role,
            side=request.side,
        )
        for batch in target.batch_sizes
    ]


def _record(cell: Cell, lacking: Lack | None) -> CellRecord:
    if lacking is None:
        return CellRecord(cell=cell, status="measured")
    return CellRecord(cell=cell, status="unsupported", phase="plan", reason=lacking.reason, fix=lacking.fix)


def _devices(request: Request, own: BackendPlan, answer: Available) -> tuple[Device, ...]:
    """Pick the devices asked for, by id, kind (`gpu` for `gpu.0`) or UUID; without a wish the default one."""
    wanted = request.devices or own.devices
    if not wanted:
        return answer.devices[:1]
    return tuple(device for device in answer.devices if any(_meant(wish, device) for wish in wanted))


def _meant(wish: str, device: Device) -> bool:
    return meant(wish, device.id, device.uuid)


def refuse_unavailable(named: Sequence[str], found: Sequence[Found]) -> None:
    """Raise BackendUnavailable for the first backend among those named that does not work here."""
    for one in found:
        if one.name not in named:
            continue
        if isinstance(one.answer, Unavailable):
            raise BackendUnavailable(
                f"The backend '{one.name}' does not work here: {one.answer.reason}", hint=one.answer.fix
            )
        if one.fault is not None:
            raise BackendUnavailable(
                f"The backend '{one.name}' is broken ({one.fault.phase}): {one.fault.reason}",
                hint=f"Its log is {one.fault.log}." if one.fault.log else "",
            )


def _refuse_unknown_options(request: Request, found: Sequence[Found]) -> None:
    names = [one.name for one in found]
    for name in request.options:
        if name not in names:
            meant = nearest(name, names)
            hint = f"Did you mean {meant}?" if meant else f"There are {', '.join(names)}."
            raise UsageError(f"An option is given for '{name}', which is not part of this run.", hint=hint)


def _refuse_missing_device(request: Request, found: Sequence[Found]) -> None:
    """Refuse a backend named beside devices of which it has none, and a device that no backend has.

    The beginning of a UUID must be that of one only.
    """
    have = {
        one.name: _devices(request, BackendPlan(), one.answer)
        for one in found
        if isinstance(one.answer, Available)
    }
    lacking = [name for name in request.backends if name in have and not have[name]]
    here = [device for one in found if isinstance(one.answer, Available) for device in one.answer.devices]
    for wish in request.devices:
        several = sorted({device.uuid for device in here if begins(wish, device.uuid)})
        if len(several) > 1:
            raise UsageError(
                f"The device {wish} may be any of {', '.join(several)}.", hint="Give more of its UUID."
            )
    unknown = [wish for wish in request.devices if not any(_meant(wish, device) for device in here)]
    if request.devices and (lacking or unknown):
        who = f"The backend '{lacking[0]}' has no" if lacking else "No backend of this run has the"
        raise UsageError(
            f"{who} device {', '.join(request.devices if lacking else unknown)}.",
            hint="`kdbench backends` lists the devices of each.",
        )


def threads_and_cpus(asked: int | str, usable: Sequence[int]) -> tuple[int | None, tuple[int, ...]]:
    """Resolve the thread count and the CPUs: the last ones, as the first often serves interrupts."""
    if asked == "vendor":
        return None, ()
    if asked == "cores":
        return len(usable), tuple(usable)
    count = int(asked)
    return count, tuple(usable[-count:]) if count <= len(usable) else ()
