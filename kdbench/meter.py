"""How far a run is: planned seconds of what is finished, corrected by what they really took."""

from __future__ import annotations

import time

from kdbench.plan import Plan
from kdbench.progress import Progress, Report


class Meter:
    """Tells the progress of a run to `report`, which may be None; only between timed stretches."""

    def __init__(self, plan: Plan, report: Report | None) -> None:
        self._stages = dict(plan.stages)
        self._total_s = max(sum(self._stages.values()), 1e-9)
        self._report = report
        self._begin = time.monotonic()
        self._stage = ""
        self._done_s = 0.0

    def enter(self, stage: str, detail: str, share: float = 0.0) -> None:
        """Say that a stage is being worked on, `share` of which is finished."""
        self._stage = stage
        before = 0.0
        for name, seconds in self._stages.items():
            if name == stage:
                break
            before += seconds
        self._done_s = before + share * self._stages.get(stage, 0.0)
        self.tell(detail)

    def tell(self, detail: str) -> None:
        """Say what is being worked on within the stage."""
        if self._report is None:
            return
        elapsed = time.monotonic() - self._begin
        # Until a tenth is done the plan is the better guess, after that the pace so far.
        pace = elapsed / self._done_s if self._done_s > 0.1 * self._total_s else 1.0
        left = max(0.0, (self._total_s - self._done_s) * pace)
        self._report(Progress(self._stage, detail, min(1.0, self._done_s / self._total_s), left))

    def finish(self) -> None:
        """Say that all is done."""
        if self._report is not None:
            self._report(Progress("done", "", 1.0, 0.0))
