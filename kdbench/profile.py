"""Profiles: declared measurement plans, read from TOML with every problem told at once.

A profile is found as a path, else as `./profiles/NAME.toml`, else among those that ship with kdbench.
What it leaves out has the values of `quick`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import structs

from kdbench.errors import ProfileError
from kdbench.problems import nearest, problems, quote, read_toml, sentence
from kdbench.sections import BackendPlan, Document, Phase, Profile as Profile
from kdbench.spec import Boundary, Precision, Scenario
from kdbench.strict import clean

MOST_TOLD = 20
"""So many problems are told of one profile; a file with more is probably none."""


def load(name_or_path: str | Path) -> Profile:
    """Read a profile by name or path.

    Raises ProfileError, naming the file and every problem in it, or the nearest name for an unknown one.
    """
    path = _locate(name_or_path)
    document = _document(path)
    if found := list(_problems(document)):
        raise _refusal(str(path), found)
    return msgspec.convert(document | {"name": clean(path.stem).strip() or "profile"}, Profile)


def check(path: str | Path) -> tuple[str, ...]:
    """Tell every problem of a profile, each with its key path; nothing if it can be used.

    Raises ProfileError where the file is missing or is no TOML.
    """
    return tuple(_problems(_document(_locate(path))))


def available() -> dict[str, str]:
    """Give the summary of every profile that has a name here, the shipped ones first."""
    return {path.stem: _summary(path) for path in _named().values()}


def resolve(
    profile: Profile,
    *,
    student: str | None = None,
    precisions: tuple[Precision, ...] | None = None,
    batches: tuple[int, ...] | None = None,
    scenarios: tuple[Scenario, ...] | None = None,
    threads: int | Literal["cores", "vendor"] | None = None,
    boundary: Boundary | None = None,
    blocks: int | None = None,
    max_drop: float | Literal["resolution"] | None = None,
    with_teacher: bool | None = None,
    allow_fallback: bool | None = None,
    observers: tuple[str, ...] | None = None,
    limits: Mapping[Phase, float] | None = None,
) -> Profile:
    """Put what a command line asks for in the place of what the profile says; None changes nothing.

    precisions: for every backend. blocks: of latency and of throughput. max_drop: percentage points.
    limits: seconds by phase.
    Raises ProfileError where that makes no sense.
    """
    plan = {
        "student": student,
        "precisions": precisions,
        "batches": batches,
        "scenarios": scenarios,
        "threads": threads,
        "boundary": boundary,
        "with_teacher": with_teacher,
        "allow_fallback": allow_fallback,
    }
    resolved = structs.replace(
        profile,
        backends=_asked_alike(profile, precisions),
        plan=_replace(profile.plan, plan),
        latency=_replace(profile.latency, {"blocks": blocks}),
        throughput=_replace(profile.throughput, {"blocks": blocks}),
        observe=_replace(profile.observe, {"observers": observers}),
        accuracy=_replace(profile.accuracy, {"max_drop": max_drop}),
        limits=_replace(profile.limits, {f"{phase}_s": seconds for phase, seconds in (limits or {}).items()}),
    )
    if found := list(_problems(_plain(resolved))):
        raise _refusal(f"{profile.name} as asked for", found)
    return resolved


def to_toml(profile: Profile) -> str:
    """Write a profile with every value, so that `load` of that text gives the same plan."""
    plain = _plain(profile)
    backends = plain.pop("backends")
    lines = [f"{key} = {_value(plain.pop(key))}" for key in ("schema", "summary")]
    tables = plain | {f"backends.{_value(name)}": table for name, table in backends.items()}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _named() -> dict[str, Path]:
    """Find the profiles that have a name: the shipped ones, and over them those in `./profiles`."""
    with resources.as_file(resources.files("kdbench.profiles")) as folder:
        shipped = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return shipped | {path.stem: path for path in sorted(Path("profiles").glob("*.toml"))}


def _locate(name_or_path: str | Path) -> Path:
    path, text = Path(name_or_path), str(name_or_path)
    if path.is_file():
        return path
    if path.suffix == ".toml" or path.name != text:
        if path.exists():
            raise ProfileError(f"{quote(text)} is not a file.", hint="A profile is a TOML file.")
        raise ProfileError(f"There is no profile file {quote(text)}.")
    named = _named()
    if text not in named:
        meant = nearest(text, named)
        hint = f"Did you mean {meant}?" if meant else f"There are {', '.join(named)}."
        raise ProfileError(f"There is no profile named {quote(text)}.", hint=hint)
    return named[text]


def _document(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as exc:
        raise ProfileError(f"{path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise ProfileError(f"{path} {exc}.") from exc


def _problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with single values, and if nothing is, what does not go together."""
    single = list(problems(document, Document))
    yield from single
    if single:
        return
    whole = msgspec.convert(document, Document)
    latency = whole.latency
    if latency.warm_up_max_s < latency.warm_up_s:
        yield f"latency.warm_up_max_s must be at least latency.warm_up_s ({latency.warm_up_s:g})"
    if latency.calls_aim < latency.calls_min:
        yield f"latency.calls_aim must be at least latency.calls_min ({latency.calls_min})"
    if whole.crossover.largest:
        yield from _searched(whole)


def _searched(whole: Document) -> Iterator[str]:
    """Yield what does not go with a search for the batch sizes at which one overtakes another."""
    if whole.crossover.largest < max(whole.plan.batches):
        yield f"crossover.largest must be at least the largest of plan.batches ({max(whole.plan.batches)})"
    if whole.tail.duration_s:
        yield "tail.duration_s must be 0 where crossover.largest is set: a search has no stretches"
    if whole.memory.measure:
        yield "memory.measure must be false where crossover.largest is set: a search measures speed alone"
    if whole.observe.observers:
        yield "observe.observers must be empty where crossover.largest is set: a search is not observed"


def _refusal(what: str, found: list[str]) -> ProfileError:
    if len(found) == 1:
        return ProfileError(sentence(f"{what}: {found[0]}"))
    told = [f"  {one}" for one in found[:MOST_TOLD]]
    more = [f"  and {len(found) - MOST_TOLD} more"] if len(found) > MOST_TOLD else []
    return ProfileError("\n".join([f"{what} has {len(found)} problems:", *told, *more]))


def _summary(path: Path) -> str:
    try:
        return load(path).summary
    except ProfileError:
        return f"Cannot be used; `kdbench profiles check {path}` says why."


def _plain(profile: Profile) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(profile)
    del plain["name"]
    return plain


def _replace(section: Any, values: Mapping[str, object]) -> Any:
    return structs.replace(section, **{key: value for key, value in values.items() if value is not None})


def _asked_alike(profile: Profile, precisions: tuple[Precision, ...] | None) -> dict[str, BackendPlan]:
    """Let precisions that were asked for on the command line hold for every backend."""
    if precisions is None:
        return profile.backends
    return {name: structs.replace(plan, precisions=()) for name, plan in profile.backends.items()}


def _value(value: Any) -> str:
    """Write one value as TOML; JSON's scalars and strings are TOML's too."""
    match value:
        case dict():
            inside = ", ".join(f"{_value(key)} = {_value(one)}" for key, one in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
