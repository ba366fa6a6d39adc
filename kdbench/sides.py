"""Two plans made one: the jobs of both sides of a trial, each beside its counterpart."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from kdbench import estimate
from kdbench.errors import UsageError
from kdbench.header import subject
from kdbench.job import Job
from kdbench.plan import Plan
from kdbench.records import CellRecord, SideRecord, Subject, Trial
from kdbench.request import Request, homeless
from kdbench.spec import Scalar, SideName
from kdbench.student import read_card

_NAMES: tuple[SideName, SideName] = ("a", "b")

Pair = tuple[Job, Job]


def merged(plans: Sequence[Plan], trial: Trial) -> Plan:
    """Put the plans of side a and side b together; the answer has the profile of side a.

    A job without a counterpart is not measured, and its cells say so. Raises UsageError where no job has
    one, or the plans differ in what both sides must have in common.
    """
    a, b = plans
    _refuse_unlike(a, b)
    pairs = _pairs(a.jobs, [_shifted(job, len(a.records)) for job in b.jobs])
    if not pairs:
        raise UsageError(_lacking(a, b), hint="`kdbench backends` tells what works here, and what mends it.")
    jobs = tuple(
        replace(job, pair=number, side=side)
        for number, pair in enumerate(pairs)
        for job, side in zip(pair, _NAMES, strict=True)
    )
    known = {one.name for one in a.backends}
    return replace(
        a,
        records=_numbered([*a.records, *b.records], jobs),
        jobs=jobs,
        backends=(*a.backends, *(one for one in b.backends if one.name not in known)),
        stages=estimate.stages(a.profile, jobs),
        notes=tuple(dict.fromkeys((*a.notes, *b.notes))),
        trial=trial,
    )


def described(requests: Sequence[Request], plans: Sequence[Plan]) -> tuple[SideRecord, SideRecord]:
    """Say what each side is, and label it by what tells it from the other."""
    labels = _labels(requests, plans)
    a, b = (
        SideRecord(
            side="a" if number == 0 else "b",
            label=labels[number],
            subject=_own_subject(requests, number),
            options={name: _told(own) for name, own in request.options.items() if own},
            python=_python(plan),
            backends=plan.backends,
        )
        for number, (request, plan) in enumerate(zip(requests, plans, strict=True))
    )
    return a, b


def _told(options: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Give options as they may be passed on: without the user's name in a path."""
    return {key: homeless(value) if isinstance(value, str) else value for key, value in options.items()}


def _own_subject(requests: Sequence[Request], number: int) -> Subject | None:
    own, other = requests[number].student, requests[1 - number].student
    if number == 0 or own.sha256 == other.sha256:
        return None
    return subject(own, read_card(own))


def _labels(requests: Sequence[Request], plans: Sequence[Plan]) -> list[str]:
    """Name each side by the facts in which they differ; `A` and `B` where there is none.

    Two backends have other versions of other things, which tell nothing.
    """
    facts = [_facts(request, plan) for request, plan in zip(requests, plans, strict=True)]
    if facts[0]["backend"] == facts[1]["backend"]:
        facts = [own | _versions(plan) for own, plan in zip(facts, plans, strict=True)]
    differing = [name for name in {**facts[0], **facts[1]} if facts[0].get(name) != facts[1].get(name)]
    words = [" ".join(own[name] for name in differing if own.get(name)) for own in facts]
    return [homeless(word) or letter for word, letter in zip(words, "AB", strict=True)]


def _facts(request: Request, plan: Plan) -> dict[str, str]:
    records = plan.records
    return {
        "student": request.student.name,
        "sha256": request.student.sha256[:8],
        "backend": _joined(record.cell.backend for record in records),
        "device": _joined(record.cell.device for record in records),
        "precision": _joined(record.cell.precision for record in records),
        "variant": _joined(record.cell.variant or "defaults" for record in records),
        "python": f"Python {_python(plan)}",
    }


def _versions(plan: Plan) -> dict[str, str]:
    """Give the versions of plugins and what they run by, each by itself: only unlike ones are told."""
    plugins = {one.distribution: one.version for one in plan.backends if one.distribution}
    versions = {name: version for job in plan.jobs for name, version in job.versions.items()}
    return {name: f"{name} {version}" for name, version in sorted({**plugins, **versions}.items())}


def _joined(words: Iterable[str]) -> str:
    return "+".join(dict.fromkeys(words))


def _python(plan: Plan) -> str:
    own = {job.python.version for job in plan.jobs if job.python}
    return next(iter(own), platform.python_version())


def _shifted(job: Job, by: int) -> Job:
    return replace(job, cells={batch: cell + by for batch, cell in job.cells.items()})


def _pairs(ours: Sequence[Job], theirs: Sequence[Job]) -> list[Pair]:
    """Pair the jobs of both sides, scenario by scenario: those of one key first, then the rest in order."""
    found: list[Pair] = []
    for scenario in dict.fromkeys(job.target.scenario for job in ours):
        a, b = ([job for job in jobs if job.target.scenario == scenario] for jobs in (ours, theirs))
        alike = {_key(job): job for job in reversed(b)}
        same = [(job, alike[_key(job)]) for job in a if _key(job) in alike]
        taken = {id(job) for pair in same for job in pair}
        left = ([job for job in jobs if id(job) not in taken] for jobs in (a, b))
        found += [*same, *zip(*left, strict=False)]
    return found


def _key(job: Job) -> tuple[object, ...]:
    return job.source.name, job.device.id, job.target.precision, job.student.role


def _numbered(records: list[CellRecord], jobs: Sequence[Job]) -> tuple[CellRecord, ...]:
    """Give both cells of a pair one number; say of every other planned cell that it has no counterpart."""
    number = 0
    for first, second in zip(jobs[::2], jobs[1::2], strict=True):
        for batch in first.cells:
            if batch in second.cells:
                for cell in (first.cells[batch], second.cells[batch]):
                    records[cell] = structs.replace(records[cell], pair=number)
                number += 1
    return tuple(one if one.pair is not None or one.status != "measured" else _alone(one) for one in records)


def _alone(record: CellRecord) -> CellRecord:
    reason = "It has no counterpart on the other side."
    return structs.replace(record, status="unsupported", phase="plan", reason=reason)


def _refuse_unlike(a: Plan, b: Plan) -> None:
    for what, ours, theirs in (
        ("batch sizes", a.profile.plan.batches, b.profile.plan.batches),
        ("threads", a.profile.plan.threads, b.profile.plan.threads),
    ):
        if ours != theirs:
            raise UsageError(
                f"The two sides of a trial must have the same {what}: A has {ours}, B has {theirs}.",
                hint="Give what both can do, such as --batch 1.",
            )


def _lacking(a: Plan, b: Plan) -> str:
    for letter, plan in (("A", a), ("B", b)):
        reasons = [one.reason for one in plan.records if one.reason]
        if not plan.jobs:
            return f"Side {letter} cannot be measured: {reasons[0] if reasons else 'no backend works here.'}"
    return "No cell of side A has a counterpart on side B."
