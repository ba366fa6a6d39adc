"""Ask the backends: which exist, which work here, and what can be measured of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kdbench import cache, environment, roster
from kdbench.plan import Plan, plan
from kdbench.progress import Progress, Report
from kdbench.records import BackendRecord
from kdbench.request import Request
from kdbench.sections import Limits


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


def planned(request: Request, folder: Path, report: Report | None) -> Plan:
    """Ask the backends, and plan what was asked for. folder: where logs of backends that fail are kept."""
    if report:
        report(Progress("probe", "asking every backend", 0.0))
    named = request.backends or request.profile.plan.backends
    here = roster.names(request.plugins)
    if request.python is not None:
        seen = request.plugins
        here = tuple(one for one in roster.foreign_names(request.python) if seen is None or one.name in seen)
    asked = roster.probe(roster.chosen(here, named), cache.user_folder(), folder, request.profile.limits)
    return plan(replace(request, backends=named), asked, environment.usable_cores())
