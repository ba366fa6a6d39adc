"""Two plans made one: the jobs of both sides of a trial, each beside its counterpart."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdbench import estimate
from kdbench.errors import UsageError
from kdbench.header import subject
from kdbench.job import Job
from kdbench.plan import Plan
from kdbench.records import SideRecord, Trial
from kdbench.request import Request
from kdbench.spec import SideName
from kdbench.student import read_card


def merged(plans: Sequence[Plan], trial: Trial) -> Plan:
    """Put the plans of side a and side b together; the answer has the profile of side a.

    Raises UsageError where no job of one side has a counterpart on the other, or the plans differ in what
    both sides must have in common.
    """
    a, b = plans
    _refuse_unlike(a, b)
    shifted = [_shifted(job, len(a.records)) for job in b.jobs]
    pairs = _pairs(a.jobs, shifted)
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
        records=(*a.records, *b.records),
        jobs=jobs,
        backends=(*a.backends, *(one for one in b.backends if one.name not in known)),
        cpus=a.cpus,
        stages=estimate.stages(a.profile, jobs),
        trial=trial,
    )


_NAMES: tuple[SideName, SideName] = ("a", "b")


def described(requests: Sequence[Request], plans: Sequence[Plan]) -> tuple[SideRecord, SideRecord]:
    """Say what each side is, and label it by what tells it from the other."""
    labels = _labels(requests, plans)
    a, b = (
        SideRecord(
            side="a" if number == 0 else "b",
            label=labels[number],
            subject=_own_subject(requests, number),
            options={name: dict(own) for name, own in request.options.items() if own},
            python=_python(plan),
            backends=plan.backends,
        )
        for number, (request, plan) in enumerate(zip(requests, plans, strict=True))
    )
    return a, b


def _own_subject(requests: Sequence[Request], number: int) -> Any:
    own, other = requests[number].student, requests[1 - number].student
    if number == 0 or own.sha256 == other.sha256:
        return None
    return subject(own, read_card(own))


def _labels(requests: Sequence[Request], plans: Sequence[Plan]) -> list[str]:
    """Name each side by the facts in which they differ; `A` and `B` where there is none."""
    facts = [_facts(request, plan) for request, plan in zip(requests, plans, strict=True)]
    differing = [name for name in facts[0] if facts[0][name] != facts[1][name]]
    words = [" ".join(own[name] for name in differing if own[name]) for own in facts]
    return [word or letter for word, letter in zip(words, "AB", strict=True)]


def _facts(request: Request, plan: Plan) -> Mapping[str, str]:
    jobs, records = plan.jobs, plan.records
    versions = sorted(
        {f"{name} {version}" for job in jobs for name, version in job.versions.items()}
        if request.python
        else set()
    )
    return {
        "student": request.student.name if request.student.role == "student" else "teacher",
        "sha256": request.student.sha256[:8],
        "backend": _joined(record.cell.backend for record in records),
        "versions": ", ".join(versions),
        "python": f"Python {_python(plan)}" if request.python else "",
        "device": _joined(record.cell.device for record in records),
        "precision": _joined(record.cell.precision for record in records),
        "variant": _joined(record.cell.variant or "defaults" for record in records),
    }


def _joined(words: Any) -> str:
    return "+".join(dict.fromkeys(words))


def _python(plan: Plan) -> str:
    own = {job.python.version for job in plan.jobs if job.python}
    return next(iter(own), platform.python_version())


def _shifted(job: Job, by: int) -> Job:
    return replace(job, cells={batch: cell + by for batch, cell in job.cells.items()})


def _pairs(ours: Sequence[Job], theirs: Sequence[Job]) -> list[tuple[Job, Job]]:
    """Pair the jobs of both sides within each scenario: by their key where it is the same, else in order."""
    found = []
    for scenario in dict.fromkeys(job.target.scenario for job in ours):
        a = [job for job in ours if job.target.scenario == scenario]
        b = [job for job in theirs if job.target.scenario == scenario]
        same = [(one, next((two for two in b if _key(two) == _key(one)), None)) for one in a]
        if len(a) > 1 and any(two is not None for _, two in same):
            found += [(one, two) for one, two in same if two is not None]
        else:
            found += list(zip(a, b, strict=False))
    return found


def _key(job: Job) -> tuple[object, ...]:
    return job.source.name, job.device.id, job.target.precision, job.student.role


def _refuse_unlike(a: Plan, b: Plan) -> None:
    for what, ours, theirs in (
        ("batch sizes", a.profile.plan.batches, b.profile.plan.batches),
        ("threads", a.profile.plan.threads, b.profile.plan.threads),
        ("input", [(one.shape, one.dtype) for one in a.student.inputs], _inputs(b)),
    ):
        if what != "input" and ours != theirs:
            raise UsageError(
                f"The two sides of a trial must have the same {what}: A has {ours}, B has {theirs}.",
                hint="Give what both can do, such as --batch 1.",
            )


def _inputs(plan: Plan) -> list[tuple[object, ...]]:
    return [(one.shape, one.dtype) for one in plan.student.inputs]


def _lacking(a: Plan, b: Plan) -> str:
    for letter, plan in (("A", a), ("B", b)):
        reasons = [one.reason for one in plan.records if one.reason]
        if not plan.jobs:
            return f"Side {letter} cannot be measured: {reasons[0] if reasons else 'no backend works here.'}"
    return "No cell of side A has a counterpart on side B."
