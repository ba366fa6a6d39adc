"""Ask the backends: which exist, which work here, and what can be measured of what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from kdbench import cache, environment, nvidia, roster
from kdbench.bisection import ladder
from kdbench.plan import Plan, plan
from kdbench.progress import Progress, Report
from kdbench.records import BackendRecord
from kdbench.request import Request
from kdbench.sections import Limits, Profile
from kdbench.spec import Available


def survey(
    *, probe: bool, report: Report | None = None, plugins: Sequence[str] | None = None
) -> tuple[BackendRecord, ...]:
    """Tell what backends exist and, with `probe`, whether each works here; the known ones come last."""
    if report:
        report(Progress("probe", "asking every backend", 0.0))
    found, folder = roster.names(plugins), cache.user_folder()
    look = roster.probe if probe else roster.describe
    asked = look(found, folder, folder / "logs", Limits())
    return (*(roster.record(one) for one in asked), *roster.missing(found))


def planned(
    request: Request, folder: Path, report: Report | None, room: Mapping[str, int] | None = None
) -> Plan:
    """Ask the backends, and plan what was asked for. folder: where logs of backends that fail are kept.

    room: that of the run that goes on, see `Plan`; None to find it out.
    """
    if report:
        report(Progress("probe", "asking every backend", 0.0))
    named = request.backends or request.profile.plan.backends
    here = roster.names(request.plugins)
    if request.python is not None:
        seen = request.plugins
        here = tuple(one for one in roster.foreign_names(request.python) if seen is None or one.name in seen)
    asked = roster.probe(roster.chosen(here, named), cache.user_folder(), folder, request.profile.limits)
    free_bytes = {} if room is not None else free_bytes_of(asked)
    wanted = replace(request, backends=named, profile=_climbing(request))
    return plan(wanted, asked, environment.usable_cores(), free_bytes, room)


def _climbing(request: Request) -> Profile:
    """Give the profile with the batch sizes that a search begins with, where it asks for one."""
    profile, largest = request.profile, request.profile.crossover.largest
    if not largest or request.student.batch is not None:
        return profile
    batches = ladder(profile.plan.batches, largest)
    return structs.replace(profile, plan=structs.replace(profile.plan, batches=batches))


def free_bytes_of(asked: Sequence[roster.Found]) -> dict[str, int]:
    """Ask NVML how much memory is free where a backend told of a GPU; elsewhere nothing is asked."""
    answers = [one.answer for one in asked if isinstance(one.answer, Available)]
    if not any(device.uuid for answer in answers for device in answer.devices):
        return {}
    return {one["uuid"]: one["free_bytes"] for one in nvidia.facts() if one.get("free_bytes")}
