"""What holds for device time: no longer than the call that tells it, which changes nothing else."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from kdbench.spec import DeviceTimed
from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.opened import copied, equal

if TYPE_CHECKING:
    from kdbench.testing.subject import Subject

CALLS = 5
TOLERANCE = 0.05
TOLERANCE_NS = 1_000
"""By how much the device's clock may be ahead of the host's over a call."""


@check(
    "device_ns tells whole nanoseconds above 0, no more than its call took, or None.",
    hook="kdbench_run",
    section="the-runner",
)
def device_time_told(subject: Subject) -> None:
    """Ask at the boundary host."""
    runner = _timed(subject.opened.runner(8))
    _hold_told(runner, subject.opened.batch(0, 8))


@check(
    "device_ns tells the same at the boundary device, of what was uploaded.",
    hook="kdbench_run",
    section="the-runner",
)
def device_time_resident(subject: Subject) -> None:
    """Ask at the boundary device."""
    resident = subject.resident
    runner = _timed(resident.resident(8))
    _hold_told(runner, runner.upload(resident.batch(0, 8)))


@check("device_ns changes no answer and no input.", hook="kdbench_run", section="the-runner")
def device_time_harmless(subject: Subject) -> None:
    """Compare answers and inputs before and after."""
    opened = subject.opened
    runner, inputs = _timed(opened.runner(8)), opened.batch(0, 8)
    before = copied(runner(inputs))
    runner.device_ns(opened.batch(8, 8))
    opened.hold_close(before, runner(inputs), "Answers before and after device_ns")
    runner.device_ns(inputs)
    if not equal(inputs, opened.batch(0, 8)):
        raise Broken("device_ns wrote to its inputs.")
    opened.hold_close(before, runner(inputs), "Answers before and after device_ns of the same inputs")


def _timed(runner: Any) -> Any:
    if not isinstance(runner, DeviceTimed):
        raise Skipped("It tells no device time.")
    return runner


def _hold_told(runner: Any, inputs: object) -> None:
    for _ in range(CALLS):
        begin = perf_counter_ns()
        told = runner.device_ns(inputs)
        wall_ns = perf_counter_ns() - begin
        if told is None:
            continue
        if not isinstance(told, int) or isinstance(told, bool) or told <= 0:
            raise Broken(f"device_ns answered {told!r}.")
        if told > (1 + TOLERANCE) * wall_ns + TOLERANCE_NS:
            raise Broken(f"device_ns answered {told} ns, and the whole call took {wall_ns} ns.")


CHECKS = (device_time_told, device_time_resident, device_time_harmless)
