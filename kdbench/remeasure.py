"""Measure again, side by side, what two result files tell of different times.

Only what can be had here is measured: the students by their sha256, the plugins and runtimes by their
versions. Nothing is installed, and no path that stands in a file is opened or run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from kdbench import nursery
from kdbench.errors import ResultError, StudentError, UsageError
from kdbench.plan import Plan
from kdbench.profile import load, resolve
from kdbench.records import BackendRecord, Result
from kdbench.request import Request
from kdbench.sections import BackendPlan, Profile
from kdbench.spec import Cell, Student
from kdbench.student import embedded, open_student
from kdbench.trial import BUDGET_S, TrialRequest

ASK = "Give --python of an environment that has it, once for each file."


def trial_request(
    results: Sequence[Result],
    output: Path,
    *,
    students: Sequence[Path] = (),
    pythons: Sequence[Path | None] = (None, None),
    budget_s: float = BUDGET_S,
    plugins: tuple[str, ...] | None = None,
    argv: tuple[str, ...] = (),
) -> TrialRequest:
    """Ask for a trial whose sides are what base and new measured, as far as both have it.

    students: folders of bundles to look for the files' students in, beside those with a name. pythons: the
    interpreters of base and new, None for this one. plugins, argv: as of any request. Raises UsageError where
    the files have no cell in common, or a student cannot be had.
    """
    for result in results:
        if result.trial is not None:
            raise UsageError(
                f"Run {result.run.id} is a trial already: it holds both sides.",
                hint="`kdbench compare FILE` says its verdict again.",
            )
    common = _common(results)
    sides = [
        Request(
            student=_found(result, students),
            profile=_profile(result, common),
            output=output,
            backends=tuple(dict.fromkeys(cell.backend for cell in common)),
            options=_options(result, common),
            python=python,
            plugins=plugins,
            argv=argv,
            notes=(f"Measured again from run {result.run.id} of {result.run.started_utc}.",),
        )
        for result, python in zip(results, pythons, strict=True)
    ]
    return TrialRequest(a=sides[0], b=sides[1], output=output, budget_s=budget_s)


def refuse_other_versions(results: Sequence[Result], plan: Plan) -> None:
    """Raise ResultError where a plugin or runtime of a side is not of the version that its file names."""
    if plan.trial is None:
        return
    for name, result, side in zip(("base", "new"), results, plan.trial.sides, strict=True):
        here = {one.name: one for one in side.backends}
        for told in result.backends:
            if told.name in here and (differing := _differing(told, here[told.name])):
                raise ResultError(
                    f"The {name} file was measured with {differing}.",
                    hint=ASK,
                )


def _differing(told: BackendRecord, here: BackendRecord) -> str:
    """Say which version differs; nothing where all that both tell are the same."""
    pairs = [
        ("the runtime of " + told.name, told.runtime_version, here.runtime_version),
        (told.distribution, told.version, here.version),
        *((name, version, here.versions.get(name, "")) for name, version in told.versions.items()),
    ]
    for what, then, now in pairs:
        if then and then != now:
            return f"{what} {then}, and {f'{now} is here' if now else 'it is not here'}"
    return ""


def _common(results: Sequence[Result]) -> list[Cell]:
    """Give the keys of students' cells that both files have figures of."""
    first, second = (
        {replace(one.cell, side=""): one for one in result.cells if one.summary is not None}
        for result in results
    )
    found = [cell for cell in first if cell in second and cell.network == "student"]
    if not found:
        raise UsageError(
            "The two files have no cell in common that was measured in both.",
            hint="`kdbench ab` alternates any two sides.",
        )
    if len({cell.threads for cell in found}) > 1 or len({cell.boundary for cell in found}) > 1:
        raise UsageError("The files mix thread counts, which a trial cannot.", hint="Use `kdbench ab`.")
    return found


def _found(result: Result, students: Sequence[Path]) -> Student:
    """Find the student of a file by its sha256: among those with a name, then in the folders given."""
    wanted, name = result.subject.student_sha256, result.subject.student
    for student in _candidates(name, students):
        if student.sha256 == wanted:
            return student
    raise UsageError(
        f"The student {name} of run {result.run.id} (sha256 {wanted[:12]}…) is not here.",
        hint="Give the folder of its bundle with --student.",
    )


def _candidates(name: str, students: Sequence[Path]) -> Iterator[Student]:
    if name in embedded():
        yield open_student(name)
    elif name in nursery.makeable():
        for weights in nursery.WEIGHTS:
            if (kept := nursery.kept(name, weights)) is not None:
                yield kept
    for folder in students:
        if not folder.is_dir():
            raise StudentError(f"--student {folder} is no folder.", hint="Give the folder of a bundle.")
        yield open_student(str(folder))


def _profile(result: Result, common: Sequence[Cell]) -> Profile:
    """Take what spans the cells from the file, and how they are alternated from the profile `ab`."""
    cells = list(common)
    plan = structs.replace(
        load("ab").plan,
        shapes="dynamic" if "shapes=dynamic" in cells[0].variant else "static",
        boundary=cells[0].boundary,
    )
    # Numbers from a file are checked as those of a command line are.
    base = resolve(
        structs.replace(load("ab"), plan=plan),
        student=result.subject.student,
        precisions=tuple(dict.fromkeys(cell.precision for cell in cells)),
        batches=tuple(sorted({cell.batch for cell in cells})),
        scenarios=tuple(dict.fromkeys(cell.scenario for cell in cells)),
        threads=cells[0].threads,
    )
    names = tuple(dict.fromkeys(cell.backend for cell in cells))
    own = {
        name: BackendPlan(
            precisions=tuple(dict.fromkeys(cell.precision for cell in cells if cell.backend == name)),
            devices=tuple(dict.fromkeys(cell.device for cell in cells if cell.backend == name)),
        )
        for name in names
    }
    return structs.replace(base, plan=structs.replace(base.plan, backends=names), backends=own)


def _options(result: Result, common: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Give the options that a file's run set, by backend; the backends check them like any others."""
    try:
        told = msgspec.convert(result.run.profile.get("backends", {}), dict[str, BackendPlan])
    except msgspec.ValidationError as fault:
        raise ResultError(f"The profile of run {result.run.id} is not one: {fault}.") from fault
    names = {cell.backend for cell in common}
    options = {name: dict(own.options) for name, own in told.items() if name in names and own.options}
    for name, own_options in options.items():
        for key, value in own_options.items():
            if isinstance(value, str) and any(mark in value for mark in "/\\~"):
                raise ResultError(
                    f"Run {result.run.id} sets {name}.{key} to a path, and no path from a file is opened.",
                    hint=f"Type it yourself: kdbench ab -b {name} -o {key}=…",
                )
    return options
