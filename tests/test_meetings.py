from __future__ import annotations

from itertools import combinations

from hypothesis import given, strategies as st

from kdbench.meetings import meetings
from kdbench.schedule import ALTERNATING


@given(st.lists(st.sampled_from(["host", "GPU-a", "GPU-b"]), max_size=12), st.integers(2, ALTERNATING))
def test_each_two_of_one_place_meet_and_no_two_of_unlike_places(places, size):
    found = meetings(places, dict.fromkeys(places, size))
    met = {frozenset(pair) for cohort in found for pair in combinations(cohort, 2)}
    alike = {frozenset((a, b)) for a, b in combinations(range(len(places)), 2) if places[a] == places[b]}
    assert met == alike
    assert {worker for cohort in found for worker in cohort} == set(range(len(places)))
    assert all(len(cohort) <= size for cohort in found)


def test_four_of_one_place_live_together_once():
    assert meetings(["host"] * 4) == ((0, 1, 2, 3),)


def test_a_place_with_room_for_one_lets_everybody_live_alone():
    assert meetings(["host", "GPU", "GPU"], {"GPU": 1}) == ((0,), (1,), (2,))
