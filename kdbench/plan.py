"""From what was asked for to what will be measured: cells, jobs, and the time it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from kdbench.discovery import Source, nearest
from kdbench.errors import BackendUnavailable, UsageError
from kdbench.options import check_options
from kdbench.records import BackendRecord, CellRecord
from kdbench.roster import Found, record
from kdbench.schedule import cohorts
from kdbench.sections import BackendPlan, Profile
from kdbench.spec import (
    Available,
    BackendInfo,
    Cell,
    Device,
    Precision,
    Scalar,
    Scenario,
    Student,
    Target,
    Unavailable,
    variant,
)

START_S = 1.5
"""About what starting, loading, checking and ending one worker takes; only for the estimate."""

FEWEST_BLOCKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. `backends` are those named; none means every available one.

    options: by backend, as text or typed. budget_s: how long the whole run may take, or None.
    plugins: names to look at instead of all that are installed; None for all.
    """

    student: Student
    profile: Profile
    output: Path
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    budget_s: float | None = None
    argv: tuple[str, ...] = ()
    plugins: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backend with one Target: what a worker is started for.

    cells: index into the plan's cells for each batch size of the target.
    """

    source: Source
    info: BackendInfo
    runtime_version: str
    device: Device
    target: Target
    cells: Mapping[int, int]

    @property
    def label(self) -> str:
        """Name the job, fit for a file name."""
        return f"{self.source.name}-{self.device.id}-{self.target.precision}".replace(":", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be measured. `records` holds a CellRecord per cell, unsupported ones already marked.

    cpus: what workers are bound to, empty for no binding. stages: name and estimated seconds.
    """

    student: Student
    profile: Profile
    backends: tuple[BackendRecord, ...]
    records: tuple[CellRecord, ...]
    jobs: tuple[Job, ...]
    cpus: tuple[int, ...]
    stages: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()

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
        jobs = [index for index, job in enumerate(self.jobs) if job.target.scenario == scenario]
        return cohorts(jobs, jobs[0]) if jobs else ()


def plan(request: Request, found: Sequence[Found], usable: Sequence[int]) -> Plan:
    """Make the plan. `usable` are the logical CPUs to compute on, one per physical core.

    Raises BackendUnavailable for a backend that was named and does not work here, UsageError for an
    option, device or boundary that it does not have.
    """
    _refuse_unavailable(request, found)
    _refuse_unknown_options(request, found)
    threads, cpus = _threads(request.profile.plan.threads, usable)
    records: list[CellRecord] = []
    jobs: list[Job] = []
    for scenario in request.profile.plan.scenarios:
        for one in found:
            if isinstance(one.answer, Available) and one.fault is None:
                _add_jobs(request, one, scenario, threads, records, jobs)
    _refuse_idle_device(request, records)
    profile = _within_budget(request, records, jobs)
    stages, notes = _stages(profile, records, jobs), _notes(request, profile)
    return Plan(
        student=request.student,
        profile=profile,
        backends=tuple(record(one) for one in found),
        records=tuple(records),
        jobs=tuple(jobs),
        cpus=cpus,
        stages=stages,
        notes=notes,
    )


def _add_jobs(
    request: Request,
    one: Found,
    scenario: Scenario,
    threads: int | None,
    records: list[CellRecord],
    jobs: list[Job],
) -> None:
    assert one.info is not None
    assert one.source is not None
    assert isinstance(one.answer, Available)
    own = request.profile.backends.get(one.name, BackendPlan())
    given = {**own.options, **request.options.get(one.name, {})}
    options = check_options(one.info, given)
    settings = request.profile.plan
    dynamic = settings.shapes == "dynamic"
    depth = 1 if scenario == "latency" else request.profile.throughput.depth
    for device in _devices(request, own, one.answer):
        for precision in own.precisions or settings.precisions:
            why = _unsupported(one.info, device, precision, settings.boundary)
            indices = {}
            for batch in settings.batches:
                cell = Cell(
                    backend=one.name,
                    device=device.id,
                    precision=precision,
                    batch=batch,
                    scenario=scenario,
                    depth=depth,
                    threads=settings.threads,
                    boundary=settings.boundary,
                    variant=variant(options, one.info.options, dynamic=dynamic),
                )
                indices[batch] = len(records)
                status = "unsupported" if why else "measured"
                records.append(CellRecord(cell=cell, status=status, phase="plan" if why else "", reason=why))  # type: ignore[arg-type]  # the literal is widened
            target = Target(
                device=device.id,
                precision=precision,
                batch_sizes=settings.batches,
                scenario=scenario,
                boundary=settings.boundary,
                threads=threads,
                dynamic=dynamic,
                options=options,
            )
            if not why:
                jobs.append(
                    Job(
                        source=one.source,
                        info=one.info,
                        runtime_version=one.answer.version,
                        device=device,
                        target=target,
                        cells=indices,
                    )
                )


