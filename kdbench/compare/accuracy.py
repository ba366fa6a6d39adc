"""Is new less accurate than base? McNemar's exact test on the stored predictions, image by image."""

from __future__ import annotations

from kdbench import stats
from kdbench.compare.effect import Effect
from kdbench.compare.evidence import Evidence

LEAST_DISCORDANT = 6
"""With fewer images that only one side has right, even all on one side are no significant difference."""

FLIPS_SHARE = 0.005
"""Of all images: as many more flips as this are still no change."""


def unlike_data(base: Evidence, new: Evidence) -> str:
    """Say why the answers of two cells cannot be compared image by image; empty where they can."""
    ours, theirs = base.record.accuracy, new.record.accuracy
    if ours is None or theirs is None:
        return "no accuracy was measured" + _where(ours is None, theirs is None)
    if not base.subject.data_sha256 or not new.subject.data_sha256:
        return "a file does not say by sha256 which images it was verified with"
    if base.subject.data_sha256 != new.subject.data_sha256 or ours.images != theirs.images:
        return "the two were verified with different images"
    return ""


def top1(base: Evidence, new: Evidence) -> Effect | str:
    """Give the difference in percentage points, its exact interval and probability; or why there is none.

    Where the labels are known, the images that only one side has right are counted. Where they are not, every
    image on which the predictions differ may be one, which makes the test weaker and never bolder.
    """
    if why := unlike_data(base, new):
        return why
    ours, theirs = base.record.accuracy, new.record.accuracy
    if ours is None or theirs is None:
        return "no accuracy was measured"
    if ours.correct is None or theirs.correct is None:
        return (ours.reason if ours.correct is None else theirs.reason) or "nobody knows the right answers"
    a, b = ours.predictions, theirs.predictions
    if len(a) != ours.images or len(b) != ours.images or not ours.images:
        return "the predictions are not stored" + _where(len(a) != ours.images, len(b) != ours.images)
    labels = next((one.subject.labels for one in (base, new) if len(one.subject.labels) == len(a)), ())
    if labels:
        lost = sum(x == right != y for x, y, right in zip(a, b, labels, strict=True))
        gained = sum(y == right != x for x, y, right in zip(a, b, labels, strict=True))
    else:
        lost, gained = _at_most(sum(x != y for x, y in zip(a, b, strict=True)), ours.correct, theirs.correct)
    return _effect(lost, gained, ours.images)


def _at_most(unlike: int, before: int, after: int) -> tuple[int, int]:
    """Split the images that are labelled otherwise into lost and gained, as evenly as the totals allow."""
    difference = after - before
    fewer = max(0, unlike - abs(difference)) // 2
    more = fewer + abs(difference)
    return (fewer, more) if difference > 0 else (more, fewer)


def _effect(lost: int, gained: int, images: int) -> Effect:
    """Points gained, and the exact interval given how many images tell the two apart."""
    points, discordant = 100 / images, lost + gained
    low, high = 0.0, 0.0
    if discordant:
        least, most = stats.clopper_pearson(gained, discordant)
        low, high = ((2 * share - 1) * discordant * points for share in (least, most))
    return Effect(
        estimate=(gained - lost) * points,
        low=low,
        high=high,
        p=stats.mcnemar(lost, gained),
        detectable=max((high - low) / 2, LEAST_DISCORDANT * points),
        blocks=(images, images),
        paired=True,
    )


def _where(base: bool, new: bool) -> str:
    return "" if base and new else " of base" if base else " of new"
