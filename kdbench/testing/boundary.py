"""What holds for a runner at the boundary `device`: inputs that stay, outputs that are fetched.

All of it is skipped for a backend that declares the boundary `host` alone.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.opened import BATCH_SIZES, copied, equal

if TYPE_CHECKING:
    from kdbench.testing.opened import Arrays
    from kdbench.testing.subject import Subject

STARTS = (0, 8, 16)
ROUNDS = 15
ATTEMPTS = 3
PAUSE_S = 0.003
SHARE = 0.25
"""A download that takes longer, without a pause before it, by this share of call and download had to wait."""

LEAST_S = 20e-6


@check(
    "At a boundary device that is declared, the student loads, and a runner has upload and download.",
    hook="kdbench_load",
    section="the-runner",
)
def device_opens(subject: Subject) -> None:
    """Do it."""
    if "device" not in subject.backend.info.boundaries:
        raise Skipped("It does not declare the boundary device.")
    _ = subject.opened
    subject.open_resident()


@check(
    "What was uploaded gives, downloaded, the outputs that the boundary host gives.",
    hook="kdbench_run",
    section="the-runner",
)
def device_answers(subject: Subject) -> None:
    """Compare both boundaries at each batch size."""
    resident, opened = subject.resident, subject.opened
    for size in BATCH_SIZES:
        runner, host = resident.resident(size), opened.runner(size)
        for start in STARTS:
            outputs = runner.download(runner(runner.upload(resident.batch(start, size))))
            resident.hold_declared(outputs, size)
            opened.hold_close(
                copied(outputs), host(opened.batch(start, size)), "Answers at the boundaries device and host"
            )


@check(
    "Uploads live side by side, and no call writes to them.",
    hook="kdbench_run",
    section="the-runner",
)
def uploads_kept(subject: Subject) -> None:
    """Run three, and run them again in reverse."""
    resident = subject.resident
    runner = resident.resident(8)
    uploaded = [runner.upload(resident.batch(start, 8)) for start in STARTS]
    first = [_answer(runner, entry) for entry in uploaded]
    if equal(first[0], first[1]) or equal(first[1], first[2]):
        raise Broken("Uploads of unlike images gave the very same answer.")
    for entry, outputs in zip(reversed(uploaded), reversed(first), strict=True):
        resident.hold_close(_answer(runner, entry), outputs, "Two answers to the same upload")


@check("An upload is a copy, and leaves the host's arrays alone.", hook="kdbench_run", section="the-runner")
def upload_copies(subject: Subject) -> None:
    """Write to the host's arrays after an upload."""
    resident = subject.resident
    runner, inputs = resident.resident(8), resident.batch(0, 8)
    entry = runner.upload(inputs)
    if not equal(inputs, resident.batch(0, 8)):
        raise Broken("upload() wrote to the host's arrays.")
    for array, other in zip(inputs, resident.batch(8, 8), strict=True):
        array[...] = other
    expected = _answer(runner, runner.upload(resident.batch(0, 8)))
    what = "Answers to an upload whose host arrays were written to afterwards, and to another one"
    resident.hold_close(_answer(runner, entry), expected, what)


@check(
    "An upload that was given up leaves nothing behind for the next.",
    hook="kdbench_run",
    section="the-runner",
)
def uploads_given_up(subject: Subject) -> None:
    """Give three up, and upload in memory that was theirs."""
    resident = subject.resident
    runner = resident.resident(8)
    kept = [runner.upload(resident.batch(start, 8)) for start in STARTS]
    expected = [_answer(runner, entry) for entry in kept]
    kept.clear()
    for start, outputs in zip(STARTS, expected, strict=True):
        entry = runner.upload(resident.batch(start, 8))
        resident.hold_close(_answer(runner, entry), outputs, "Two answers to two uploads of the same images")
        del entry


@check("Outputs on the device outlive the calls of other runners.", hook="kdbench_run", section="the-runner")
def device_runners_apart(subject: Subject) -> None:
    """Download after calls of two others."""
    resident = subject.resident
    single, eight, other = (resident.resident(size) for size in (1, 8, 8))
    outputs = eight(eight.upload(resident.batch(0, 8)))
    before = copied(eight.download(outputs))
    _answer(single, single.upload(resident.batch(20, 1)))
    _answer(other, other.upload(resident.batch(30, 8)))
    if not equal(eight.download(outputs), before):
        raise Broken("The outputs of one runner changed when another one of its session was called.")


@check(
    "A call at the boundary device returns once the device has finished.",
    hook="kdbench_run",
    section="the-runner",
)
def device_complete_on_return(subject: Subject) -> None:
    """Time a download that follows its call at once, and one after an extra wait: work that is left shows."""
    resident = subject.resident
    runner = resident.resident(8)
    uploaded = [runner.upload(resident.batch(start, 8)) for start in STARTS]
    left = [_left_s(runner, uploaded) for _ in range(ATTEMPTS)]
    if all(waited > max(SHARE * whole, LEAST_S) for waited, whole in left):
        waited, whole = min(left)
        raise Broken(
            f"A download just after its call takes {1e6 * waited:.0f} µs more than one after a pause, of "
            f"{1e6 * whole:.0f} µs for both: it waits for what the call left to do."
        )


def _left_s(runner: Any, uploaded: list[Any]) -> tuple[float, float]:
    """Give by how much an extra wait shortens a download, and how long call and download take together."""
    times: dict[float, list[float]] = {0.0: [], PAUSE_S: []}
    whole: list[float] = []
    for entry in uploaded:
        _answer(runner, entry)
    for number in range(ROUNDS):
        for pause, downloads in times.items():
            begin = time.perf_counter()
            outputs = runner(uploaded[number % len(uploaded)])
            called = time.perf_counter()
            # A wait that keeps the processor awake, or the download would be slower for another reason.
            while pause and time.perf_counter() < called + max(pause, 3 * (called - begin)):
                pass
            resumed = time.perf_counter()
            runner.download(outputs)
            downloads.append(time.perf_counter() - resumed)
            if not pause:
                whole.append(time.perf_counter() - begin)
    return median(times[0.0]) - median(times[PAUSE_S]), median(whole)


def _answer(runner: Any, entry: object) -> Arrays:
    return copied(runner.download(runner(entry)))


CHECKS = (
    device_opens,
    device_answers,
    uploads_kept,
    upload_copies,
    uploads_given_up,
    device_runners_apart,
    device_complete_on_return,
)
