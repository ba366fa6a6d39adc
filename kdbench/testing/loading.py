"""What holds for a session as a whole: where it computes, with how many threads, and that it ends."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.testing.compiling import tried_precisions
from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.fresh import ask, kept

if TYPE_CHECKING:
    from kdbench.spec import Placement
    from kdbench.testing.opened import Opened
    from kdbench.testing.subject import Subject

UNROUNDED = 1e-5
"""Logits nearer to those of fp32 than this share of their spread were not computed in fewer bits."""

STRETCH = 12
SLACK = (STRETCH * 32 * 1024, 2, 2)
"""Resident bytes, threads and open files by which a stretch of cycles may exceed the one before it."""

CYCLES_S = 8.0
"""How long they may go on growing: a runtime fills pools of its own at first."""

BUSY_S = 0.3
OVER = 0.35
"""By how many threads more than it was told a session may compute: the kit's own thread copies meanwhile."""


@check(
    "placement tells the device and the precision that are computed in, as read back from the runtime.",
    hook="kdbench_load",
    section="the-five",
)
def placement_true(subject: Subject) -> None:
    """Hold what it tells to what was asked for, and to the rounding of the answers."""
    opened = subject.opened
    for precision, outcome in tried_precisions(subject).items():
        if isinstance(outcome, BaseException):
            continue
        placement, logits = outcome
        if placement.device != opened.target.device:
            raise Broken(
                f"It was to compute on {opened.target.device!r}, and placement says {placement.device!r}."
            )
        allowed = {precision, "fp32"} if precision == opened.student.precision else {precision}
        if placement.precision not in allowed:
            raise Broken(f"It was to compute in {precision}, and placement says {placement.precision}.")
        deviation = opened.deviation((logits,), (opened.evaluation.logits[: len(logits)],))
        if opened.student.precision == "fp32" and (fault := _untrue(placement, deviation)):
            raise Broken(fault)
        if any(count < 0 for count in placement.nodes.values()):
            raise Broken(f"placement counts the nodes {dict(placement.nodes)}.")


@check(
    "A session computes with target.threads, and placement.threads tells no other number.",
    hook="kdbench_load",
    section="the-five",
    apart=True,
)
def threads_obeyed(subject: Subject) -> None:
    """Load with one thread and with two, and see in a fresh process how many CPUs it takes."""
    opened = subject.opened
    if not opened.target.device.startswith("cpu"):
        raise Skipped("It computes on no CPU.")
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        target = replace(opened.target, threads=threads)
        workdir = subject.folder("artifact")
        artifact = opened.backend.compile(opened.student, target, workdir)
        session = opened.backend.load(artifact, target)
        told = session.placement.threads
        session.close()
        if told not in (None, threads):
            raise Broken(f"It was told to take {threads} threads, and placement says {told}.")
        asked = kept(replace(opened, target=target, workdir=workdir, artifact=artifact))
        share = ask(subject, "wanted", asked | {"seconds": BUSY_S}, threads=threads)["share"]
        if share > threads + OVER:
            raise Broken(
                f"With {threads} threads, its process kept {share:.1f} CPUs busy, or waited for them."
            )


@check("Closing a session twice is as good as once.", hook="kdbench_load", section="the-five")
def close_twice(subject: Subject) -> None:
    """Close twice, after a call."""
    session, runner = _another(subject.opened)
    runner(subject.opened.batch(0, 1))
    session.close()
    try:
        session.close()
    except Exception as error:
        raise Broken(f"The second close() raised {type(error).__name__}: {error}") from error


@check("Runners of a closed session raise.", hook="kdbench_load", section="the-five")
def closed_raises(subject: Subject) -> None:
    """Call a runner after close."""
    opened = subject.opened
    session, runner = _another(opened)
    runner(opened.batch(0, 1))
    session.close()
    _hold_raises(lambda: runner(opened.batch(0, 1)))


@check(
    "Runners of a session closed at the boundary device raise.",
    hook="kdbench_load",
    section="the-runner",
)
def device_closed_raises(subject: Subject) -> None:
    """Call a runner after close, with what was uploaded before."""
    opened = subject.resident
    session, runner = _another(opened)
    entry = runner.upload(opened.batch(0, 1))
    runner(entry)
    session.close()
    _hold_raises(lambda: runner(entry))


@check(
    "A closed session has given back its memory, threads and files.",
    hook="kdbench_load",
    section="the-five",
    apart=True,
)
def close_gives_back(subject: Subject) -> None:
    """Load, run and close in a fresh process until it holds no more than before, or for too long."""
    if not Path("/proc/self/statm").exists():
        raise Skipped("What a process holds is read from /proc, which this system lacks.")
    found = ask(
        subject, "cycle", kept(subject.opened) | {"seconds": CYCLES_S, "stretch": STRETCH, "slack": SLACK}
    )
    if found["flat"]:
        return
    grown = [
        f"{(now - then) / scale:.{digits}f} {unit}"
        for then, now, more, (unit, scale, digits) in zip(
            found["before"],
            found["after"],
            SLACK,
            (("KiB of resident memory", 1024, 0), ("threads", 1, 0), ("open files", 1, 0)),
            strict=True,
        )
        if now - then > more
    ]
    raise Broken(
        f"After {found['cycles']} times load, run and close, the last {STRETCH} of them still added "
        f"{', '.join(grown)}."
    )


def _another(opened: Opened) -> tuple[Any, Any]:
    """Load the artifact once more, with a runner of one image."""
    session = opened.backend.load(opened.artifact, opened.target)
    return session, opened.backend.run(session, 1)


def _hold_raises(call: Any) -> None:
    try:
        call()
    # Which error it is is the plugin's own choice.
    except Exception:
        return
    raise Broken("It answered after close(), as if nothing had happened.")


def _untrue(placement: Placement, deviation: float) -> str:
    """Say why rounding shows that another precision was computed in than is told; empty where it does not."""
    told = placement.precision
    # Not tf32, which a library may take or leave for each kernel, and does not tell.
    if told in ("fp16", "bf16") and deviation < UNROUNDED:
        return (
            f"placement says {told}, and the logits are those of fp32 to {deviation:.1g} of their spread: "
            "nothing was rounded."
        )
    return ""


CHECKS = (
    placement_true,
    threads_obeyed,
    close_twice,
    closed_raises,
    device_closed_raises,
    close_gives_back,
)
