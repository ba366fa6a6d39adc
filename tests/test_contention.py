from __future__ import annotations

import pytest

from kdbench import contention
from tests import synthetic


def block(number: int, **change):
    return [synthetic.a_slice(0, 1e6, block=number, round=turn, **change) for turn in range(4)]


@pytest.mark.parametrize(
    "change",
    [
        {"p75_ns": 2.2e6},
        {"run_delay_ns": synthetic.SLICE_NS // 8},
        {"steal_ns": synthetic.SLICE_NS // 8},
        {"other_ns": synthetic.SLICE_NS // 4},
    ],
)
def test_each_kind_of_contention_marks_its_block_and_no_other(change):
    slices = [*block(0), *block(3, **change), *block(5)]
    assert contention.contended_blocks(slices) == {3}
    assert contention.contended_share(slices) == pytest.approx(1 / 3)


def test_a_quiet_cell_and_one_without_slices_have_no_contended_block():
    assert contention.contended_blocks(block(0, other_ns=0)) == frozenset()
    assert contention.contended_blocks([]) == frozenset()
    assert contention.contended_share([]) is None


def test_a_counter_that_is_not_kept_is_no_sign_and_is_left_out_of_the_share():
    half = [*block(0), *block(1, other_ns=synthetic.SLICE_NS)]
    assert contention.other_share(block(0)) is None
    assert contention.other_share(half) == pytest.approx(1.0)
    assert contention.share(block(0), "throttled_ns") is None


def test_many_threads_that_wait_each_a_little_are_no_more_disturbed_than_one():
    little, slice_ns = synthetic.SLICE_NS // 20, synthetic.SLICE_NS
    assert contention.wanted_share(block(0, run_delay_ns=little), "run_delay_ns") == pytest.approx(1 / 21)
    many = block(0, run_delay_ns=16 * little, cpu_ns=16 * slice_ns)
    assert contention.wanted_share(many, "run_delay_ns") == pytest.approx(1 / 21)
    assert contention.contended_blocks(many) == frozenset()
    assert contention.contended_blocks(block(0, steal_ns=slice_ns // 4)) == {0}
    assert contention.wanted_share(block(0, cpu_ns=0), "steal_ns") is None


def test_one_slice_in_four_that_scatters_does_not_make_a_block_contended():
    slices = [*block(0)[:3], synthetic.a_slice(0, 1e6, round=3, p75_ns=9e6)]
    assert contention.contended_blocks(slices) == frozenset()
