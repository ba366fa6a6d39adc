"""What holds for compile: where it writes, what its artifact survives, and what can be asked of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdbench.errors import Unsupported
from kdbench.spec import Placement, Scalar
from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.fresh import ask, kept
from kdbench.testing.opened import agreement_fault, copied, logits_of
from kdbench.wire import encode

if TYPE_CHECKING:
    from kdbench.spec import Array, Option, Precision, Target
    from kdbench.testing.subject import Subject

WATCHED = {
    "bundle": "the student's bundle",
    "here": "the folder in which the process runs",
    "home": "the home folder",
    "temporary": "the folder for temporary files, and left it there",
}
FOLDERS = {"HOME": "home", "XDG_CACHE_HOME": "home/.cache", "TMPDIR": "temporary"}
"""Which of these folders a variable of the environment names."""


@check(
    "The student compiles, loads and runs on the first device, with every option at its default.",
    hook="kdbench_compile",
    section="the-five",
)
def opens(subject: Subject) -> None:
    """Do it."""
    _ = subject.available
    opened = subject.open()
    opened.runner(1)(opened.batch(0, 1))


@check(
    "kdbench_compile writes nowhere but in its workdir.",
    hook="kdbench_compile",
    section="the-five",
    apart=True,
)
def compile_confined(subject: Subject) -> None:
    """Compile in a fresh process with folders of its own for all that it could take for its own."""
    compiled = _compiled(subject)
    for name, words in WATCHED.items():
        if written := compiled.written[name]:
            raise Broken(f"It wrote {', '.join(written[:3])} in {words}.")
        if gone := compiled.gone[name]:
            raise Broken(f"It took {', '.join(gone[:3])} away from {words}.")


@check(
    "An artifact survives JSON, another folder and another process.",
    hook="kdbench_load",
    section="the-five",
    apart=True,
)
def artifact_travels(subject: Subject) -> None:
    """Load in a fresh process what another one compiled, after its folder was moved and its bundle gone."""
    opened, compiled = subject.opened, _compiled(subject)
    errand = kept(opened) | {"artifact": compiled.artifact, "workdir": str(compiled.workdir)}
    there = ask(subject, "answer", errand)
    here = copied(opened.runner(1)(opened.batch(0, 1)))
    arrays = tuple(
        np.array(values, array.dtype) for values, array in zip(there["outputs"], here, strict=True)
    )
    opened.hold_close(here, arrays, "Answers here and in a process that loaded the moved artifact")


@check(
    "Every precision that is declared runs, or is refused as Unsupported with a hint.",
    hook="kdbench_compile",
    section="the-five",
)
def precisions_tried(subject: Subject) -> None:
    """Compile and load in each."""
    ran = 0
    for precision, outcome in tried_precisions(subject).items():
        if isinstance(outcome, Unsupported):
            _hold_hint(outcome, f"precision {precision}")
        elif isinstance(outcome, BaseException):
            raise Broken(f"In {precision} it failed: {outcome}") from outcome
        else:
            ran += 1
    if not ran:
        raise Broken("It refused every precision that it declares.")


@check(
    "In every precision that runs, the answers agree with the reference.",
    hook="kdbench_run",
    section="the-runner",
)
def agrees_with_reference(subject: Subject) -> None:
    """Run the evaluation split in each: fp32 held to the logits, others to the labels."""
    for precision, outcome in tried_precisions(subject).items():
        if not isinstance(outcome, BaseException) and (
            fault := agreement_fault(subject.opened, outcome[1], precision)
        ):
            raise Broken(fault)


@check(
    "Every declared choice of an option works, or is refused as Unsupported with a hint.",
    hook="kdbench_compile",
    section="the-five",
)
def options_tried(subject: Subject) -> None:
    """Try each choice by itself, the others at their defaults."""
    opened, options = subject.opened, subject.backend.info.options
    if not options:
        raise Skipped("It declares no option.")
    for option in options:
        for choice in _choices(option):
            given = {**opened.target.options, option.name: choice}
            label = f"{option.name}={json.dumps(choice) if isinstance(choice, bool) else choice}"
            if given == opened.target.options or label in subject.settings.untried:
                continue
            try:
                _, logits = _try(subject, replace(opened.target, options=given))
            except Unsupported as refusal:
                _hold_hint(refusal, label)
            except Exception as error:
                raise Broken(f"With {label} it failed: {error}") from error
            else:
                if fault := agreement_fault(opened, logits, opened.target.precision):
                    raise Broken(f"With {label}: {fault}")


def tried_precisions(subject: Subject) -> dict[Precision, tuple[Placement, Array] | BaseException]:
    """Give placement and logits in each declared precision, or what was raised there."""
    opened = subject.opened

    def attempt(precision: Precision) -> tuple[Placement, Array] | BaseException:
        if precision == opened.target.precision:
            return opened.session.placement, logits_of(opened, opened.session)
        try:
            return _try(subject, replace(opened.target, precision=precision))
        except Exception as error:
            return error

    declared = subject.backend.info.precisions
    return subject.once("precisions", lambda: {precision: attempt(precision) for precision in declared})


def _try(subject: Subject, target: Target) -> tuple[Placement, Array]:
    """Compile, load and run the split for a target, and close."""
    opened = subject.opened
    backend = opened.backend
    session = backend.load(backend.compile(opened.student, target, subject.folder("artifact")), target)
    try:
        return session.placement, logits_of(opened, session)
    finally:
        session.close()


def _choices(option: Option) -> tuple[Scalar, ...]:
    return option.choices or ((False, True) if option.type == "bool" else ())


def _hold_hint(refusal: Unsupported, what: str) -> None:
    if not refusal.hint.strip():
        raise Broken(f"It refused {what} without a hint: {refusal.message}")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What a fresh process compiled, and the files around it that it wrote or took away, by folder."""

    artifact: str
    workdir: Path
    written: dict[str, list[str]]
    gone: dict[str, list[str]]


def _compiled(subject: Subject) -> _Compiled:
    """Compile apart, once; then the artifact lies elsewhere, and the bundle that it was made of is gone."""
    opened = subject.opened

    def make() -> _Compiled:
        scene, moved = subject.folder("scene"), subject.folder("moved") / "artifact"
        for name in ("here", "home", "temporary", "work"):
            (scene / name).mkdir()
        shutil.copytree(opened.student.root, scene / "bundle")
        asked = {
            "student": str(scene / "bundle"),
            "target": encode(opened.target).decode(),
            "workdir": str(scene / "work"),
            "watched": {name: str(scene / name) for name in WATCHED},
        }
        changed = {name: str(scene / folder) for name, folder in FOLDERS.items()}
        done = ask(subject, "compile_there", asked, environment=changed, folder=scene / "here")
        shutil.move(scene / "work", moved)
        shutil.rmtree(scene / "bundle")
        return _Compiled(done["artifact"], moved, done["written"], done["gone"])

    return subject.once("compiled", make)


CHECKS = (opens, compile_confined, artifact_travels, precisions_tried, agrees_with_reference, options_tried)
