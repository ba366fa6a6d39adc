from __future__ import annotations

import gc
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kdbench.measure import (
    Ring,
    Samples,
    SlicePlan,
    collector_frozen,
    settle,
    time_calls,
    time_slice,
    time_stretch,
    warm_up,
)

US, MS, S = 1_000, 1_000_000, 1_000_000_000
UNSETTLED = SlicePlan(settle_calls=1, settle_s=0.0)


def ring(entries: int = 4) -> Ring:
    return Ring([(index,) for index in range(entries)])


def one_slice(clock, call_ns: int, plan: SlicePlan = UNSETTLED, expected_ns: float | None = None):
    samples = Samples()
    return time_slice(clock.runner(call_ns), ring(), samples, plan, expected_ns or call_ns, clock), samples


def test_samples_are_exactly_the_differences_of_the_two_readings_around_each_call(clock):
    clock.reading_ns = 7
    samples = Samples()
    time_calls(clock.runner(30, 10, 40, 10, 50), ring(), samples, 5, clock)
    assert list(samples.since(0)) == [37, 17, 47, 17, 57]
    assert len(clock.readings) == 2 * 5
    begins, ends = clock.readings[0::2], clock.readings[1::2]
    assert [end - begin for begin, end in zip(begins, ends, strict=True)] == list(samples.since(0))


def test_more_samples_go_behind_those_that_are_there_already(clock):
    samples = Samples()
    for _ in range(3):
        time_calls(clock.runner(1, 2), ring(), samples, 5000, clock)
    assert samples.count == 15_000
    assert list(samples.since(9_998)) == [1, 2] * 2501
    assert len(samples.since(15_000)) == 0


def test_the_outputs_are_those_of_the_last_call(clock):
    turns = ring(4)
    assert time_calls(clock.runner(1), turns, Samples(), 7, clock) == (2,)
    assert turns.last == 2


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4, 6])
def test_an_entry_is_replaced_where_it_stands_and_the_ring_goes_on(taken):
    turns = ring(4)
    assert len(list(turns.take(taken))) == taken
    turns.put(2, "another")
    assert turns.entries == ((0,), (1,), "another", (3,))
    expected = [turns.entries[(taken + call) % 4] for call in range(9)]
    assert list(turns.take(9)) == expected


def test_inputs_take_turns_over_all_calls_whoever_makes_them(clock):
    seen = []

    def runner(inputs):
        clock.now_ns += 3 * MS
        seen.append(inputs[0])
        return inputs

    turns = ring(5)
    settle(runner, turns, SlicePlan(), clock)
    time_calls(runner, turns, Samples(), 4, clock)
    time_slice(runner, turns, Samples(), SlicePlan(), 3 * MS, clock)
    assert seen == [index % 5 for index in range(len(seen))]
    assert turns.last == seen[-1]
    assert turns.position == (seen[-1] + 1) % 5


def test_a_slice_of_quick_calls_ends_when_its_time_is_over(clock):
    times, samples = one_slice(clock, 1 * MS)
    assert (times.calls, times.duration_ns) == (100, 100 * MS)
    assert samples.count == 100


def test_a_slice_goes_on_for_the_calls_that_it_aims_at(clock):
    times, _ = one_slice(clock, 4 * MS)
    assert (times.calls, times.duration_ns) == (40, 160 * MS)


def test_a_slice_gives_up_its_aim_after_twice_its_time(clock):
    times, _ = one_slice(clock, 30 * MS)
    assert (times.calls, times.duration_ns) == (7, 210 * MS)


