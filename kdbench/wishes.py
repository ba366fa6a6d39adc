"""What is wished for by name: backends, their options, devices; and what of it is not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.device import begins, meant
from kdbench.discovery import nearest
from kdbench.errors import BackendUnavailable, UsageError
from kdbench.request import Request
from kdbench.sections import BackendPlan
from kdbench.spec import Available, Device, Unavailable

if TYPE_CHECKING:
    from kdbench.roster import Found


def devices_of(request: Request, own: BackendPlan, answer: Available) -> tuple[Device, ...]:
    """Pick the devices asked for, by id, kind (`gpu` for `gpu.0`) or UUID; without a wish the default one."""
    wanted = request.devices or own.devices
    if not wanted:
        return answer.devices[:1]
    return tuple(device for device in answer.devices if any(_meant(wish, device) for wish in wanted))


def _meant(wish: str, device: Device) -> bool:
    return meant(wish, device.id, device.uuid)


def refuse_unavailable(named: Sequence[str], found: Sequence[Found]) -> None:
    """Raise BackendUnavailable for the first backend among those named that does not work here."""
    for one in found:
        if one.name not in named:
            continue
        if isinstance(one.answer, Unavailable):
            raise BackendUnavailable(
                f"The backend '{one.name}' does not work here: {one.answer.reason}", hint=one.answer.fix
            )
        if one.fault is not None:
            raise BackendUnavailable(
                f"The backend '{one.name}' is broken ({one.fault.phase}): {one.fault.reason}",
                hint=f"Its log is {one.fault.log}." if one.fault.log else "",
            )


def refuse_unknown_options(request: Request, found: Sequence[Found]) -> None:
    """Raise UsageError for an option of a backend that is not part of the run."""
    names = [one.name for one in found]
    for name in request.options:
        if name not in names:
            near = nearest(name, names)
            hint = f"Did you mean {near}?" if near else f"There are {', '.join(names)}."
            raise UsageError(f"An option is given for '{name}', which is not part of this run.", hint=hint)


def refuse_missing_device(request: Request, found: Sequence[Found]) -> None:
    """Refuse a backend named beside devices of which it has none, and a device that no backend has.

    The beginning of a UUID must be that of one only.
    """
    have = {
        one.name: devices_of(request, BackendPlan(), one.answer)
        for one in found
        if isinstance(one.answer, Available)
    }
    lacking = [name for name in request.backends if name in have and not have[name]]
    here = [device for one in found if isinstance(one.answer, Available) for device in one.answer.devices]
    for wish in request.devices:
        several = sorted({device.uuid for device in here if begins(wish, device.uuid)})
        if len(several) > 1:
            raise UsageError(
                f"The device {wish} may be any of {', '.join(several)}.", hint="Give more of its UUID."
            )
    unknown = [wish for wish in request.devices if not any(_meant(wish, device) for device in here)]
    if request.devices and (lacking or unknown):
        who = f"The backend '{lacking[0]}' has no" if lacking else "No backend of this run has the"
        raise UsageError(
            f"{who} device {', '.join(request.devices if lacking else unknown)}.",
            hint="`kdbench backends` lists the devices of each.",
        )
