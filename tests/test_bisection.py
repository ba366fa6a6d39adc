"""The search for changes of places, over measuring functions whose truth is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from kdbench.bisection import Answer, Bracket, brackets, ladder, most_steps, probe, search

RUNGS = ladder((1,), 256)


class Machine:
    """Answers by the costs of configurations, and remembers what it was asked.

    costs: seconds of a call by batch size. blur: ratios nearer to 1 than this nobody can tell. limits: the
    largest batch size of a configuration that works.
    """

    def __init__(self, *costs, blur=0.0, limits=()):
        self.costs, self.blur, self.limits = costs, blur, dict(enumerate(limits))
        self.asked = []

    def __call__(self, batch, wanted):
        self.asked.append((batch, wanted))
        alive = [k for k in wanted if batch <= self.limits.get(k, math.inf)]
        signs = {(a, b): self.sign(a, b, batch) for a in alive for b in alive if a < b}
        return Answer(signs, set(wanted) - set(alive))

    def sign(self, a, b, batch):
        gap = math.log(self.costs[b](batch) / self.costs[a](batch))
        return 0 if abs(gap) <= self.blur else 1 if gap > 0 else -1


def line(fixed, each):
    return lambda batch: fixed + each * batch


def found(machine, pair=(0, 1), resolution=0.1, changes=2, rungs=RUNGS):
    signs = search(len(machine.costs), rungs, machine, resolution=resolution, changes=changes)
    return brackets(signs[pair])


def test_the_ladder_doubles_from_the_last_batch_size_up_to_the_largest():
    assert ladder((1,), 16) == (1, 2, 4, 8, 16)
    assert ladder((1,), 20) == (1, 2, 4, 8, 16)
    assert ladder((6, 1), 24) == (1, 6, 12, 24)
    assert ladder((64,), 64) == (64,)


def test_a_ladder_climbed_again_is_the_same():
    assert ladder(RUNGS, 256) == RUNGS


def test_one_crossing_is_found_to_the_batch_size():
    machine = Machine(line(1, 1), line(12.5, 0))
    assert found(machine, resolution=0.0) == (Bracket(11, 12, 1, -1),)
    assert [batch for batch, _ in machine.asked] == [*RUNGS, 12, 10, 11]


def test_a_large_crossing_is_found_to_the_resolution():
    (bracket,) = found(Machine(line(1, 1), line(150.5, 0)))
    assert bracket.low < 149.5 < bracket.high
    assert bracket.high - bracket.low <= 0.1 * bracket.low


def test_who_never_changes_places_is_measured_on_the_ladder_alone():
    machine = Machine(line(1, 1), line(2, 2))
    assert found(machine) == ()
    assert [batch for batch, _ in machine.asked] == list(RUNGS)


def wavy(*turns):
    """Give a cost beside which a constant one of 1 is ahead below an even number of turns."""
    return lambda batch: 2.0 if sum(batch >= turn for turn in turns) % 2 == 0 else 0.5


def test_several_crossings_are_all_told():
    machine = Machine(line(1, 0), wavy(3, 11, 50))
    assert [(one.low, one.high) for one in found(machine, resolution=0.0, changes=3)] == [
        (2, 3),
        (10, 11),
        (49, 50),
    ]


def test_crossings_beyond_those_that_are_followed_are_told_by_the_ladder():
    machine = Machine(line(1, 0), wavy(3, 11, 50))
    assert [(one.low, one.high) for one in found(machine, resolution=0.0, changes=1)] == [
        (2, 3),
        (8, 16),
        (32, 64),
    ]


def test_where_nobody_can_tell_the_bracket_says_what_is_known():
    (bracket,) = found(Machine(line(0, 1), line(12.5, 0), blur=math.log(1.3)), resolution=0.0)
    assert (bracket.low, bracket.high) == (9, 17)
    assert set(bracket.untold) <= set(range(10, 17))
    assert bracket.untold[0] == 10
    assert bracket.untold[-1] == 16


def test_nothing_is_told_of_two_that_cannot_be_told_apart():
    machine = Machine(line(1, 1), line(1, 1), blur=0.01)
    assert found(machine) == ()
    assert [batch for batch, _ in machine.asked] == list(RUNGS)


def test_who_fails_at_a_batch_size_is_asked_for_no_larger_one():
    machine = Machine(line(1, 1), line(12.5, 0), line(3, 3), limits=(256, 256, 16))
    signs = search(3, RUNGS, machine, resolution=0.1, changes=2)
    assert max(signs[0, 2]) == 8 * 2
    assert max(signs[0, 1]) == 256
    assert all(wanted == (0, 1) for batch, wanted in machine.asked if batch > 32)


def test_the_ladder_ends_where_only_one_goes_on():
    machine = Machine(line(1, 1), line(2, 2), limits=(256, 8))
    search(2, RUNGS, machine, resolution=0.1, changes=2)
    assert [batch for batch, _ in machine.asked] == [1, 2, 4, 8, 16]


def test_a_batch_size_that_fails_between_others_is_asked_for_once():
    def measure(batch, wanted):
        asked.append(batch)
        return Answer({}) if batch == 12 else Answer({(0, 1): 1 if batch < 12 else -1})

    asked = []
    signs = search(2, RUNGS, measure, resolution=0.0, changes=2)
    assert asked.count(12) == 1
    assert brackets(signs[0, 1]) == (Bracket(11, 13, 1, -1, (12,)),)


def test_pairs_that_ask_for_one_batch_size_are_measured_there_together():
    machine = Machine(line(1, 1), line(12.5, 0), line(12.4, 0))
    search(3, RUNGS, machine, resolution=0.1, changes=2)
    assert (12, (0, 1, 2)) in machine.asked


@pytest.mark.parametrize(
    ("bracket", "middle"),
    [
        (Bracket(8, 9, 1, -1), None),
        (Bracket(8, 16, 1, -1), 12),
        (Bracket(8, 16, 1, -1, (9, 15)), None),
        (Bracket(8, 16, 1, -1, (12,)), 10),
        (Bracket(8, 16, 1, -1, (9, 12)), 14),
        (Bracket(100, 110, 1, -1), None),
        (Bracket(100, 111, 1, -1), 105),
    ],
)
def test_a_probe_narrows_what_is_wider_than_the_resolution(bracket, middle):
    assert probe(bracket, 0.1) == middle


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=257, max_size=257), st.sampled_from([0.0, 0.1, 0.5]))
def test_any_search_ends_within_the_steps_that_were_foretold_and_invents_nothing(truth, resolution):
    asked = []

    def measure(batch, wanted):
        asked.append(batch)
        return Answer({(0, 1): truth[batch]})

    (known,) = search(2, RUNGS, measure, resolution=resolution, changes=2).values()
    assert len(asked) == len(set(asked)) <= len(RUNGS) + most_steps(RUNGS, resolution, 2)
    assert known == {batch: truth[batch] for batch in asked}
    for number, one in enumerate(brackets(known)):
        assert (truth[one.low], truth[one.high]) == (one.below, one.above)
        if number < 2:
            assert probe(one, resolution) is None
