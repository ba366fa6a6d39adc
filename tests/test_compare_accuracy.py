"""Accuracy is compared image by image, exactly, and only where the images are the same."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from kdbench import stats
from kdbench.compare import Loaded, compare, gates
from kdbench.compare.accuracy import _effect
from kdbench.comparison import Change
from kdbench.records import AccuracyRecord
from tests import synthetic

IMAGES = 1_000
LABELS = tuple(number % 10 for number in range(IMAGES))
DATA = replace(synthetic.SUBJECT, data_sha256="d" * 64, images=IMAGES, labels=LABELS)


def answers(*wrong: int) -> tuple[int, ...]:
    """Give predictions that are right but for some images."""
    spoiled = set(wrong)
    return tuple((label + 1) % 10 if k in spoiled else label for k, label in enumerate(LABELS))


def accuracy(predictions: tuple[int, ...], **more) -> AccuracyRecord:
    correct = sum(a == b for a, b in zip(predictions, LABELS, strict=False))
    facts = {"images": IMAGES, "correct": correct, "tolerance": 1e-3, "predictions": predictions, **more}
    return AccuracyRecord(**facts)


def run(name: str, record: AccuracyRecord | None, subject=DATA):
    cells = [synthetic.record(synthetic.cell("any", threads=1), accuracy=record)]
    slices = synthetic.slices({0: 1e5})
    return Loaded(synthetic.run_of(synthetic.result(cells, slices=slices, subject=subject), name), name)


def changes(base, new, *subjects, options=None) -> dict[str, Change]:
    ours, theirs = subjects or (DATA, DATA)
    told = compare(run("a", base, ours), run("b", new, theirs), options)
    return {one.metric: one for one in told.rows[0].changes}


def test_a_real_loss_beyond_half_a_point_is_worse():
    found = changes(accuracy(answers()), accuracy(answers(*range(20))))["accuracy.top1"]
    assert found.verdict == "worse"
    assert found.effect == pytest.approx(-2.0)
    assert found.p == pytest.approx(stats.mcnemar(20, 0))
    assert found.low <= -2.0 <= found.high < 0


def test_a_real_gain_is_better():
    found = changes(accuracy(answers(*range(20))), accuracy(answers()))["accuracy.top1"]
    assert found.verdict == "better"


def test_equal_answers_are_the_same():
    found = changes(accuracy(answers(1, 2)), accuracy(answers(1, 2)))["accuracy.top1"]
    assert found.verdict == "same"
    assert found.reason == "every image is labelled alike"
    assert found.low == -found.high
    assert found.detectable == pytest.approx(found.high)
    assert found.high == pytest.approx(100 * (1 - 0.0125 ** (1 / IMAGES)))


def test_equal_answers_to_few_images_are_the_same_and_say_how_little_that_shows():
    predictions = tuple(label for label in range(10))
    record = AccuracyRecord(images=10, correct=10, tolerance=1e-3, predictions=predictions)
    few = replace(DATA, images=10, labels=predictions)
    found = changes(record, record, few, few)["accuracy.top1"]
    assert found.verdict == "same"
    assert found.detectable > 30


def test_one_image_of_a_thousand_leaves_open_whether_half_a_point_is_lost():
    found = changes(accuracy(answers()), accuracy(answers(7)))["accuracy.top1"]
    assert found.verdict == "inconclusive"
    assert found.low < -0.5 < found.high


def test_the_interval_holds_the_truth_in_at_least_nineteen_of_twenty():
    random, held = Random(5), 0
    for _ in range(300):
        outcomes = [random.random() for _ in range(200)]
        lost, gained = sum(one < 0.03 for one in outcomes), sum(one > 0.95 for one in outcomes)
        effect = _effect(lost, gained, 200)
        held += effect.low <= 100 * (0.05 - 0.03) <= effect.high
    assert held >= 285


def test_answers_that_do_not_fit_their_count_are_not_comparable():
    unlabelled = replace(DATA, labels=())
    pair = accuracy(answers(1)), accuracy(answers(2), correct=IMAGES * 10)
    found = changes(*pair, unlabelled, unlabelled)["accuracy.top1"]
    assert found.verdict == "not comparable"
    assert "do not fit" in found.reason


def test_many_images_lost_and_gained_alike_are_open():
    found = changes(accuracy(answers(*range(30))), accuracy(answers(*range(30, 60))))["accuracy.top1"]
    assert found.verdict == "inconclusive"
    assert found.p == 1.0
    assert not found.command


def test_without_labels_every_image_labelled_otherwise_counts():
    unlabelled = replace(DATA, labels=())
    pair = accuracy(answers()), accuracy(answers(*range(20)))
    known, unknown = changes(*pair)["accuracy.top1"], changes(*pair, unlabelled, unlabelled)["accuracy.top1"]
    assert unknown.effect == known.effect
    assert unknown.p == pytest.approx(known.p)
    both = accuracy(answers(*range(30))), accuracy(answers(*range(30, 65)))
    weaker = changes(*both, unlabelled, unlabelled)["accuracy.top1"]
    assert weaker.p >= changes(*both)["accuracy.top1"].p


@pytest.mark.parametrize(
    ("base", "new", "subjects", "words"),
    [
        (None, accuracy(answers()), (DATA, DATA), "no accuracy was measured of base"),
        (accuracy(()), accuracy(answers()), (DATA, DATA), "not stored of base"),
        (accuracy(answers()), accuracy(answers()), (replace(DATA, data_sha256=""), DATA), "by sha256"),
        (accuracy(answers()), accuracy(answers(), images=999), (DATA, DATA), "different images"),
        (
            accuracy(answers()),
            accuracy(answers(), correct=None, reason="No labels."),
            (DATA, DATA),
            "No labels.",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(base, new, subjects, words):
    found = changes(base, new, *subjects)["accuracy.top1"]
    assert found.verdict == "not comparable"
    assert words in found.reason


def test_more_flips_than_half_a_percent_are_worse():
    def flips(count: int):
        return accuracy(answers(), flips=count)

    assert changes(flips(0), flips(5))["accuracy.flips"].verdict == "same"
    assert changes(flips(0), flips(6))["accuracy.flips"].verdict == "worse"
    assert changes(flips(9), flips(0))["accuracy.flips"].verdict == "better"
    asked = changes(flips(0), flips(4), options=gates("accuracy.flips:3"))["accuracy.flips"]
    assert asked.verdict == "worse"
    named = changes(flips(0), flips(5), options=gates("accuracy.flips"))["accuracy.flips"]
    assert (named.verdict, named.margin) == ("same", 5.0)


def test_the_exact_interval_agrees_with_the_exact_test():
    for lost, gained in ((6, 0), (5, 0), (20, 7), (9, 9)):
        low, high = stats.clopper_pearson(gained, lost + gained)
        assert (stats.mcnemar(lost, gained) < 0.05) == (not low <= 0.5 <= high)
