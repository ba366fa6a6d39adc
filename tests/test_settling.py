from __future__ import annotations

import itertools

import pytest

from kdbench.settling import LIMIT_NS, READ_NS, settle

MS = 1_000_000


def settled(clock, *mhz, highest=None, call_ns=5 * MS):
    """Settle a device that has these clocks at its readings, the last one for ever."""
    readings = iter([*mhz])
    last = mhz[-1]
    run = clock.runner(call_ns)
    return settle(lambda: run(None), lambda: next(readings, last), highest, clock)


def test_three_readings_that_agree_within_a_percent_are_settled(clock):
    found = settled(clock, 300, 900, 1500, 1509, 1501)
    assert found.settled is True
    assert found.duration_ns == 5 * READ_NS
    assert found.calls == 5 * READ_NS // (5 * MS)


def test_three_readings_in_a_row_must_agree_and_not_any_three(clock):
    found = settled(clock, 1500, 1400, 1500, 1400, 1500, 1500, 1500)
    assert (found.settled, found.duration_ns) == (True, 7 * READ_NS)


def test_the_highest_clock_settles_at_once(clock):
    assert settled(clock, 1965, highest=1980).duration_ns == READ_NS
    assert settled(clock, 1900, highest=1980).duration_ns == 3 * READ_NS


def test_a_clock_that_never_settles_is_given_up_after_half_a_second_and_marked(clock):
    clocks = itertools.cycle([1200, 1500])
    run = clock.runner(7 * MS)
    found = settle(lambda: run(None), lambda: next(clocks), None, clock)
    assert found.settled is False
    assert LIMIT_NS <= found.duration_ns <= LIMIT_NS + READ_NS + 7 * MS


def test_a_call_that_takes_longer_than_all_of_it_is_made_once_and_the_clock_read_once(clock):
    found = settled(clock, 1200, call_ns=2 * LIMIT_NS)
    assert (found.calls, found.settled) == (1, False)


@pytest.mark.parametrize("readings", [(None,), (1200, None)])
def test_a_device_that_does_not_tell_its_clock_is_neither_settled_nor_unsettled(clock, readings):
    assert settled(clock, *readings).settled is None


def test_the_device_is_busy_between_any_two_readings(clock):
    log = []
    run = clock.runner(30 * MS)

    def call():
        log.append("call")
        run(None)

    def read():
        log.append("read")
        return 1000.0 * len(log)

    settle(call, read, None, clock)
    assert all(first != second for first, second in itertools.pairwise(log))
    assert log[0] == "call"
