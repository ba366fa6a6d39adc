"""Latency: the wall time of one blocking call, from one side of the boundary to the other.

The harness owns time: a plugin never times itself. The clock is a parameter, so that tests can lie.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter_ns
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.spec import Runner

    # Host arrays, or at the boundary `device` what the runner's `upload` gave and its `download` takes.
    Inputs = Any
    Outputs = Any

Clock = Callable[[], int]

CHUNKS_A_SLICE = 10
"""The deadline of a slice is looked at about this often; inside a chunk nothing but calls happens."""

SETTLED = 0.1
"""Warm-up ends when the medians of its last three windows lie within this share of one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """How long a slice is: at least `slice_s` and `calls_min` calls; up to twice `slice_s` for `calls_aim`.

    settle_calls, settle_s: calls kept apart after a switch, whichever ends first, at least one.
    """

    slice_s: float = 0.1
    calls_min: int = 5
    calls_aim: int = 40
    settle_calls: int = 10
    settle_s: float = 0.02


class Ring:
    """Inputs that take turns, endlessly; `position` is the index of the next one."""

    def __init__(self, entries: Sequence[Inputs]) -> None:
        self.entries = tuple(entries)
        self.position = 0
        self._turns = cycle(self.entries)

    def put(self, index: int, entry: Inputs) -> None:
        """Put another entry in the place of one, which the ring then lets go."""
        self.entries = (*self.entries[:index], entry, *self.entries[index + 1 :])
        self._turns = cycle(self.entries[self.position :] + self.entries[: self.position])

    def take(self, count: int) -> Iterator[Inputs]:
        """Give the next `count` entries; they count as taken at once."""
        self.position = (self.position + count) % len(self.entries)
        return islice(self._turns, count)

    @property
    def last(self) -> int:
        """Index of the entry that was taken last."""
        return (self.position - 1) % len(self.entries)


class Samples:
    """Integer nanoseconds in memory that is allocated before the calls that fill it."""

    def __init__(self) -> None:
        self.values = array("q")
        self.count = 0

    def reserve(self, calls: int) -> None:
        """Make room for `calls` more."""
        missing = self.count + calls - len(self.values)
        if missing > 0:
            self.values.frombytes(bytes(8 * max(missing, 4096)))

    def since(self, first: int) -> array[int]:
        """Copy the samples from index `first` on."""
        return self.values[first : self.count]


@dataclass(frozen=True, slots=True)
class SliceTimes:
    """What one slice gave: `first` is the index of its first sample; `outputs` those of its last call."""

    first: int
    calls: int
    duration_ns: int
    settle_calls: int
    settle_ns: int
    outputs: Outputs


@contextmanager
def collector_frozen() -> Iterator[None]:
    """Keep the garbage collector out of the measured region.

    What lives by now stays frozen afterwards: collecting it again before each slice would take a tenth of a
    second where a vendor's library has made half a million objects.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def time_calls(
    runner: Runner, ring: Ring, samples: Samples, count: int, clock: Clock = perf_counter_ns
) -> Outputs:
    """Time `count` calls into `samples`, one after the other; answer the outputs of the last.

    This is the measured region of every latency: two readings of the clock around one plain call.
    """
    samples.reserve(count)
    values, first = samples.values, samples.count
    outputs: Outputs = ()
    # Python finds the method of an object anew at each call of the object; a bound method is found once.
    call = runner if isinstance(runner, FunctionType) else runner.__call__
    for index, inputs in enumerate(ring.take(count), first):
        begin = clock()
        outputs = call(inputs)
        values[index] = clock() - begin
    samples.count = first + count
    return outputs


def settle(runner: Runner, ring: Ring, plan: SlicePlan, clock: Clock = perf_counter_ns) -> tuple[int, int]:
    """Make the calls just after a switch, which are slower; answer how many they were and how long (ns)."""
    begin = clock()
    deadline = begin + int(plan.settle_s * 1e9)
    calls = 0
    while calls < max(1, plan.settle_calls) and (calls == 0 or clock() < deadline):
        for inputs in ring.take(1):
            runner(inputs)
        calls += 1
    return calls, clock() - begin


def time_slice(
    runner: Runner,
    ring: Ring,
    samples: Samples,
    plan: SlicePlan,
    call_ns: float,
    clock: Clock = perf_counter_ns,
) -> SliceTimes:
    """Time one slice; `call_ns`, about how long a call takes, sets how often to look at the clock."""
    settle_calls, settle_ns = settle(runner, ring, plan, clock)
    first = samples.count
    slice_ns = int(plan.slice_s * 1e9)
    chunk = max(1, int(slice_ns / CHUNKS_A_SLICE / max(call_ns, 1.0)))
    begin = clock()
    while True:
        outputs = time_calls(runner, ring, samples, chunk, clock)
        calls, elapsed = samples.count - first, clock() - begin
        enough = calls >= plan.calls_aim or elapsed >= 2 * slice_ns
        if elapsed >= slice_ns and calls >= plan.calls_min and enough:
            break
    return SliceTimes(first, calls, elapsed, settle_calls, settle_ns, outputs)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How warm-up went: `call_ns` is the median of its last window; `settled` whether windows agreed."""

    calls: int
    duration_ns: int
    call_ns: float
    settled: bool


def warm_up(
    runner: Runner, ring: Ring, at_least_s: float, at_most_s: float, clock: Clock = perf_counter_ns
) -> WarmUp:
    """Call until three windows in a row agree within `SETTLED`, or for `at_most_s` to the end of a window."""
    from statistics import median

    begin = clock()
    window_ns = max(at_least_s / 3, 0.01) * 1e9
    medians: list[float] = []
    calls = 0
    while True:
        samples = Samples()
        start = clock()
        while clock() - start < window_ns:
            time_calls(runner, ring, samples, 1, clock)
        calls += samples.count
        medians.append(median(samples.since(0)))
        elapsed = clock() - begin
        last = medians[-3:]
        settled = len(last) == 3 and max(last) <= (1 + SETTLED) * min(last)
        if (settled and elapsed >= at_least_s * 1e9) or elapsed >= at_most_s * 1e9:
            return WarmUp(calls, elapsed, last[-1], settled)


@dataclass(frozen=True, slots=True)
class StretchTimes:
    """One uninterrupted stretch: `steps` are the indices of the first sample of each step."""

    calls: int
    duration_ns: int
    steps: tuple[int, ...]
    outputs: Outputs


def time_stretch(
    runner: Runner,
    ring: Ring,
    samples: Samples,
    duration_s: float,
    step_s: float,
    call_ns: float,
    clock: Clock = perf_counter_ns,
    edge: Callable[[int], None] | None = None,
) -> StretchTimes:
    """Time calls without a break for `duration_s`, noting where each step of `step_s` begins.

    A call belongs to the step in which it begins; one that outlasts a step leaves the next ones empty.
    edge: told the number of each step that begins, between two calls: what it does is in no call's time.
    """
    chunk = max(1, int(step_s * 1e9 / CHUNKS_A_SLICE / max(call_ns, 1.0)))
    steps: list[int] = []
    first = samples.count
    begin = now = clock()
    while now - begin < duration_s * 1e9:
        known = len(steps)
        while now - begin >= len(steps) * step_s * 1e9:
            steps.append(samples.count - first)
        if edge is not None and len(steps) > known:
            edge(len(steps) - 1)
        outputs = time_calls(runner, ring, samples, chunk, clock)
        now = clock()
    return StretchTimes(samples.count - first, now - begin, tuple(steps), outputs)
