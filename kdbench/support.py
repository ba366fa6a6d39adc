"""What a backend cannot do of what is asked for, as far as that is known before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdbench.spec import BackendInfo, Device, Precision, Student, Target


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a cell cannot be measured, in a sentence, and what to do about it, where something can be done."""

    reason: str
    fix: str = ""


def lack(
    info: BackendInfo,
    device: Device,
    student: Student,
    target: Target,
    batch: int,
    offers: Sequence[str] = (),
) -> Lack | None:
    """Tell the first thing that keeps a backend from one batch size of a target, or None.

    offers: the names of backends that are here and declare the target's precision.
    """
    return next(_lacks(info, device, student, target, batch, offers), None)


def _lacks(
    info: BackendInfo, device: Device, student: Student, target: Target, batch: int, offers: Sequence[str]
) -> Iterator[Lack]:
    precision, own = target.precision, student.precision
    if target.boundary not in info.boundaries:
        yield Lack(
            f"{info.title} cannot be timed at the boundary {target.boundary}.",
            "Ask for --boundary host, which every backend has.",
        )
    if own != "fp32" and precision != own:
        yield Lack(
            f"The stored network computes in {own}, not in {precision}.",
            f"Ask for --precision {own}, or import the network as it was in {precision} (`kdbench import`).",
        )
    if precision not in info.precisions:
        reason = f"{info.title} does not offer {precision}; it has {', '.join(info.precisions)}."
        yield Lack(reason, f"Backends here that offer {precision}: {', '.join(offers)}." if offers else "")
    if device.precisions and precision not in device.precisions and not _runs_as_stored(student, precision):
        have = ", ".join(device.precisions)
        yield Lack(f"{device.name} does not compute in {precision}; it has {have}.")
    yield from _built_in(student, target, batch)


def _runs_as_stored(student: Student, precision: Precision) -> bool:
    """Tell whether a precision is that of a file which needs no conversion: only compile knows about it."""
    return precision == student.precision != "fp32"


def _built_in(student: Student, target: Target, batch: int) -> Iterator[Lack]:
    """Tell what a batch size that is built into the graph forbids."""
    if student.batch is None:
        return
    free = "or import the network with a free batch axis (`kdbench import`)"
    if batch != student.batch:
        yield Lack(
            f"The graph has the batch size {student.batch} built in, not {batch}.",
            f"Ask for --batch {student.batch}, {free}.",
        )
    if target.dynamic:
        yield Lack(
            f"The graph has the batch size {student.batch} built in, so its shapes cannot be dynamic.",
            f'Write shapes = "static" in the profile, {free}.',
        )
