"""Which artifacts of parcels a run wants, and whether they go together.

What a parcel holds takes the place of a profile's plan; what is asked for beside it picks some of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from kdbench.device import meant
from kdbench.errors import UsageError
from kdbench.manifest import Packed, Parcel
from kdbench.sections import Profile
from kdbench.strict import clean


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artifact that is wanted, its parcel, and the batch sizes that are wanted of it."""

    parcel: Parcel
    packed: Packed
    batches: tuple[int, ...]


def adopted(
    profile: Profile, parcels: Sequence[Parcel], devices: Sequence[str] = (), **asked: Sequence[Any]
) -> Profile:
    """Put what the parcels hold into the place of the profile's plan, as far as it was asked for.

    asked: `backends`, `precisions`, `batches` and `scenarios`, each empty for all that there are; `threads`,
    one or none. Raises UsageError for anything asked for that no parcel holds, and for parcels that do not go
    together.
    """
    _refuse_unlike(profile, parcels)
    held = [packed for one in parcels for packed in one.manifest.artifacts]
    for wish in devices:
        _refuse_lacking("device", wish, [one.device.id for one in held], _fits(wish, held))
    plan = structs.replace(
        profile.plan,
        backends=_picked("backend", asked.get("backends", ()), [one.backend for one in held]),
        precisions=_picked("precision", asked.get("precisions", ()), [one.target.precision for one in held]),
        batches=_picked(
            "batch size", asked.get("batches", ()), [size for one in held for size in one.target.batch_sizes]
        ),
        scenarios=_picked("scenario", asked.get("scenarios", ()), [one.target.scenario for one in held]),
        threads=_threads(held, asked.get("threads", ())),
        boundary=held[0].target.boundary,
        shapes="dynamic" if held[0].target.dynamic else "static",
        with_teacher=any(one.network == "teacher" for one in held),
    )
    found = structs.replace(profile, plan=plan, backends={})
    _refuse_nothing(parcels, found, devices)
    return found


def wanted(parcels: Sequence[Parcel], profile: Profile, devices: Sequence[str]) -> Iterator[Wanted]:
    """Give the artifacts that a plan wants, in the order of the parcels."""
    plan = profile.plan
    for one in parcels:
        for packed in one.manifest.artifacts:
            target = packed.target
            batches = tuple(size for size in target.batch_sizes if size in plan.batches)
            if (
                batches
                and packed.backend in plan.backends
                and target.precision in plan.precisions
                and target.scenario in plan.scenarios
                and (not devices or any(_fits(wish, [packed]) for wish in devices))
            ):
                yield Wanted(one, packed, batches)


def _fits(wish: str, held: Sequence[Packed]) -> bool:
    return any(meant(wish, one.device.id, one.device.uuid) for one in held)


def _picked(what: str, asked: Sequence[Any], held: Sequence[Any]) -> tuple[Any, ...]:
    """Give what was asked for of all that there is, each once."""
    there = tuple(dict.fromkeys(held))
    for wish in asked:
        _refuse_lacking(what, wish, there, wish in there)
    return tuple(asked) or there


def _refuse_lacking(what: str, wish: object, held: Sequence[object], there: bool) -> None:
    if not there:
        have = ", ".join(dict.fromkeys(clean(str(one)) for one in held))
        raise UsageError(
            f"No artifact given is of the {what} {wish}; there are: {have}.",
            hint="Nothing is compiled where --artifact is given; `kdbench compile` makes others.",
        )


def _threads(held: Sequence[Packed], asked: Sequence[Any]) -> Any:
    """Give the threads asked for, else those that all artifacts were asked for with."""
    there = list(dict.fromkeys(one.threads for one in held))
    if asked or len(there) == 1:
        return (*asked, *there)[0]
    raise UsageError(
        f"The artifacts were compiled for unlike threads: {', '.join(map(str, there))}.",
        hint="Say with --threads by how many all of them shall run.",
    )


def _refuse_unlike(profile: Profile, parcels: Sequence[Parcel]) -> None:
    """Refuse what makes no single run: a search, two students, or one artifact twice."""
    if profile.crossover.largest:
        raise UsageError(
            f"The profile {profile.name} searches for batch sizes and compiles on the way; "
            "with --artifact nothing is compiled.",
            hint="Give another --profile, such as quick.",
        )
    students = {one.student.sha256: one for one in parcels}
    if len(students) > 1:
        a, b, *_ = students.values()
        raise UsageError(
            f"{clean(str(a.root))} holds the student {a.student.name} ({a.student.sha256[:12]}…), and "
            f"{clean(str(b.root))} {b.student.name} ({b.student.sha256[:12]}…).",
            hint="A run measures one student; run them one after the other.",
        )
    seen: dict[object, Parcel] = {}
    for one in parcels:
        for packed in one.manifest.artifacts:
            target = packed.target
            options = tuple(sorted(target.options.items()))
            for size in target.batch_sizes:
                like = (packed.backend, packed.device.id, packed.network, target.precision, target.scenario)
                key = (*like, target.boundary, target.dynamic, options, size)
                if key in seen:
                    places = " and ".join(dict.fromkeys(clean(str(at.root)) for at in (seen[key], one)))
                    raise UsageError(
                        f"The artifact of {packed} is there twice, in {places}.",
                        hint="Leave one of them out.",
                    )
                seen[key] = one


def _refuse_nothing(parcels: Sequence[Parcel], profile: Profile, devices: Sequence[str]) -> None:
    if not any(True for _ in wanted(parcels, profile, devices)):
        held = "; ".join(str(packed) for one in parcels for packed in one.manifest.artifacts)
        raise UsageError("No artifact given is all that was asked for.", hint=f"There are: {held}.")
