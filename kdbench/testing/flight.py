"""What holds for several requests in flight: each comes back once, with its own outputs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.opened import copied

if TYPE_CHECKING:
    from kdbench.testing.opened import Arrays, Opened
    from kdbench.testing.subject import Subject

DEPTH = 3
BURSTS = (3, 8)
STARTS = (0, 8)
CALLS = 50


@check(
    "What is submitted comes back from wait() once, with the outputs of its own inputs.",
    hook="kdbench_run",
    section="the-runner",
)
def requests_in_flight(subject: Subject) -> None:
    """Submit as many as fit in flight, and more."""
    opened = subject.opened
    _skip_unless(opened, "pipelined")
    runner: Any = opened.runner(1, DEPTH)
    for burst in BURSTS:
        _burst(opened, runner, burst, opened.batch, lambda outputs: outputs)


@check(
    "What is submitted from the device comes back once, with outputs to download of its own inputs.",
    hook="kdbench_run",
    section="the-runner",
)
def device_requests_in_flight(subject: Subject) -> None:
    """Submit uploads, as many as fit in flight, and more."""
    resident = subject.resident
    _skip_unless(resident, "pipelined")
    runner = resident.resident(1, DEPTH)
    for burst in BURSTS:
        uploaded = [runner.upload(resident.batch(tag, 1)) for tag in range(3 * burst)]
        _burst(subject.opened, runner, burst, partial(_given, uploaded), runner.download)


@check(
    "Runners driven by threads of their own do not disturb each other.",
    hook="kdbench_run",
    section="the-five",
)
def threads_apart(subject: Subject) -> None:
    """Drive two at once."""
    opened = subject.opened
    _skip_unless(opened, "threads")
    runners = {start: opened.runner(8, 2) for start in STARTS}

    def answer(start: int) -> Arrays:
        return runners[start](opened.batch(start, 8))

    _drive(opened, answer)


@check(
    "Runners with uploaded inputs, driven by threads of their own, do not disturb each other.",
    hook="kdbench_run",
    section="the-runner",
)
def device_threads_apart(subject: Subject) -> None:
    """Drive two at once."""
    resident = subject.resident
    _skip_unless(resident, "threads")
    runners = {start: resident.resident(8, 2) for start in STARTS}
    uploaded = {start: runner.upload(resident.batch(start, 8)) for start, runner in runners.items()}

    def answer(start: int) -> Arrays:
        outputs: Arrays = runners[start].download(runners[start](uploaded[start]))
        return outputs

    _drive(resident, answer)


def _burst(
    opened: Opened,
    runner: Any,
    burst: int,
    inputs: Callable[[int, int], Any],
    outputs_of: Callable[[Any], Arrays],
) -> None:
    """Submit three bursts, wait for all of each, and hold what came to what a single runner answers."""
    came: dict[int, Arrays] = {}
    for start in range(0, 3 * burst, burst):
        for tag in range(start, start + burst):
            runner.submit(inputs(tag, 1), tag)
        while len(came) < start + burst:
            _collect(runner, came, start + burst, outputs_of)
    single = opened.runner(1)
    for tag, outputs in came.items():
        expected = single(opened.batch(tag, 1))
        opened.hold_close(
            expected, outputs, f"Of {burst} requests in flight, request {tag} and its image alone"
        )


def _collect(
    runner: Any, came: dict[int, Arrays], submitted: int, outputs_of: Callable[[Any], Arrays]
) -> None:
    complete = runner.wait()
    if not complete:
        raise Broken(f"wait() came back empty while {submitted - len(came)} requests were in flight.")
    for tag, outputs in complete:
        if tag in came:
            raise Broken(f"wait() gave back request {tag} twice.")
        if tag not in range(submitted):
            raise Broken(f"wait() gave back request {tag!r}, which was not submitted.")
        came[tag] = copied(outputs_of(outputs))


def _drive(opened: Opened, answer: Callable[[int], Arrays]) -> None:
    """Make many calls for each start in a thread of its own, and hold them to the first, which was alone."""
    expected = {start: copied(answer(start)) for start in STARTS}

    def drive(start: int) -> None:
        for _ in range(CALLS):
            opened.hold_close(
                answer(start), expected[start], "Answers alone and beside another thread's calls"
            )

    with ThreadPoolExecutor(len(STARTS)) as pool:
        list(pool.map(drive, STARTS))


def _given(uploaded: list[Any], tag: int, _: int) -> Any:
    return uploaded[tag]


def _skip_unless(opened: Opened, how: str) -> None:
    if opened.backend.info.concurrency != how:
        raise Skipped(f"It does not declare the concurrency {how!r}.")


CHECKS = (requests_in_flight, threads_apart, device_requests_in_flight, device_threads_apart)
