"""What a comparison computes with: Holm, Welch and Satterthwaite, t, and how many blocks are needed."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, strategies as st

from kdbench import stats


def test_holm_is_that_of_a_textbook():
    assert stats.holm((0.01, 0.04, 0.03, 0.005)) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert stats.holm(()) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_a_probability_and_keeps_their_order(found):
    corrected = stats.holm(found)
    assert all(before <= after <= 1 for before, after in zip(found, corrected, strict=True))
    order = sorted(range(len(found)), key=found.__getitem__)
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(order))


def test_two_equal_parts_have_their_degrees_of_freedom_together():
    assert stats.combined([(1.0, 4.0), (1.0, 4.0)]) == pytest.approx((math.sqrt(2), 8.0))
    assert stats.combined([(4.0, 3.0), (0.0, 9.0)]) == pytest.approx((2.0, 3.0))
    assert stats.combined([(0.0, 3.0), (0.0, 2.0)]) == (0.0, 2.0)


def test_the_interval_and_the_probability_agree():
    half = stats.t_half(0.5, 7)
    assert stats.t_probability(half, 0.5, 7) == pytest.approx(0.05)
    assert stats.t_probability(0.0, 0.0, 7) == 1.0
    assert stats.t_probability(0.1, 0.0, 7) == 0.0


def test_enough_blocks_are_enough_and_one_less_is_not():
    blocks = stats.blocks_needed(0.01, 0.005, 1_000)
    assert stats.t_half(0.01 / math.sqrt(blocks), blocks - 1) <= 0.005
    assert stats.t_half(0.01 / math.sqrt(blocks - 1), blocks - 2) > 0.005


def test_blocks_are_at_least_three_and_at_most_what_is_allowed():
    assert stats.blocks_needed(0.0, 0.1, 100) == 3
    assert stats.blocks_needed(1.0, 0.001, 100) == 100
    assert stats.blocks_needed(1.0, 0.0, 100) == 100
