"""From what was asked for to what will be measured: cells, jobs, and the time it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kdbench import estimate
from kdbench.discovery import nearest
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
    trial: the two sides, where the plan is that of a trial.
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
        return estimate.living(self.jobs, scenario)


def plan(request: Request, found: Sequence[Found], usable: Sequence[int]) -> Plan:
    """Make the plan. `usable` are the logical CPUs to compute on, one per physical core.

    Raises BackendUnavailable for a backend that was named and does not work here, UsageError for an
    option or a device that it does not have, or a teacher that the bundle does not keep. A precision, batch
    size or boundary that a backend or the student lacks is an unsupported cell.
    """
    _refuse_unavailable(request, found)
    _refuse_unknown_options(request, found)
    _refuse_missing_device(request, found)
    threads, cpus = _threads(request.profile.plan.threads, usable)
    records: list[CellRecord] = []
    jobs: list[Job] = []
    working = [one for one in found if isinstance(one.answer, Available) and one.fault is None]
    measured = networks(request.student, request.profile.plan)
    for scenario in request.profile.plan.scenarios:
        for one in working:
            for device, target in _targets(request, one, scenario, threads):
                for network in measured:
                    jobs += _job(request, one, device, target, network, working, records)
    budget_s, profile = request.budget_s, request.profile
    if budget_s is not None:
        profile = estimate.within(budget_s, profile, jobs)
    stages = estimate.stages(profile, jobs)
    return Plan(
        student=request.student,
        profile=profile,
        backends=tuple(record(one) for one in found),
        records=tuple(records),
        jobs=tuple(jobs),
        cpus=cpus,
        stages=stages,
        notes=(
            *request.notes,
            *estimate.notes(budget_s, profile, sum(seconds for _, seconds in stages)),
        ),
    )


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


def _job(
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
    """Pick the devices asked for, by id or by kind (`gpu` for `gpu.0`); without a wish, the default one."""
    wanted = request.devices or own.devices
    if not wanted:
        return answer.devices[:1]
    return tuple(device for device in answer.devices if any(_meant(wish, device) for wish in wanted))


def _meant(wish: str, device: Device) -> bool:
    return wish in (device.id, device.id.split(":")[0].split(".")[0])


def _refuse_unavailable(request: Request, found: Sequence[Found]) -> None:
    for one in found:
        if one.name not in request.backends:
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
    """Refuse a backend named beside devices of which it has none, and a device that no backend has."""
    have = {
        one.name: _devices(request, BackendPlan(), one.answer)
        for one in found
        if isinstance(one.answer, Available)
    }
    lacking = [name for name in request.backends if name in have and not have[name]]
    here = [device for one in found if isinstance(one.answer, Available) for device in one.answer.devices]
    unknown = [wish for wish in request.devices if not any(_meant(wish, device) for device in here)]
    if request.devices and (lacking or unknown):
        who = f"The backend '{lacking[0]}' has no" if lacking else "No backend of this run has the"
        raise UsageError(
            f"{who} device {', '.join(request.devices if lacking else unknown)}.",
            hint="`kdbench backends` lists the devices of each.",
        )


def _threads(asked: int | str, usable: Sequence[int]) -> tuple[int | None, tuple[int, ...]]:
    """Resolve the thread count and the CPUs: the last ones, as the first often serves interrupts."""
    if asked == "vendor":
        return None, ()
    if asked == "cores":
        return len(usable), tuple(usable)
    count = int(asked)
    return count, tuple(usable[-count:]) if count <= len(usable) else ()
