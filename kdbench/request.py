"""What the user asked for, kept in a result file such that a run can be resumed from its journal alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import structs

from kdbench.errors import ResultError
from kdbench.problems import told
from kdbench.records import Result
from kdbench.sections import BackendPlan, Profile
from kdbench.spec import Scalar, Student
from kdbench.student import open_student


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


def resolved(request: Request, profile: Profile, found: Sequence[str]) -> Profile:
    """Put all that was asked for into the profile; `found` are the backends that the devices are asked of."""
    names = request.backends or profile.plan.backends
    own = dict(profile.backends)
    placed = found if request.devices else ()
    for name in dict.fromkeys([*own, *request.options, *placed]):
        mine = own.get(name, BackendPlan())
        options = {**mine.options, **request.options.get(name, {})}
        own[name] = structs.replace(mine, options=options, devices=request.devices or mine.devices)
    student = homeless(profile.plan.student)
    plan = structs.replace(profile.plan, backends=tuple(names), student=student)
    return structs.replace(profile, plan=plan, backends=own)


def asked_before(before: Result, output: Path) -> Request:
    """Make the request of an interrupted run again from what its journal holds."""
    try:
        profile = msgspec.convert(before.run.profile, Profile)
    except msgspec.ValidationError as fault:
        raise ResultError(
            f"The journal's profile is not one: {told(fault)}.", hint="Start a new run."
        ) from fault
    student = open_student(str(Path(profile.plan.student).expanduser()))
    return Request(student=student, profile=profile, output=output, backends=profile.plan.backends)


def homeless(text: str) -> str:
    """Leave the user's name out of a path: results are made to be passed on."""
    home = re.escape(str(Path.home()))
    return re.sub(rf"(?<![^=:,\s]){home}(?=/|$)", "~", text)
