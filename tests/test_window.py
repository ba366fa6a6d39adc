from __future__ import annotations

import threading
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kdbench.errors import ContractError
from kdbench.measure import Ring
from kdbench.window import window_pipelined, window_serial, window_threads

LIMIT_S = 20


def ring(entries: int = 4) -> Ring:
    return Ring([(index,) for index in range(entries)])


class Device:
    """A device with a few servers; the clock goes on to the next completion when it is waited for."""

    def __init__(self, clock, servers: int, services_ns: list[int], submit_ns: int = 0) -> None:
        self.clock, self.submit_ns, self.services_ns = clock, submit_ns, services_ns
        self.free_ns = [0] * servers
        self.due: dict[int, tuple[int, object]] = {}
        self.completed_ns: list[int] = []
        self.inputs: list[object] = []
        self.waited_with: list[int] = []

    def submit(self, inputs, tag) -> None:
        assert tag not in self.due
        self.clock.now_ns += self.submit_ns
        server = self.free_ns.index(min(self.free_ns))
        service = self.services_ns[tag % len(self.services_ns)]
        self.free_ns[server] = max(self.free_ns[server], self.clock.now_ns) + service
        self.due[tag] = (self.free_ns[server], inputs)
        self.inputs.append(inputs[0])

    def wait(self):
        self.waited_with.append(len(self.due))
        self.clock.now_ns = max(self.clock.now_ns, min(at for at, _ in self.due.values()))
        done = [tag for tag, (at, _) in self.due.items() if at <= self.clock.now_ns]
        self.completed_ns += [self.clock.now_ns for _ in done]
        return [(tag, (self.due.pop(tag)[1],)) for tag in done]


def test_a_serial_window_ends_with_the_call_that_passes_its_time(clock):
    times = window_serial(clock.runner(30), ring(), 100, clock)
    assert (times.batches, times.duration_ns) == (4, 120)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    depth=st.integers(2, 8),
    servers=st.integers(1, 8),
    services_ns=st.lists(st.integers(1, 500), min_size=1, max_size=9),
    duration_ns=st.integers(1, 20_000),
)
def test_a_pipelined_window_counts_exactly_what_completes_within_it(
    clock, depth, servers, services_ns, duration_ns
):
    clock.now_ns, clock.readings = 0, []
    device = Device(clock, servers, services_ns)
    times = window_pipelined(device, ring(), depth, duration_ns, clock)
    begin, *_ = clock.readings
    end = begin + times.duration_ns
    inside = [at for at in device.completed_ns if begin < at <= end]
    assert times.batches == len(inside)
    assert sum(at <= begin for at in device.completed_ns) >= depth
    assert end in inside
    assert times.duration_ns >= duration_ns
    assert not any(at - begin >= duration_ns for at in inside if at < end)


def test_the_queue_is_full_whenever_the_window_waits_and_drained_afterwards(clock):
    device = Device(clock, 2, [100, 70, 130])
    times = window_pipelined(device, ring(3), 4, 5_000, clock)
    inside = device.waited_with[: -device.waited_with[::-1].index(4)]
    assert set(inside) == {4}
    assert not device.due
    assert len(device.completed_ns) == len(device.inputs) > times.batches + 4
    assert device.inputs == [index % 3 for index in range(len(device.inputs))]


def test_a_steady_device_shows_its_true_rate_at_any_depth(clock):
    for depth in (2, 3, 8):
        times = window_pipelined(Device(clock, 1, [100]), ring(), depth, 10_000, clock)
        assert (times.batches, times.duration_ns) == (100, 10_000)


def test_a_wait_that_answers_nothing_breaks_the_contract(clock):
    class Idle(Device):
        def wait(self):
            return []

    with pytest.raises(ContractError, match="without a completed request"):
        window_pipelined(Idle(clock, 1, [100]), ring(), 2, 1_000, clock)


def test_a_fault_in_submit_is_not_swallowed(clock):
    class Broken(Device):
        def submit(self, inputs, tag):
            if tag == 9:
                raise ZeroDivisionError
            super().submit(inputs, tag)

    with pytest.raises(ZeroDivisionError):
        window_pipelined(Broken(clock, 1, [100]), ring(), 2, 100_000, clock)


class OwnTime(threading.local):
    """A clock that goes in each thread by itself, so that no schedule of threads changes a figure."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def runner(self, call_ns: int):
        def run(inputs):
            self.now_ns += call_ns
            return inputs

        return run


@pytest.mark.timeout(LIMIT_S)
def test_rates_of_threads_add_up():
    clock = OwnTime()
    times = window_threads([clock.runner(10), clock.runner(30)], [ring(), ring()], 600, clock)
    assert (times.batches, times.duration_ns) == (60 + 20, 600)


@pytest.mark.timeout(LIMIT_S)
def test_each_thread_has_its_own_end():
    clock = OwnTime()
    times = window_threads([clock.runner(70), clock.runner(30)], [ring(), ring()], 100, clock)
    assert times.batches == 2 + 4
    assert times.batches / times.duration_ns == pytest.approx(2 / 140 + 4 / 120, rel=0.01)


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("calls_before", [0, 1, 5])
def test_a_fault_in_one_thread_surfaces_and_leaves_no_thread_behind(calls_before):
    clock, before = OwnTime(), threading.active_count()
    answers = iter(islice(iter(int, 1), calls_before))

    def broken(inputs):
        clock.now_ns += 10
        if next(answers, None) is None:
            raise ZeroDivisionError
        return inputs

    with pytest.raises(ZeroDivisionError):
        window_threads([clock.runner(10), broken, clock.runner(10)], [ring(), ring(), ring()], 600, clock)
    assert threading.active_count() == before
