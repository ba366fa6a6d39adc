"""What went wrong with a worker, in words: how it ended, that it was late, that its clock is another."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from kdbench import log
from kdbench.errors import PhaseTimeout

ROUNDING_NS = 1_000
LIMITED_BY = {
    "import": "describe",
    "discover": "describe",
    "observe": "describe",
    "yardstick": "describe",
    "check": "run",
    "close": "run",
}
"""Phases that have no time limit of their own, and whose they share."""


def overdue(phase: str, limit_s: float) -> PhaseTimeout:
    """Say that a phase took too long, and how to allow it more."""
    return PhaseTimeout(
        f"No answer within {limit_s:g} s; the process was killed.",
        hint=f"--timeout {LIMITED_BY.get(phase, phase)}={4 * limit_s:g}s allows it more.",
        phase=phase,
    )


def ending(code: int, printed: Path) -> str:
    """Say how a process ended, by its exit code and the end of its log."""
    if code >= 0:
        told = f"The process ended by itself with exit code {code}"
    else:
        name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
        told = f"The process was killed by {name} ({signal.strsignal(-code)})"
    if log.tells_of_memory(printed):
        return f"{told} after it ran out of memory."
    return f"{told}, as the system does when memory runs out." if code == -signal.SIGKILL else f"{told}."


def displaced(reply: Any, sent_ns: int, received_ns: int) -> str:
    """Say so if what was timed lies outside the time in which it was asked for; both have one clock."""
    started_ns = getattr(reply, "started_ns", None)
    if started_ns is None:
        return ""
    ended_ns = started_ns + getattr(reply, "settle_ns", 0) + getattr(reply, "duration_ns", 0)
    if sent_ns <= started_ns and ended_ns <= received_ns + ROUNDING_NS:
        return ""
    early, late = (sent_ns - started_ns) / 1e6, (ended_ns - received_ns) / 1e6
    where = (
        f"begins {early:.3g} ms before it was asked for"
        if early > 0
        else f"ends {late:.3g} ms after it was told"
    )
    return f"Its worker's clock is not this machine's: what it timed {where}."
