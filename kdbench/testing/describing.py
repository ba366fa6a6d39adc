"""What holds before anything is compiled: import, describe and probe."""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from kdbench.spec import Unavailable
from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.fresh import ask
from kdbench.wire import decode_availability, encode

if TYPE_CHECKING:
    from kdbench.testing.subject import Subject


@check("The plugin imports, and has the five hooks and a sound description.", section="errors")
def connects(subject: Subject) -> None:
    """Import it and connect it."""
    subject.connect()


@check("Importing and describing imports no vendor library.", section="the-five", apart=True)
def import_light(subject: Subject) -> None:
    """Look what a fresh process has imported after both."""
    there = _described(subject)
    top = {module.split(".")[0] for module in there["modules"]}
    vendors = top & _modules(_alike(subject.backend.info.distributions))
    # What is native is a library and no description; kdbench and what it needs itself are here anyway.
    allowed = _modules(_alike({subject.source.distribution, "kdbench", *_needs("kdbench")}))
    provided = metadata.packages_distributions()
    foreign = {module.split(".")[0] for module in there["native"]} & set(provided) - allowed
    if found := sorted(vendors | foreign):
        raise Broken(f"A fresh process that only described it has imported {', '.join(found)}.")


@check(
    "kdbench_describe gives the same answer every time, in every process.",
    hook="kdbench_describe",
    section="the-five",
    apart=True,
)
def describe_constant(subject: Subject) -> None:
    """Ask twice here, and once in a fresh process."""
    backend = subject.backend
    first = encode(backend.info).decode()
    answers = (
        ("a second call", encode(backend.describe()).decode()),
        ("another process", str(_described(subject)["info"])),
    )
    for where, again in answers:
        if again != first:
            then, now = json.loads(first), json.loads(again)
            differing = [
                f"{name} was {then[name]!r} and is {now[name]!r}" for name in then if then[name] != now[name]
            ]
            raise Broken(f"In {where}, {'; '.join(differing)}.")


@check(
    "kdbench_probe answers Available or Unavailable, with devices and precisions that were described.",
    hook="kdbench_probe",
    section="the-five",
)
def probe_answers(subject: Subject) -> None:
    """Probe here."""
    subject.probe()


@check(
    "Where its vendor's library is missing, kdbench_probe answers Unavailable, with what mends it.",
    hook="kdbench_probe",
    section="the-five",
    apart=True,
)
def probe_without_vendor(subject: Subject) -> None:
    """Probe in a fresh process that cannot import what the plugin declares as its distributions."""
    declared = _alike(subject.backend.info.distributions)
    hidden = _modules(declared - _alike({"kdbench", subject.source.distribution, *_needs("kdbench")}))
    if not hidden:
        raise Skipped("None of the distributions that it declares is installed, but for those kdbench needs.")
    answer = ask(subject, "probe", {"hidden": sorted(hidden)})
    if raised := answer.get("raised"):
        raise Broken(f"Without {', '.join(sorted(hidden))} it raised: {raised}")
    found = decode_availability(answer["answer"].encode())
    if not isinstance(found, Unavailable):
        raise Broken(f"Without {', '.join(sorted(hidden))} it still answered Available.")
    if not found.fix.strip():
        raise Broken(f"It answered Unavailable({found.reason!r}) without a fix.")


def _described(subject: Subject) -> dict[str, Any]:
    _ = subject.backend
    return subject.once("described", lambda: ask(subject, "describe", {}))


def _alike(names: set[str] | tuple[str, ...]) -> set[str]:
    """Spell names of distributions as the index compares them."""
    return {re.sub(r"[-_.]+", "-", name).casefold() for name in names}


def _modules(names: set[str]) -> set[str]:
    """List the top-level modules that distributions of these names have installed."""
    provided = metadata.packages_distributions()
    return {module for module, providers in provided.items() if _alike(tuple(providers)) & names}


def _needs(name: str) -> set[str]:
    """Name what a distribution requires without any of its extras."""
    required = metadata.requires(name) or ()
    return {
        match[0]
        for line in required
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line))
    }  # fmt: skip


CHECKS = (connects, import_light, describe_constant, probe_answers, probe_without_vendor)
