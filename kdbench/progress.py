"""What a run tells about itself while it goes on; only between timed stretches, never inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run is: a stage (`probe`, `compile`, `blocks`, …), what it works on, and how far it is.

    done: share of the whole run that is finished, 0 to 1. left_s: seconds that the rest should take.
    """

    stage: str
    detail: str
    done: float
    left_s: float | None = None


Report = Callable[[Progress], None]
