"""Throughput: images completed per second in a window while the queue is kept full.

One definition for every backend, at every depth: neither filling nor draining the queue counts.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING

from kdbench.errors import ContractError
from kdbench.measure import Clock, Ring

if TYPE_CHECKING:
    from kdbench.measure import Outputs
    from kdbench.spec import Pipelined, Runner


@dataclass(frozen=True, slots=True)
class WindowTimes:
    """Batches completed while the queue was full, and how long that was."""

    batches: int
    duration_ns: int


def window_serial(
    runner: Runner, ring: Ring, duration_ns: int, clock: Clock = perf_counter_ns
) -> WindowTimes:
    """Call back to back for at least `duration_ns`."""
    batches = 0
    begin = now = clock()
    while now - begin < duration_ns:
        for inputs in ring.take(1):
            runner(inputs)
        batches += 1
        now = clock()
    return WindowTimes(batches, now - begin)


def window_pipelined(
    runner: Pipelined, ring: Ring, depth: int, duration_ns: int, clock: Clock = perf_counter_ns
) -> WindowTimes:
    """Keep `depth` requests in flight for at least `duration_ns`.

    The window opens once the first `depth` requests are complete, with the queue full again, and closes
    at a completion, so that neither filling nor draining counts.
    """
    tag = in_flight = ramp = batches = 0

    def refill() -> None:
        nonlocal tag, in_flight
        for inputs in ring.take(depth - in_flight):
            runner.submit(inputs, tag)
            tag += 1
            in_flight += 1

    while ramp < depth:
        refill()
        done = len(_completions(runner))
        in_flight, ramp = in_flight - done, ramp + done
    refill()
    begin = now = clock()
    while now - begin < duration_ns:
        done = len(_completions(runner))
        now = clock()
        in_flight -= done
        batches += done
        refill()
    while in_flight:
        in_flight -= len(_completions(runner))
    return WindowTimes(batches, now - begin)


def _completions(runner: Pipelined) -> list[tuple[int, Outputs]]:
    completed = runner.wait()
    if not completed:
        raise ContractError("wait() came back without a completed request while some were in flight.")
    return completed


def window_threads(
    runners: Sequence[Runner], rings: Sequence[Ring], duration_ns: int, clock: Clock = perf_counter_ns
) -> WindowTimes:
    """Drive one runner per thread for at least `duration_ns`; rates of the threads add up.

    Each thread's rate is its batches over its own time from the common start to its last completion;
    the answer's duration is the one that gives their sum.
    """
    counts: list[tuple[int, int]] = [(0, 0)] * len(runners)
    faults: list[BaseException] = []
    gate = threading.Barrier(len(runners))

    def drive(index: int) -> None:
        try:
            window_serial(runners[index], rings[index], 1, clock)
            gate.wait()
            times = window_serial(runners[index], rings[index], duration_ns, clock)
            counts[index] = (times.batches, times.duration_ns)
        except BaseException as fault:  # carried to the caller's thread, where it is raised
            faults.append(fault)
            gate.abort()

    threads = [threading.Thread(target=drive, args=(index,), daemon=True) for index in range(len(runners))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fault in faults:
        if not isinstance(fault, threading.BrokenBarrierError):
            raise fault
    rate = sum(batches / elapsed for batches, elapsed in counts)
    total = sum(batches for batches, _ in counts)
    return WindowTimes(total, round(total / rate))
