"""Is new less accurate than base? McNemar's exact test on the stored predictions, image by image.

The test asks whether the images that tell the two apart fall on one side, and so is conditional on their
number. The interval is not: it is of the difference that other images of the same kind would show.
"""

from __future__ import annotations

from kdbench import stats
from kdbench.compare.effect import Effect
from kdbench.compare.evidence import Evidence

ALIKE = "every image is labelled alike"

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
    """Give the difference in percentage points, its interval and exact probability; or why there is none.

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
        unlike = sum(x != y for x, y in zip(a, b, strict=True))
        if abs(theirs.correct - ours.correct) > unlike:
            return "the right answers that were counted do not fit the predictions"
        lost, gained = _at_most(unlike, ours.correct, theirs.correct)
    return _effect(lost, gained, ours.images)


def alike(base: Evidence, new: Evidence) -> bool:
    """Tell whether two cells gave the same answer to every image."""
    ours, theirs = base.record.accuracy, new.record.accuracy
    return ours is not None and theirs is not None and ours.predictions == theirs.predictions


def _at_most(unlike: int, before: int, after: int) -> tuple[int, int]:
    """Split the images that are labelled otherwise into lost and gained, as evenly as the totals allow."""
    difference = after - before
    fewer = max(0, unlike - abs(difference)) // 2
    more = fewer + abs(difference)
    return (fewer, more) if difference > 0 else (more, fewer)


def _effect(lost: int, gained: int, images: int) -> Effect:
    """Points gained, their interval, and McNemar's probability.

    The shares of all images that are lost and that are gained each have the exact interval of Clopper and
    Pearson, at 97.5 %. By Bonferroni both hold at once in 95 % of cases, and then the difference lies between
    the least gained less the most lost, and the most gained less the least lost. It is wider than need be,
    never narrower.
    """
    once = (1 + stats.CONFIDENCE) / 2
    least_lost, most_lost = stats.clopper_pearson(lost, images, once)
    least_gained, most_gained = stats.clopper_pearson(gained, images, once)
    low, high = 100 * (least_gained - most_lost), 100 * (most_gained - least_lost)
    return Effect(
        estimate=100 * (gained - lost) / images,
        low=low,
        high=high,
        p=stats.mcnemar(lost, gained),
        detectable=(high - low) / 2,
        blocks=(images, images),
        paired=True,
    )


def _where(base: bool, new: bool) -> str:
    return "" if base and new else " of base" if base else " of new"
