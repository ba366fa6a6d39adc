"""Measure what the harness adds to a call, against the plainest loop that times calls at all.

    python benchmarks/overhead.py [--pairs N] [--slice-ms MS]

Both time a runner that does nothing. The plain loop indexes the ring, reads the clock twice and stores the
difference in an array that is there already; the harness is `kdbench.measure.time_slice` as a worker calls
it. They take turns within one process, in mirrored order. Each ratio is formed within a pair of neighbours;
printed is their median with its 95 % interval (order statistics). Exits 1 above the limit.
"""

from __future__ import annotations

import argparse
import math
import statistics
from array import array
from collections.abc import Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from kdbench.measure import Ring, Samples, SlicePlan, collector_frozen, time_slice

if TYPE_CHECKING:
    from kdbench.measure import Inputs, Outputs
    from kdbench.spec import Runner

LIMIT = 1.3
ENTRIES = 64


def nothing(inputs: Inputs) -> Outputs:
    """Do nothing."""
    return inputs


def plain_loop(runner: Runner, entries: Sequence[Inputs], values: array[int]) -> float:
    """Time as many calls as `values` has room for; give what one of them took in all, in nanoseconds."""
    clock, size = perf_counter_ns, len(entries)
    start = clock()
    for index in range(len(values)):
        inputs = entries[index % size]
        begin = clock()
        runner(inputs)
        values[index] = clock() - begin
    return (clock() - start) / len(values)


def harness(runner: Runner, ring: Ring, plan: SlicePlan, call_ns: float) -> tuple[float, int]:
    """Time one slice; give what one call took in all, in nanoseconds, and how many there were."""
    times = time_slice(runner, ring, Samples(), plan, call_ns)
    return times.duration_ns / times.calls, times.calls


def ratios(pairs: int, slice_s: float) -> tuple[list[float], float]:
    """Give the ratio of harness to plain loop of every pair, and the plain loop's median cost (ns)."""
    entries: list[Inputs] = [(np.zeros((1, 1, 8, 8), np.float32),) for _ in range(ENTRIES)]
    ring, plan = Ring(entries), SlicePlan(slice_s=slice_s)
    _, calls = harness(nothing, ring, plan, 100.0)
    values = array("q", bytes(8 * calls))
    plain_loop(nothing, entries, values)
    call_ns = float(statistics.median(values))
    found, costs = [], []
    with collector_frozen():
        for pair in range(pairs):
            if pair % 2:
                ours, _ = harness(nothing, ring, plan, call_ns)
                theirs = plain_loop(nothing, entries, values)
            else:
                theirs = plain_loop(nothing, entries, values)
                ours, _ = harness(nothing, ring, plan, call_ns)
            found.append(ours / theirs)
            costs.append(theirs)
    return found, statistics.median(costs)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the median and the order statistics that enclose the true one in at least 95 % of cases.

    The number of values below the true median is binomial with share one half.
    """
    ordered, count = sorted(values), len(values)
    below, rank = 0.0, 0
    while rank < count // 2 and below + math.comb(count, rank) / 2**count <= 0.025:
        below += math.comb(count, rank) / 2**count
        rank += 1
    rank = max(1, rank)
    return statistics.median(ordered), ordered[rank - 1], ordered[count - rank]


def main() -> None:
    """Print the median ratio, its interval and the limit; exit 1 if it is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--slice-ms", type=float, default=10.0)
    asked = parser.parse_args()
    found, plain_ns = ratios(asked.pairs, asked.slice_ms / 1e3)
    ratio, low, high = median_interval(found)
    print(f"harness / plain loop, per timed call: {ratio:.3f} [{low:.3f}, {high:.3f}] (limit {LIMIT}),")
    print(f"  median of {asked.pairs} pairs; the plain loop takes {plain_ns:.0f} ns a call")
    raise SystemExit(ratio > LIMIT)


if __name__ == "__main__":
    main()
