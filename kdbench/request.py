"""What the user asked for, kept in a result file such that a run can be resumed from its journal alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import msgspec
from msgspec import structs

from kdbench.errors import ResultError, StudentError, UsageError
from kdbench.manifest import Parcel
from kdbench.problems import told
from kdbench.profile import resolve
from kdbench.records import Result
from kdbench.sections import BackendPlan, Plan, Profile
from kdbench.spec import Scalar, SideName, Student
from kdbench.student import embedded, open_student, teacher_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. `backends` are those named; none means every available one.

    options: by backend, as text or typed. budget_s: how long the whole run may take, or None.
    plugins: names to look at instead of all that are installed; None for all.
    notes: what the result shall tell of how the request came about.
    side: which side of a trial it is. python: the interpreter whose backends are meant, None for this one.
    parcels: what brings the artifacts, in the place of compiling them here; the profile's plan then says
    which of them are wanted.
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
    notes: tuple[str, ...] = ()
    side: SideName = ""
    python: Path | None = None
    parcels: tuple[Parcel, ...] = ()


def networks(student: Student, plan: Plan) -> tuple[Student, ...]:
    """Give what is to be measured: the student, and its teacher where the plan says so.

    Raises UsageError where the bundle keeps no teacher.
    """
    if not plan.with_teacher:
        return (student,)
    try:
        return student, teacher_of(student)
    except StudentError as fault:
        raise UsageError(
            f"--with-teacher measures a bundle's own teacher, and the bundle of {student.name} keeps none.",
            hint=fault.hint,
        ) from fault


def fitted(
    profile: Profile, student: Student, *, precisions_asked: bool, batches_asked: bool
) -> tuple[Profile, tuple[str, ...]]:
    """Measure a student in its own precision and batch size, where nobody asked for others; and say so."""
    own, batch, notes = student.precision, student.batch, []
    if own != "fp32" and not precisions_asked:
        profile = resolve(profile, precisions=(own,))
        notes.append(f"The network is stored in {own}, which takes the place of the profile's precisions.")
    if batch is not None and not batches_asked and profile.plan.batches != (batch,):
        profile = resolve(profile, batches=(batch,))
        notes.append(f"The network takes batches of {batch} only, in place of the profile's batch sizes.")
    return profile, tuple(notes)


def resolved(request: Request, profile: Profile, found: Sequence[str]) -> Profile:
    """Put all that was asked for into the profile; `found` are the backends that the devices are asked of."""
    names = request.backends or profile.plan.backends
    own = dict(profile.backends)
    placed = found if request.devices else ()
    for name in dict.fromkeys([*own, *request.options, *placed]):
        mine = own.get(name, BackendPlan())
        options = {**mine.options, **request.options.get(name, {})}
        own[name] = structs.replace(mine, options=options, devices=request.devices or mine.devices)
    plan = structs.replace(profile.plan, backends=tuple(names), student=named(request.student))
    return structs.replace(profile, plan=plan, backends=own)


def asked_before(before: Result, output: Path) -> Request:
    """Make the request of an interrupted run again from what its journal holds."""
    try:
        profile = msgspec.convert(before.run.profile, Profile)
    except msgspec.ValidationError as fault:
        raise ResultError(
            f"The journal's profile is not one: {told(fault)}.", hint="Start a new run."
        ) from fault
    if before.trial is not None:
        raise ResultError(
            "A trial cannot be taken up again: its blocks must follow one another.",
            hint="Start it anew: `kdbench ab`. `kdbench compare` tells what the finished blocks say.",
        )
    student = _opened_again(profile.plan.student)
    return Request(student=student, profile=profile, output=output, backends=profile.plan.backends)


def _opened_again(where: str) -> Student:
    """Open the student that a journal names, by what `named` wrote."""
    path = Path(where).expanduser()
    if where not in embedded() and not path.exists():
        raise StudentError(
            f"The student of this run is gone: there is no {str(path)!r}.",
            hint="Put its folder back there, or start a new run, which makes it again.",
        )
    return open_student(str(path))


def named(student: Student) -> str:
    """Give what opens a student again from anywhere: the name of an embedded one, else its folder."""
    root = student.root
    if root.name in embedded() and root.parent == Path(str(resources.files("kdbench.students"))):
        return root.name
    return homeless(str(root))


def homeless(text: str) -> str:
    """Leave the user's name out of a path: results are made to be passed on."""
    home = re.escape(str(Path.home()))
    return re.sub(rf"(?<![^=:,\s]){home}(?=/|$)", "~", text)
