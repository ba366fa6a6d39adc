from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, strategies as st

from kdbench.schedule import ALTERNATING, cohorts, orders, visits

COUNTS = st.integers(1, 8)


@given(COUNTS)
def test_each_order_visits_everybody_once(count):
    assert all(sorted(order) == list(range(count)) for order in orders(count))


@given(COUNTS)
def test_each_order_is_followed_by_its_mirror_image(count):
    cycle = orders(count)
    if count == 1:
        assert cycle == ((0,),)
    else:
        assert all(second == first[::-1] for first, second in zip(cycle[::2], cycle[1::2], strict=True))


@given(COUNTS)
def test_a_cycle_is_as_short_as_it_can_be(count):
    assert len(orders(count)) == (count if count % 2 == 0 or count == 1 else 2 * count)


@given(COUNTS)
def test_everybody_stands_equally_often_in_each_position(count):
    cycle = orders(count)
    places = Counter((position, worker) for order in cycle for position, worker in enumerate(order))
    assert len(places) == count * count
    assert set(places.values()) == {len(cycle) // count}


@given(st.integers(2, 8))
def test_everybody_follows_each_other_equally_often(count):
    follows = Counter(pair for order in orders(count) for pair in pairwise(order))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) == 1


@given(COUNTS, st.integers(0, 40), st.integers(0, 20))
def test_a_block_has_as_many_rounds_as_asked_for_and_begins_with_a_whole_pair(count, rounds, block):
    cycle, found = orders(count), visits(count, rounds, block)
    assert len(found) == rounds
    start = 2 * block % len(cycle)
    assert found == tuple((cycle * (rounds + 2))[start : start + rounds])
    if count > 1 and rounds > 1:
        assert found[1] == found[0][::-1]


@given(st.integers(3, 8), st.integers(0, 5))
def test_the_next_block_begins_with_another_order(count, block):
    assert visits(count, 2, block) != visits(count, 2, block + 1)


def test_where_every_worker_failed_nobody_is_visited():
    assert visits(0, 8, 1) == ()


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True), st.data())
def test_cohorts_hold_all_workers_once_but_the_anchor_which_is_in_each(workers, data):
    anchor = data.draw(st.sampled_from(workers))
    found = cohorts([[worker] for worker in workers], anchor)
    assert all(anchor in cohort and len(cohort) <= ALTERNATING for cohort in found)
    times = Counter(worker for cohort in found for worker in cohort)
    assert set(times) == set(workers)
    assert all(times[worker] == 1 for worker in workers if worker != anchor)
    assert all(len(cohort) > 1 for cohort in found) or len(workers) == 1


def test_a_field_that_fits_is_not_split_and_keeps_its_order():
    assert cohorts([[5, 3], [4], [1]], anchor=4) == ((5, 3, 4, 1),)
    assert cohorts([], anchor=0) == ()


@given(st.lists(st.integers(1, 2), min_size=1, max_size=12), st.data())
def test_families_stay_together_in_one_cohort_with_the_anchor(sizes, data):
    numbers = iter(range(sum(sizes)))
    families = [[next(numbers) for _ in range(size)] for size in sizes]
    anchor = data.draw(st.sampled_from([family[0] for family in families]))
    found = cohorts(families, anchor)
    assert all(anchor in cohort and len(cohort) <= ALTERNATING for cohort in found)
    for family in families:
        assert sum(set(family) <= set(cohort) for cohort in found) == (
            len(found) if family == [anchor] else 1
        )
    times = Counter(worker for cohort in found for worker in cohort)
    assert all(times[worker] == 1 for worker in range(sum(sizes)) if worker != anchor)


def test_pairs_fill_the_cohorts_in_order():
    assert cohorts([(0, 1), (2, 3), (4, 5), (6,)], anchor=0) == ((0, 1, 2, 3), (0, 4, 5, 6))
