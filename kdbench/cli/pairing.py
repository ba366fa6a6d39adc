"""What the two sides of `kdbench ab` are, from what is given once or twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.cli.request import build
from kdbench.errors import UsageError

if TYPE_CHECKING:
    from kdbench.request import Request
    from kdbench.trial import TrialRequest

SIDES = 2
AS_IN_A_RUN: dict[str, Any] = {
    "blocks": None,
    "budget": None,
    "boundary": None,
    "evaluation": None,
    "weights": "trained",
    "max_drop": None,
    "with_teacher": False,
    "allow_fallback": False,
}
"""What a run may be asked for and a trial is not."""


def request_of(
    *, budget: float | None, blocks: int | None, rebuild: bool, pythons: Sequence[Path], **asked: Any
) -> TrialRequest:
    """Turn the options of `kdbench ab` into a request. Raises UsageError for what makes no two sides."""
    from kdbench.trial import BUDGET_S, TrialRequest

    if not asked["backends"]:
        raise UsageError(
            "A trial needs a backend.", hint="Give one with -b NAME, or two; `kdbench backends` lists them."
        )
    if blocks and budget:
        raise UsageError(
            "--blocks and --budget exclude each other.", hint="Give the one that matters to you."
        )
    for name in ("backends", "devices", "precisions"):
        if len(asked[name]) > SIDES:
            option = "-b" if name == "backends" else f"--{name.rstrip('s')}"
            raise UsageError(f"{option} is given {len(asked[name])} times, and a trial has two sides.")
    a, b = (_side(number, python, **asked) for number, python in enumerate(interpreters(pythons)))
    budget_s = None if blocks else budget or BUDGET_S
    return TrialRequest(a=a, b=b, output=a.output, budget_s=budget_s, blocks=blocks, rebuild=rebuild)


def _side(number: int, python: Path | None, **asked: Any) -> Request:
    """Make the request of one side, the first or the second of what is given twice."""
    backends = _pick(asked.pop("backends"), number)
    students = (asked.pop("student"), asked.pop("other"))
    options = (*asked.pop("both"), *(asked.pop("only_a"), asked.pop("only_b"))[number])
    made = build(
        student=students[1] if number and students[1] else students[0],
        backends=backends,
        devices=_pick(asked.pop("devices"), number),
        precisions=_pick(asked.pop("precisions"), number),
        settings=tuple((backends[0], key, value) for key, value in options),
        **AS_IN_A_RUN,
        **asked,
    )
    return replace(made, python=python)


def _pick(given: Sequence[Any], number: int) -> tuple[Any, ...]:
    return tuple(given[min(number, len(given) - 1) :][:1])


def interpreters(pythons: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """Give the interpreter of each side, None for this one; one alone is B's."""
    if len(pythons) > SIDES:
        raise UsageError(f"--python is given {len(pythons)} times, and a trial has two sides.")
    located = [_located(python) for python in pythons]
    return (located[0] if len(located) > 1 else None), (located[-1] if located else None)


def _located(python: Path) -> Path:
    """Check that an interpreter is a file that may be run; a bare name is not looked up."""
    if not python.is_file() or not os.access(python, os.X_OK):
        raise UsageError(
            f"--python {python} is no program that can be run.",
            hint="Give the interpreter of a virtual environment, such as .venv/bin/python.",
        )
    return python.absolute()