def _devices(request: Request, own: BackendPlan, answer: Available) -> tuple[Device, ...]:
    """Pick the devices asked for, by id or by kind (`gpu` for `gpu.0`); without a wish, the default one."""
    wanted = request.devices or own.devices
    if not wanted:
        return answer.devices[:1]
    return tuple(
        device
        for device in answer.devices
        if device.id in wanted or device.id.split(":")[0].split(".")[0] in wanted
    )


def _unsupported(info: BackendInfo, device: Device, precision: Precision, boundary: str) -> str:
    if boundary not in info.boundaries:
        return f"{info.title} cannot be timed at the boundary {boundary}."
    if precision not in info.precisions:
        return f"{info.title} does not offer {precision}; it has {', '.join(info.precisions)}."
    if device.precisions and precision not in device.precisions:
        return f"{device.name} does not compute in {precision}; it has {', '.join(device.precisions)}."
    return ""


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


def _refuse_idle_device(request: Request, records: Sequence[CellRecord]) -> None:
    if request.devices and not records:
        raise UsageError(
            f"No backend of this run has the device {', '.join(request.devices)}.",
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


def _latency_block_s(profile: Profile, records: Sequence[CellRecord], jobs: Sequence[Job]) -> float:
    own = [job for job in jobs if job.target.scenario == "latency"]
    plan = profile.latency
    visit_s = plan.slice_s * 1.15 + plan.settle_s / 2
    cells = sum(len(job.cells) for job in own)
    return len(own) * START_S + cells * (1.3 * plan.warm_up_s + plan.rounds * visit_s)


def _throughput_block_s(profile: Profile, records: Sequence[CellRecord], jobs: Sequence[Job]) -> float:
    own = [job for job in jobs if job.target.scenario == "throughput"]
    plan = profile.throughput
    cells = sum(len(job.cells) for job in own)
    return len(own) * START_S + cells * (1.3 * profile.latency.warm_up_s + plan.rounds * plan.window_s)


def _stages(
    profile: Profile, records: Sequence[CellRecord], jobs: Sequence[Job]
) -> tuple[tuple[str, float], ...]:
    cells = sum(len(job.cells) for job in jobs if job.target.scenario == "latency")
    every = sum(len(job.cells) for job in jobs)
    tail = cells * (START_S + profile.tail.duration_s) if profile.tail.duration_s else 0.0
    stages = {
        "compile": len(jobs) * START_S,
        "latency blocks": profile.latency.blocks * _latency_block_s(profile, records, jobs),
        "throughput blocks": profile.throughput.blocks * _throughput_block_s(profile, records, jobs),
        "tail": tail,
        "memory": every * START_S if profile.memory.measure else 0.0,
    }
    return tuple((name, seconds) for name, seconds in stages.items() if seconds)


def _within_budget(request: Request, records: Sequence[CellRecord], jobs: Sequence[Job]) -> Profile:
    """Choose the number of blocks that fits the budget, at least one of each."""
    if request.budget_s is None:
        return request.profile
    one = structs.replace(
        request.profile,
        latency=structs.replace(request.profile.latency, blocks=1),
        throughput=structs.replace(request.profile.throughput, blocks=1),
    )
    stages = dict(_stages(one, records, jobs))
    per_block = stages.get("latency blocks", 0.0) + stages.get("throughput blocks", 0.0)
    rest = request.budget_s - (sum(stages.values()) - per_block)
    blocks = max(1, int(rest / per_block)) if per_block else 1
    return structs.replace(
        one,
        latency=structs.replace(one.latency, blocks=blocks),
        throughput=structs.replace(one.throughput, blocks=blocks),
    )


def _notes(request: Request, profile: Profile) -> tuple[str, ...]:
    notes = []
    if profile.latency.blocks < FEWEST_BLOCKS:
        notes.append("One block cannot tell a lead from chance; two or more (--blocks) can.")
    if request.budget_s is not None:
        notes.append(f"{profile.latency.blocks} blocks fit the budget of {request.budget_s:g} s.")
    return tuple(notes)
