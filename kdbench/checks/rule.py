"""A measured value with its limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from kdbench.checks.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Rule:
    """A measured value and its limits; above `doubtful` or `bad` the message is told."""

    id: str
    measure: Callable[[Evidence], float | None]
    doubtful: float
    bad: float
    message: str


def apart(a: float, b: float) -> float:
    """Give by what share the larger of two values exceeds the smaller."""
    return math.expm1(abs(math.log(a / b)))
