"""Splits that share nothing and are drawn from the seed; the digits as they always were; the shift."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, reject, settings, strategies as st

from kdbench.distill.shift import render
from kdbench.distill.sources import Offer, Pictures
from kdbench.distill.sources.digits import digits
from kdbench.distill.sources.twins import distinct, without_contradictions
from kdbench.distill.splits import SPLITS, Splits, check_disjoint, describe, make_splits
from kdbench.distill.tables import DataPlan, Shift
from kdbench.errors import RecipeError

MODERATE = Shift(
    rotation_degrees=30.0,
    contrast=(0.5, 0.9),
    background=(0.0, 0.4),
    texture=0.05,
    texture_cycles=(1.0, 4.0),
    noise=0.03,
)
PLAIN = Shift(
    rotation_degrees=0.0,
    contrast=(1.0, 1.0),
    background=(0.0, 0.0),
    texture=0.0,
    texture_cycles=(1.0, 1.0),
    noise=0.0,
)
DIGITS = DataPlan(
    source="digits",
    size=16,
    source_train=600,
    source_test=100,
    labelled=120,
    unlabelled=500,
    test=500,
    calibration=128,
    shift=MODERATE,
)
SMALL = msgspec.structs.replace(
    DIGITS, size=8, source_train=10, source_test=4, labelled=8, unlabelled=6, test=8, calibration=2
)


def replaced(plan, **changes):
    return msgspec.structs.replace(plan, **changes)


def pictures(count, *, channels=1, side=8, seed=0, classes=2):
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), np.uint8)
    return Pictures(images, np.arange(count) % classes)


def offered(familiar, unfamiliar=None, classes=("cat", "dog")):
    return Offer(classes, familiar, unfamiliar, "maker", "place", "CC0", "nobody")


def fingerprint(splits: Splits) -> str:
    raw = hashlib.sha256()
    for name in SPLITS:
        split = getattr(splits, name)
        raw.update(name.encode() + split.images.tobytes() + split.labels.tobytes() + b"".join(split.digests))
    return raw.hexdigest()


@pytest.fixture(scope="module")
def two_by_five() -> Offer:
    return digits(base=Path())


@pytest.mark.parametrize(
    ("labelled", "seed", "expected"),
    [
        (120, 0, "60508dd02d73cf2bea60e792a6c494ea96ca3892e87a8d105835ee4e4d88750e"),
        (120, 100, "f3d770a70b27cb5a65b81a4e08b0dcd23564d7d5ed70ea54f0bfe8a2ba4eb566"),
        (60, 7, "64192a36debcd859f2e86c64c01f283b7cacae24bdc89aa4559a02994c4a996a"),
    ],
)
def test_the_digits_are_those_that_the_recipe_was_tuned_on(two_by_five, labelled, seed, expected):
    splits = make_splits(two_by_five, replaced(DIGITS, labelled=labelled), seed)
    assert fingerprint(splits) == expected
    assert splits.sha256 == "14381775605b5f0b7408ef4549f8bced25e3725c14ee850fd36d20d00b7b9c19"


def test_ten_classes_are_the_same_pictures_with_other_labels(two_by_five):
    ten = digits(task="10", base=Path())
    assert ten.classes == tuple("0123456789")
    assert two_by_five.classes == ("0-4", "5-9")
    one, other = make_splits(two_by_five, DIGITS, 0), make_splits(ten, DIGITS, 0)
    assert np.array_equal(one.test.images, other.test.images)
    assert np.array_equal(one.test.labels, other.test.labels >= 5)
    assert set(other.labelled.labels) == set(range(10))


def test_splits_share_no_picture_and_are_drawn_from_the_seed(two_by_five):
    splits = make_splits(two_by_five, DIGITS, 0)
    parts = [getattr(splits, name) for name in SPLITS]
    found = [digest for part in parts for digest in part.digests]
    assert len(found) == len(set(found)) == 1797
    assert [len(part) for part in parts] == [600, 100, 500, 120, 477]
    assert {part.images.shape[1:] for part in parts} == {(3, 16, 16)}
    again, other = make_splits(two_by_five, DIGITS, 0), make_splits(two_by_five, DIGITS, 1)
    assert fingerprint(splits) == fingerprint(again)
    assert splits.test.digests != other.test.digests
    assert splits.sha256 == other.sha256


@settings(max_examples=30, deadline=None)
@given(
    labels=st.integers(6, 12) | st.sampled_from([0.2, 0.25]),
    seed=st.integers(0, 1000),
    two=st.booleans(),
    shift=st.sampled_from([None, PLAIN, MODERATE]),
)
def test_the_test_split_is_the_same_at_any_number_of_labels(labels, seed, two, shift):
    plan = replaced(SMALL, test=20, shift=shift)
    offer = offered(pictures(60), pictures(60, channels=3, seed=1) if two else None)
    try:
        one, other = (make_splits(offer, replaced(plan, labelled=labelled), seed) for labelled in (labels, 8))
    except RecipeError:
        reject()  # a draw without one of the two classes
    assert np.array_equal(one.test.images, other.test.images)
    assert one.test.digests == other.test.digests
    assert len({digest for name in SPLITS for digest in getattr(one, name).digests}) == sum(
        len(getattr(one, name)) for name in SPLITS
    )


def test_splits_that_share_a_picture_are_refused(two_by_five):
    splits = make_splits(two_by_five, DIGITS, 0)
    with pytest.raises(RecipeError, match="source_train and test share"):
        check_disjoint({"source_train": splits.source_train, "test": splits.source_train})


def test_too_many_labels_are_refused_with_the_number_that_mends_it(two_by_five):
    with pytest.raises(RecipeError, match=r"There are 1797 pictures; .* need 1828\. .*by 31\."):
        make_splits(two_by_five, replaced(DIGITS, labelled=500), 0)


def test_shares_are_of_the_pool_of_their_domain_rounded_down_and_at_least_one():
    plan = replaced(
        SMALL, source_train=0.5, source_test=0.001, test=0.29, labelled=0.1, unlabelled=0.999, shift=None
    )
    splits = make_splits(offered(pictures(50), pictures(100, seed=1)), plan, 0)
    # 0.29 of 100 is 28.999... in binary
    assert [len(getattr(splits, name)) for name in SPLITS] == [25, 1, 29, 10, 61]


def test_two_domains_are_divided_apart():
    offer = offered(pictures(20), pictures(40, channels=3, side=12, seed=1))
    splits = make_splits(offer, replaced(SMALL, shift=None), 3)
    assert (splits.source_train.images[:, 0] == splits.source_train.images[:, 2]).all()
    assert not (splits.test.images[:, 0] == splits.test.images[:, 2]).all()
    assert [len(getattr(splits, name)) for name in SPLITS] == [10, 4, 8, 8, 6]
    shifted = make_splits(offer, replaced(SMALL, shift=MODERATE), 3)
    assert np.array_equal(shifted.source_train.images, splits.source_train.images)
    assert shifted.test.digests == splits.test.digests
    assert not np.array_equal(shifted.test.images, splits.test.images)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source_train": 30}, r"20 familiar pictures; .* need 34\. .*data\.source_train by 14"),
        ({"test": 40}, r"40 unfamiliar pictures; .* need 50\. .*by 10"),
        ({"unlabelled": 1}, r"data\.calibration is 2, more than the 1 of data\.unlabelled"),
    ],
)
def test_each_of_two_domains_must_have_enough(changes, told):
    offer = offered(pictures(20), pictures(40, seed=1))
    with pytest.raises(RecipeError, match=told):
        make_splits(offer, replaced(SMALL, **changes), 0)


def test_without_a_shift_and_a_second_domain_all_splits_are_plain():
    pool = pictures(60)
    splits = make_splits(offered(pool), replaced(SMALL, shift=None), 0)
    stored = {picture.tobytes() for picture in pool.images}
    assert {picture[:1].tobytes() for picture in splits.test.images} <= stored


def test_a_picture_that_is_in_both_domains_is_refused_with_how_many_there_are():
    familiar, other = pictures(40), pictures(40, seed=1)
    images = np.repeat(other.images, 3, axis=1)
    images[5:8] = familiar.images[10:13]
    names = tuple(f"dog/{number}.png" for number in range(40))
    offer = offered(familiar, Pictures(images, other.labels, names))
    with pytest.raises(RecipeError, match=r"Of 40 unfamiliar pictures 3 occur .* first of them 'dog/5\.png'"):
        make_splits(offer, SMALL, 0)


def test_a_picture_that_is_there_twice_is_kept_once():
    pool = pictures(60)
    doubled = Pictures(
        np.concatenate([pool.images, pool.images[:20]]), np.append(pool.labels, pool.labels[:20])
    )
    assert fingerprint(make_splits(offered(doubled), SMALL, 0)) == fingerprint(
        make_splits(offered(pool), SMALL, 0)
    )


def test_a_picture_with_two_labels_is_refused_by_name_and_can_be_left_out():
    pool = pictures(6)
    images = pool.images.copy()
    images[3], images[5] = images[0], images[2]
    double = Pictures(images, pool.labels, tuple("abcdef"))
    with pytest.raises(RecipeError, match=r"labels 'cat' and 'dog': 'a' and 'd' \(2 such pairs in all\)"):
        distinct(double, ("cat", "dog"), "familiar")
    with pytest.raises(RecipeError, match="number 0 and number 3"):
        distinct(Pictures(images, pool.labels), ("cat", "dog"), "familiar")
    left = without_contradictions(double)
    assert left.names == ("b", "e")
    assert np.array_equal(left.images, images[[1, 4]])


@pytest.mark.parametrize("split", ["test", "labelled"])
def test_a_class_that_a_split_has_no_picture_of_is_refused(split):
    pool = pictures(60, classes=3)
    with pytest.raises(RecipeError, match=rf"for {split} is of the class .*Raise data\.{split}"):
        make_splits(offered(pool, classes=("cat", "dog", "owl")), replaced(SMALL, **{split: 2}), 0)
    with pytest.raises(RecipeError, match=r"class '\d' or '\d' or '\d' or 5 more\."):
        make_splits(offered(pictures(90, classes=9), classes=tuple("123456789")), replaced(SMALL, test=1), 0)


def test_a_class_that_a_domain_has_no_picture_of_is_refused():
    with pytest.raises(RecipeError, match="None of the unfamiliar pictures is of the class 'owl'"):
        make_splits(offered(pictures(60, classes=3), pictures(60, seed=1), ("cat", "dog", "owl")), SMALL, 0)


def test_float_pictures_are_not_reduced():
    pool = pictures(60, side=12)
    offer = offered(Pictures(pool.images / 255.0, pool.labels))
    with pytest.raises(RecipeError, match=r"data\.size is 8, smaller than the 12x12 pixels"):
        make_splits(offer, SMALL, 0)


def test_the_card_is_told_where_pictures_come_from_and_what_was_done(two_by_five):
    splits = make_splits(two_by_five, DIGITS, 0)
    told = describe(two_by_five, DIGITS, splits)
    assert told.generator.startswith("kdbench digits, scikit-learn ")
    assert told.source.endswith(
        "; brought to 16x16 pixels, and for the target domain rotated, coloured, textured and made noisy "
        "by kdbench"
    )
    assert (told.evaluation, told.calibration, told.sha256) == (500, 128, splits.sha256)
    assert (
        "inverted"
        in describe(two_by_five, replaced(DIGITS, shift=replaced(MODERATE, invert=True)), splits).source
    )
    assert describe(two_by_five, replaced(DIGITS, shift=None), splits).source.endswith("pixels by kdbench")


def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("kind", ["digits", "grey", "colour"])
def test_what_is_rendered_does_not_depend_on_how_many_are_done_at_a_time(two_by_five, kind):
    images = {
        "digits": two_by_five.familiar.images[:7],
        "grey": pictures(7, side=20).images,
        "colour": pictures(7, side=11, channels=3).images,
    }[kind]
    whole = render(images, 16, MODERATE, rng())
    for elements in (1, 3 * 16 * 16 * 3):
        assert np.array_equal(whole, render(images, 16, MODERATE, rng(), chunk_elements=elements))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_the_right_size_are_left_as_they_are(channels):
    images = pictures(5, side=16, channels=channels).images
    for shift in (None, PLAIN):
        assert np.array_equal(render(images, 16, shift, rng()), np.broadcast_to(images, (5, 3, 16, 16)))


def test_a_quarter_turn_without_colours_is_a_quarter_turn():
    images = pictures(5, side=16, channels=3).images
    turned = render(images, 16, replaced(PLAIN, rotation_degrees=90.0), rng())
    assert np.array_equal(turned, np.rot90(images, k=1, axes=(2, 3)))


def test_reducing_smooths_so_that_nothing_aliases():
    rows = np.arange(64) % 2 * 255
    stripes = np.broadcast_to(rows[:, None], (1, 1, 64, 64)).astype(np.uint8)
    reduced = render(stripes, 16, None, rng())[:, :, 2:-2]
    assert np.abs(reduced.astype(int) - 127).max() <= 12


def test_inverting_is_done_before_colouring_and_after_turning():
    images = pictures(3, side=16).images
    inverted = render(images, 16, replaced(PLAIN, invert=True), rng())
    assert np.array_equal(inverted, np.broadcast_to(255 - images, (3, 3, 16, 16)))
    dim = replaced(PLAIN, invert=True, contrast=(0.5, 0.5), background=(0.2, 0.2), rotation_degrees=45.0)
    coloured = render(np.full((1, 1, 16, 16), 255, np.uint8), 16, dim, rng())
    assert coloured[0, 0, 8, 8] == round(0.2 * 255)
    assert coloured[0, 0, 0, 0] == round(0.7 * 255)


def test_a_colour_picture_is_shifted_per_channel():
    images = np.zeros((1, 3, 8, 8), np.uint8)
    images[:, 1] = 255
    shifted = render(images, 8, replaced(PLAIN, contrast=(0.5, 0.5), background=(0.25, 0.25)), rng())
    assert [np.unique(shifted[0, channel]).tolist() for channel in range(3)] == [[64], [191], [64]]
