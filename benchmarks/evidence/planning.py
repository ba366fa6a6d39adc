"""What is still to be measured, in which order, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.evidence.lines import Line
from benchmarks.evidence.reading import Record

_ROW = "{:24}{:>8}{:>8}{:>6}{:>8}{:>9}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a line is: whole trials and recorded blocks that there are, and seconds of a trial."""

    line: Line
    trials: int
    blocks: int
    trial_s: float

    @property
    def expected(self) -> int:
        """How many trials it will have when it is done: as many as it needs, and as its blocks need."""
        a_trial = self.blocks / self.trials if self.trials else self.line.blocks / self.line.trials
        return max(self.line.trials, math.ceil(self.line.blocks / a_trial) if a_trial else 0)

    @property
    def remaining(self) -> int:
        """How many trials are still to be measured."""
        return max(0, self.expected - self.trials)

    @property
    def remaining_s(self) -> float:
        """How long that takes."""
        return self.remaining * self.trial_s


def progress(record: Record) -> Progress:
    """Tell how far a line is."""
    seconds = [trial.seconds for trial in record.trials]
    # A file does not account for what a command does before its run begins, probing above all.
    trial_s = max(record.line.about_s, median(seconds)) if seconds else record.line.about_s
    return Progress(record.line, len(record.trials), len(record.blocks), trial_s)


def following(all_of: Iterable[Progress]) -> Line | None:
    """Choose the line whose next trial comes next; None when all are done.

    That of which the smallest share is done, of equals the first: whenever it is stopped, all lines
    are done in part, and each is spread over the whole time. Without chance: a resumed run goes on alike.
    """
    open_lines = [one for one in all_of if one.remaining]
    if not open_lines:
        return None
    return min(open_lines, key=lambda one: (one.trials + 0.5) / one.expected).line


def minutes(all_of: Iterable[Progress]) -> float:
    """Give the minutes that are left."""
    return sum(one.remaining_s for one in all_of) / 60


def told(progresses: Mapping[str, Progress]) -> str:
    """Give the plan as text: a row a line, and the sum."""
    rows = [_ROW.format("line", "trials", "blocks", "left", "s each", "minutes")]
    rows += [
        _ROW.format(
            name, one.trials, one.blocks, one.remaining, f"{one.trial_s:.1f}", _tenths(one.remaining_s)
        )
        for name, one in progresses.items()
    ]
    left = sum(one.remaining for one in progresses.values())
    rows.append(_ROW.format("all", "", "", left, "", _tenths(60 * minutes(progresses.values()))))
    return "\n".join(rows)


def _tenths(seconds: float) -> str:
    return f"{seconds / 60:.1f}"
