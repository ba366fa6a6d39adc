"""What makes the answer of a plugin acceptable, beyond what the types can say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar, cast

from kdbench.errors import ContractError
from kdbench.options import option_faults
from kdbench.spec import Availability, BackendInfo, Unavailable
from kdbench.wire import decode, encode

HINT = "docs/hooks.md says what each hook promises."

LARGEST_BYTES = 256 << 10
"""What a hook answers as data is a description, not a place for files: it stands in tables and results."""

Noun = TypeVar("Noun")


def promised(name: str, phase: str, answer: Any, *kinds: type[Noun], what: str = "it answered") -> Noun:
    """Pass on an answer of one of the promised kinds; ContractError for any other, None included."""
    if isinstance(answer, kinds):
        return answer
    wanted = " or ".join(kind.__name__ for kind in kinds)
    raise broken(name, phase, f"{what} {kind_of(answer)}, and {wanted} is promised")


def kind_of(answer: object) -> str:
    """Name what a plugin answered, for a sentence."""
    return "nothing" if answer is None else f"a value of type {type(answer).__name__}"


def inert(name: str, phase: str, answer: Noun) -> Noun:
    """Pass on an answer that JSON carries unchanged to another process; ContractError otherwise."""
    with vouched(name, phase):
        text = encode(answer)
        arrived = decode(text, type(answer))
    if len(text) > LARGEST_BYTES:
        size, most = len(text) >> 10, LARGEST_BYTES >> 10
        raise broken(name, phase, f"its answer is {size} KiB of text, and at most {most} are taken")
    for field in fields(cast("Any", answer)):
        sent, got = getattr(answer, field.name), getattr(arrived, field.name)
        if sent != got:
            raise broken(name, phase, f"{field.name} is {sent!r} and would arrive elsewhere as {got!r}")
    return answer


@contextmanager
def vouched(name: str, phase: str) -> Iterator[None]:
    """Say of whose answer it was that `kdbench.wire` complains."""
    try:
        yield
    except ContractError as error:
        raise broken(name, phase, error.message.removesuffix(".")) from error


def broken(name: str, phase: str, fault: str) -> ContractError:
    """Make the error that says which promise a plugin broke."""
    return ContractError(f"{name} breaks the contract of its {phase} phase: {fault}.", hint=HINT, phase=phase)


def info_faults(info: BackendInfo) -> Iterator[str]:
    """Say what is wrong with a description of the right types; nothing if it is sound."""
    if not info.title.strip():
        yield "title is empty"
    for field, values in (("devices", info.devices), ("precisions", info.precisions)):
        if not values or not all(values) or len(set(values)) < len(values):
            yield f"{field} is {values}: at least one is expected, none empty, none twice"
    if "host" not in info.boundaries:
        yield f"boundaries is {info.boundaries}, without the mandatory 'host'"
    yield from option_faults(info.options)


def availability_fault(answer: Availability) -> str:
    """Say what is wrong with the answer of a probe; empty if it is sound."""
    if isinstance(answer, Unavailable):
        return "" if answer.reason.strip() else "it answered Unavailable without a reason"
    ids = [device.id for device in answer.devices]
    if ids and all(ids) and len(set(ids)) == len(ids):
        return ""
    return f"it answered Available with the devices {ids}: at least one is expected, none empty, none twice"
