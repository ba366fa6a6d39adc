"""Doubles of real backends, with a known difference. Runs in kdbench's workers, in distributions of its own.

`benchmarks.evidence.doubling` copies this file beside the distributions that it writes, and they import it by
the name `kdbench_doubles`. It needs the public part of kdbench and nothing else of this repository.

A double accepts the options of its original, since `kdbench_describe` is passed on as it is. Doubles are made
for latency only: `submit` and `wait` of a pipelined runner are not passed on.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from inspect import signature
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from kdbench import Artifact, Placement, Runner, Target, hookimpl

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]
    Call = Callable[[Arrays], Arrays]

Hook = Callable[..., Any]

LEAST_NS, DITHER = 500, 127
"""Both sides spin at least so long, and up to so much longer as the last bits of the clock happen to say:
either loop then ends half a reading of the clock too late on average, and their difference is not rounded."""

IDLE_THREADS, IDLE_NS = 2, 50_000_000
"""What the idler leaves behind after each call: ONNX Runtime's pool was seen to burn 35 to 49 ms."""

BLOCK = bytes(64 * 1024)
"""Hashing so many bytes releases the interpreter's lock, so that spinning takes a CPU and not the lock."""


def slowed(original: Hook, share: float) -> Hook:
    """Give a `kdbench_run` whose runners take longer by `share` of each call's own time."""
    return _hook(original, lambda runner: Slowed(runner, share))


def idling(original: Hook) -> Hook:
    """Give a `kdbench_run` whose runners leave threads spinning after each call."""
    return _hook(original, Idling)


def crowded(original_load: Hook, original_run: Hook, count: int) -> tuple[Hook, Hook]:
    """Give `kdbench_load` and `kdbench_run` that open `count` sessions and take turns among them."""

    @hookimpl
    def kdbench_load(artifact: Artifact, target: Target) -> Crowd:
        asked = {"artifact": artifact, "target": target}
        return Crowd([_call(original_load, **asked) for _ in range(count)])

    @hookimpl
    def kdbench_run(session: Crowd, batch_size: int, depth: int) -> Runner:
        asked = {"batch_size": batch_size, "depth": depth}
        return TakingTurns([_call(original_run, session=one, **asked) for one in session.sessions])

    return kdbench_load, kdbench_run


def _hook(original: Hook, wrap: Callable[[Runner], Runner]) -> Hook:
    @hookimpl
    def kdbench_run(session: Any, batch_size: int, depth: int) -> Runner:
        return wrap(_call(original, session=session, batch_size=batch_size, depth=depth))

    return kdbench_run


def _call(hook: Hook, **asked: Any) -> Any:
    """Call a hook with those arguments that it takes, as pluggy would."""
    return hook(**{name: asked[name] for name in signature(hook).parameters})


class Slowed:
    """Waits busily after each call. With a share of 0 it does all the same but the additional waiting.

    What the harness sees of a call is about 0.2 µs more than what is seen here, so the slow-down falls short
    of `share` by that part of it: by a hundredth of itself where a call takes 20 µs.
    """

    def __init__(self, runner: Runner, share: float, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._call, self._share, self._clock = runner.__call__, share, clock
        _pass_on_memory(runner, self)

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run one batch, then wait."""
        clock = self._clock
        begin = clock()
        outputs = self._call(inputs)
        end = clock()
        until = end + LEAST_NS + (end & DITHER) + int(self._share * (end - begin + LEAST_NS))
        while clock() < until:
            pass
        return outputs


class Idling:
    """Leaves threads that spin for a while after each call, as a pool does that waits for more work."""

    def __init__(self, runner: Runner) -> None:
        self._call = runner.__call__
        self._until, self._awake = 0, threading.Event()
        _pass_on_memory(runner, self)
        for _ in range(IDLE_THREADS):
            threading.Thread(target=self._spin, daemon=True).start()

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run one batch, and have the threads spin on."""
        outputs = self._call(inputs)
        self._until = perf_counter_ns() + IDLE_NS
        self._awake.set()
        return outputs

    def _spin(self) -> None:
        while self._awake.wait():
            if perf_counter_ns() < self._until:
                hashlib.sha256(BLOCK)
            else:
                self._awake.clear()


class Crowd:
    """Several open sessions of one artifact, seen as one."""

    def __init__(self, sessions: list[Any]) -> None:
        self.sessions = sessions

    @property
    def placement(self) -> Placement:
        """Tell where the first one runs; the others are like it."""
        placement: Placement = self.sessions[0].placement
        return placement

    def close(self) -> None:
        """Close them all."""
        for session in self.sessions:
            session.close()


class TakingTurns:
    """Runs each entry of the ring in a session of its own, as far as there are sessions.

    The same instructions as with one session, on as many copies of weights and activations as there are.
    """

    def __init__(self, runners: list[Any]) -> None:
        self._runners = runners
        self._first: Call = runners[0].__call__
        self._calls: dict[int, Call] = {}
        self._entries: list[Arrays] = []

    def __call__(self, inputs: Arrays, /) -> Arrays:
        """Run one batch, in the session that these inputs were allocated for."""
        call = self._calls.get(id(inputs), self._first)
        return call(inputs)

    def allocate_inputs(self, count: int) -> list[Arrays]:
        """Allocate the entries of a ring, each by the runner whose turn it is."""
        entries: list[Arrays] = []
        for index in range(count):
            runner = self._runners[index % len(self._runners)]
            entries += runner.allocate_inputs(1)
            self._calls[id(entries[-1])] = runner.__call__
        self._entries += entries
        return entries


def _pass_on_memory(runner: Runner, double: Any) -> None:
    """Let the harness have the inputs that the original allocates: it knows them again by identity."""
    if allocate := getattr(runner, "allocate_inputs", None):
        double.allocate_inputs = allocate
