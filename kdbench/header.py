"""What a result says before anything is measured, and whether a resumed run may go on under it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import msgspec

from kdbench import __version__, environment, floors, nvidia
from kdbench.card import Card
from kdbench.errors import ResultError
from kdbench.manifest import Parcel
from kdbench.plan import Plan
from kdbench.records import ParcelRecord, Result, Run, Subject
from kdbench.request import Request, homeless, resolved
from kdbench.spec import Student
from kdbench.student import load_labels, read_card


def header(request: Request, planned: Plan) -> Result:
    """Give the result as it stands before anything is measured: the first line of the journal."""
    card = read_card(request.student)
    names = [one.name for one in planned.backends]
    return Result(
        run=Run(
            id=str(uuid.uuid4()),
            started_utc=now(),
            argv=tuple(homeless(word) for word in request.argv),
            kdbench=__version__,
            profile=msgspec.to_builtins(resolved(request, planned.profile, names)),
            notes=planned.notes,
            room=dict(planned.room),
            parcels=tuple(map(_parcel, request.parcels)),
        ),
        subject=subject(request.student, card),
        environment=_environment(planned),
        backends=planned.backends,
        cells=planned.records,
        trial=planned.trial,
        floors=tuple(one for one in floors.load() if one.backend in names),
    )


def refuse_other_conditions(before: Result, planned: Plan, request: Request) -> None:
    """Raise ResultError unless student, plan, machine and versions are what the run began with."""
    again = "Start a new one: `kdbench run`."
    if before.subject.student_sha256 != request.student.sha256:
        raise ResultError(f"The student {before.subject.student} is not what it was.", hint=again)
    if tuple(one.cell for one in before.cells) != planned.cells:
        raise ResultError("The backends found now give another plan than the run began with.", hint=again)
    if differing := environment.differences(before.environment, _environment(planned)):
        raise ResultError(f"The run cannot go on: {'; '.join(differing)}.", hint=again)


def now() -> str:
    """Give the time as a result file has it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def subject(student: Student, card: Card) -> Subject:
    """Describe what is measured."""
    teacher, labels = card.teacher, load_labels(student)
    return Subject(
        student=student.name,
        student_sha256=student.sha256,
        task=student.task,
        classes=student.classes,
        trained=card.trained,
        labelled=card.data.labelled,
        parameters=student.parameters,
        macs=student.macs,
        data=card.data.generator,
        data_sha256=card.files["evaluation"].sha256,
        images=card.data.evaluation,
        labels=labels,
        teacher=teacher.name if teacher else "",
        teacher_sha256=teacher.sha256 if teacher else "",
        teacher_parameters=teacher.parameters if teacher else None,
        ladder=tuple(msgspec.to_builtins(row) for row in card.ladder),
    )


def _parcel(one: Parcel) -> ParcelRecord:
    origin = one.manifest.origin
    return ParcelRecord(
        folder=homeless(str(one.root)),
        sha256=one.sha256,
        created_utc=origin.created_utc,
        kdbench=origin.kdbench,
        python=origin.python,
        machine=origin.machine,
        cpu=origin.cpu,
    )


def _environment(planned: Plan) -> dict[str, object]:
    here = [one.info for one in planned.jobs if one.python is None]
    used = {one.device.uuid for one in planned.jobs} - {""}
    gpus = [one for one in nvidia.facts() if one.get("uuid") in used] if used else []
    return environment.host({name for info in here for name in info.distributions}, gpus=gpus)