def test_a_slice_has_the_fewest_calls_however_long_they_take(clock):
    times, _ = one_slice(clock, 1 * S)
    assert (times.calls, times.duration_ns) == (5, 5 * S)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    call_ns=st.integers(1 * US, 20 * MS),
    calls_min=st.integers(1, 8),
    more=st.integers(0, 60),
    misjudged=st.floats(0.3, 3.0),
)
def test_a_slice_ends_as_soon_as_its_rules_allow_and_one_look_at_the_clock(
    clock, call_ns, calls_min, more, misjudged
):
    plan = SlicePlan(slice_s=0.002, calls_min=calls_min, calls_aim=calls_min + more, settle_calls=1)
    slice_ns, calls_aim = 2 * MS, plan.calls_aim
    times, samples = one_slice(clock, call_ns, plan, expected_ns=call_ns * misjudged)
    assert times.calls == samples.count
    assert times.calls >= calls_min
    assert times.duration_ns == times.calls * call_ns >= slice_ns
    assert times.calls >= calls_aim or times.duration_ns >= 2 * slice_ns
    fewest = max(calls_min, -(-slice_ns // call_ns))
    soonest = max(fewest, min(calls_aim, -(-2 * slice_ns // call_ns)))
    look = max(1.0, slice_ns / 10 / (call_ns * misjudged))
    assert times.calls <= soonest + look


def test_the_calls_just_after_a_switch_are_kept_apart(clock):
    times, samples = one_slice(clock, 1 * MS, SlicePlan())
    assert (times.settle_calls, times.settle_ns) == (10, 10 * MS)
    assert (times.first, samples.count, times.calls) == (0, 100, 100)


@pytest.mark.parametrize(
    ("plan", "call_ns", "calls"),
    [
        (SlicePlan(), 1 * MS, 10),
        (SlicePlan(), 3 * MS, 7),
        (SlicePlan(), 50 * MS, 1),
        (SlicePlan(settle_s=0.0), 1 * MS, 1),
        (SlicePlan(settle_calls=3), 1 * US, 3),
    ],
    ids=["ten calls", "twenty milliseconds", "a slow call", "no time given", "fewer calls given"],
)
def test_settling_ends_by_calls_or_time_whichever_is_first_but_makes_one_call(clock, plan, call_ns, calls):
    assert settle(clock.runner(call_ns), ring(), plan, clock) == (calls, calls * call_ns)


def test_a_second_slice_begins_behind_the_samples_of_the_first(clock):
    samples, runner = Samples(), clock.runner(1 * MS)
    first = time_slice(runner, ring(), samples, UNSETTLED, 1 * MS, clock)
    second = time_slice(runner, ring(), samples, UNSETTLED, 1 * MS, clock)
    assert (first.first, second.first, samples.count) == (0, 100, 200)


def test_warm_up_ends_when_three_windows_agree(clock):
    result = warm_up(clock.runner(1 * MS), ring(), 0.3, 3.0, clock)
    assert result.settled
    assert (result.calls, result.duration_ns, result.call_ns) == (300, 300 * MS, 1 * MS)


def test_warm_up_waits_for_calls_that_grow_quicker(clock):
    def runner(_):
        clock.now_ns += 4 * MS if clock.now_ns < 150 * MS else 1 * MS

    result = warm_up(runner, ring(), 0.3, 3.0, clock)
    assert result.settled
    assert result.call_ns == 1 * MS
    assert 400 * MS <= result.duration_ns < 410 * MS


def test_warm_up_that_never_settles_is_given_up_and_says_so(clock):
    def runner(_):
        clock.now_ns += 1 * MS + clock.now_ns // 5

    result = warm_up(runner, ring(), 0.03, 3.0, clock)
    assert not result.settled
    assert 3 * S <= result.duration_ns < 5 * S


def test_warm_up_makes_at_least_one_call_even_of_the_slowest(clock):
    result = warm_up(clock.runner(10 * S), ring(), 0.3, 3.0, clock)
    assert (result.calls, result.call_ns, result.settled) == (1, 10 * S, False)


def test_a_stretch_notes_where_each_step_begins(clock):
    samples = Samples()
    times = time_stretch(clock.runner(10 * MS), ring(), samples, 3.0, 1.0, 10 * MS, clock)
    assert (times.calls, times.duration_ns) == (300, 3 * S)
    assert times.steps == (0, 100, 200)
    assert times.outputs == (299 % 4,)


def test_a_step_in_which_no_call_begins_is_empty_and_shifts_no_other(clock):
    times = time_stretch(clock.runner(2500 * MS, 500 * MS), ring(), Samples(), 6.0, 1.0, 1 * S, clock)
    assert times.calls == 4
    assert [high - low for low, high in pairwise([*times.steps, times.calls])] == [1, 0, 1, 1, 0, 1]


def test_a_stretch_does_not_count_what_was_measured_before_it(clock):
    samples = Samples()
    time_calls(clock.runner(1), ring(), samples, 17, clock)
    times = time_stretch(clock.runner(10 * MS), ring(), samples, 1.0, 0.5, 10 * MS, clock)
    assert times.steps == (0, 50)
    assert samples.count == 17 + times.calls


def test_a_fault_of_the_runner_is_not_swallowed(clock):
    def runner(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        time_slice(runner, ring(), Samples(), SlicePlan(), 1 * MS, clock)


def test_the_collector_stands_still_inside_and_goes_on_afterwards():
    def disturbed():
        with collector_frozen():
            assert not gc.isenabled()
            assert gc.get_freeze_count() > 0
            raise ZeroDivisionError

    assert gc.isenabled()
    try:
        with pytest.raises(ZeroDivisionError):
            disturbed()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0  # so that the next slice collects only what is new
    finally:
        gc.unfreeze()
