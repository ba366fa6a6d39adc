"""What a ladder shows, in figures and in sentences, and no more than its rows hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdbench.card import Card, LadderRow
from kdbench.stats import t_interval

DISTILLED = "student-distilled"
BASELINE = "teacher-zero-shot"
TUNED = "teacher-fine-tuned"
CONTROLS = ("student-scratch", "student-transfer", "student-self-trained")
"""The student's network with the same labels and without the big teacher."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row less another over the seeds that both have, in percentage points.

    low, high: the 95 % interval by the t distribution over seeds; None for a single one.
    """

    mean: float
    low: float | None
    high: float | None
    least: float
    seeds: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return signed(self.mean)
        return f"{signed(self.mean)} [{signed(self.low)}, {signed(self.high)}]"


def signed(points: float) -> str:
    """Write percentage points with their sign and one decimal; nothing is never negative."""
    return f"{round(points, 1) + 0.0:+.1f}"


def difference(row: LadderRow, other: LadderRow) -> Difference:
    """Compare two rows seed by seed: what a seed's draw of images and weights does, it does to both."""
    theirs = dict(zip(other.seeds, other.accuracies, strict=True))
    pairs = [
        100 * (mine - theirs[seed])
        for seed, mine in zip(row.seeds, row.accuracies, strict=True)
        if seed in theirs
    ]
    mean = sum(pairs) / len(pairs)
    if len(pairs) == 1:
        return Difference(mean, None, None, pairs[0], 1)
    interval = t_interval(pairs)
    return Difference(mean, interval.low, interval.high, min(pairs), len(pairs))


def best_control(rows: Mapping[str, LadderRow]) -> LadderRow | None:
    """Give the strongest control. Chosen by the very scores it is judged by, it looks better than it is."""
    found = [rows[name] for name in CONTROLS if name in rows]
    return max(found, key=lambda row: row.mean, default=None)


def account(card: Card) -> tuple[str, ...]:
    """Say in sentences what the ladder of a card shows; none if its rungs are not there.

    Most of the gain over the unadapted teacher is due to the target labels, so their part is told first.
    """
    rows = {row.row: row for row in card.ladder}
    if not {BASELINE, TUNED, DISTILLED} <= rows.keys():
        return ()
    student = rows[DISTILLED]
    return (
        _over_baseline(rows, student),
        _beside_teacher(rows, student, card),
        *_over_controls(rows, student),
        _resolution(student, card),
    )


def _over_baseline(rows: Mapping[str, LadderRow], student: LadderRow) -> str:
    gain, theirs = difference(student, rows[BASELINE]), difference(rows[TUNED], rows[BASELINE])
    least = f" ({signed(gain.least)} at least)" if gain.seeds > 1 else ""
    return (
        f"In the unfamiliar domain the student stands {gain} points from the unadapted teacher{least}. "
        f"{rows[TUNED].labels} labels move the teacher itself by {theirs} points: so much is theirs."
    )


def _beside_teacher(rows: Mapping[str, LadderRow], student: LadderRow, card: Card) -> str:
    beside, smaller = difference(student, rows[TUNED]), ""
    if card.teacher and card.teacher.parameters and card.network.parameters:
        ratio = card.teacher.parameters / card.network.parameters
        smaller = f", with {_times(ratio)} parameters"
    return f"Beside the fine-tuned teacher the student stands at {beside} points{smaller}."


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times fewer" if ratio >= 1.5 else f"{1 / ratio:.1f} times as many"


def _over_controls(rows: Mapping[str, LadderRow], student: LadderRow) -> tuple[str, ...]:
    best = best_control(rows)
    if best is None:
        return (
            "What the student's network would reach without the big teacher is not among these rows, so "
            "nothing is claimed about distillation's own part.",
        )
    own = difference(student, best)
    told = f"The best control without the big teacher is {best.title.removeprefix('student, ')!r}: "
    if own.low is None or own.high is None:
        return (f"{told}distillation stands at {own} points from it; one seed cannot tell that from chance.",)
    if own.low > 0:
        return (f"{told}distillation's own part is {own} points, more than the chance of seeds.",)
    if own.high < 0:
        return (f"{told}distillation stands at {own} points from it: it does harm here.",)
    return (f"{told}distillation stands at {own} points from it, which may be the chance of seeds.",)


def _resolution(student: LadderRow, card: Card) -> str:
    count = len(student.seeds)
    runs = f"{count} seed{'s' if count > 1 else ''}"
    again = (
        " The seeds divide the same pictures anew, so they are not quite independent." if count > 1 else ""
    )
    return (
        f"{runs}, {student.images} images each: a single accuracy is known to within "
        f"{100 * resolution(student):.1f} points, intervals are 95 %.{again}"
    )


def resolution(row: LadderRow) -> float:
    """Give half the width of the 95 % interval of an accuracy over the images of one repetition.

    The normal approximation of the binomial: 1.96 * sqrt(p * (1 - p) / n).
    """
    return float(1.96 * (row.mean * (1 - row.mean) / row.images) ** 0.5)


def sizes(card: Card) -> Sequence[tuple[str, int | None, int | None, int | None]]:
    """Give name, parameters, multiply-accumulates of an image and bytes of weights of teacher and student."""
    own = card.network
    rows = [("student", own.parameters, own.macs, own.bytes)]
    if card.teacher:
        rows.insert(0, ("teacher", card.teacher.parameters, card.teacher.macs, card.teacher.bytes))
    return rows
