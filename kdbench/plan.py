"""From what was asked for to what will be measured: cells, jobs, and the time it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kdbench import capacity, estimate, observers
from kdbench.cells import job_of
from kdbench.discovery import Source
from kdbench.job import Job
from kdbench.options import check_options
from kdbench.records import BackendRecord, CellRecord, Trial
from kdbench.request import Request, networks
from kdbench.roster import Found, record
from kdbench.sections import BackendPlan, Profile
from kdbench.spec import Available, Cell, Device, Scenario, Student, Target
from kdbench.wishes import devices_of, refuse_missing_device, refuse_unavailable, refuse_unknown_options


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
    refuse_unknown_options(request, found)
    refuse_missing_device(request, found)
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
    for device in devices_of(request, own, one.answer):
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


def threads_and_cpus(asked: int | str, usable: Sequence[int]) -> tuple[int | None, tuple[int, ...]]:
    """Resolve the thread count and the CPUs: the last ones, as the first often serves interrupts."""
    if asked == "vendor":
        return None, ()
    if asked == "cores":
        return len(usable), tuple(usable)
    count = int(asked)
    return count, tuple(usable[-count:]) if count <= len(usable) else ()
