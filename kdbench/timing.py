"""What a worker times: slices and stretches of single calls, windows with several in flight.

Each takes the open session and a request, and answers as `protocol` has it. A fault of the runner is a
BackendError of the phase `run`.
"""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

from kdbench import measure, protocol, stats, window
from kdbench.lane import Lane, Loaded, compare_last, device_time, phase, refuse_cache, ring_for
from kdbench.novelty import refuse_memory
from kdbench.settling import Settled
from kdbench.spec import Pipelined
from kdbench.usage import Usage, conditions, usage

RAW_SAMPLES = 2000
"""Up to so many samples of a cell and block are kept raw, more of them as a histogram."""


def warm_up(loaded: Loaded, request: protocol.WarmUp) -> protocol.Warmed:
    """Call one batch size until it is settled."""
    lane = loaded.lanes[request.batch]
    with phase("run"):
        result = measure.warm_up(lane.runner, lane.rings[0], request.at_least_s, request.at_most_s)
    lane.call_ns = result.call_ns
    return protocol.Warmed(calls=result.calls, call_ns=result.call_ns, settled=result.settled)


def make_calls(loaded: Loaded, request: protocol.MakeCalls) -> protocol.Called:
    """Make calls that nobody times."""
    lane = loaded.lanes[request.batch]
    with phase("run"):
        for inputs in lane.rings[0].take(request.calls):
            lane.runner(inputs)
    return protocol.Called()


def time_slice(loaded: Loaded, request: protocol.TimeSlice) -> protocol.Sliced:
    """Time one slice of the blocking loop, and tell in what state processor and GPU were."""
    lane = loaded.lanes[request.batch]
    with measure.collector_frozen(), phase("run"):
        before = usage()
        started = time.perf_counter_ns()
        ready = _ready(loaded, lane)
        times = measure.time_slice(lane.runner, lane.rings[0], lane.samples, lane.plan, lane.call_ns)
        spent = usage().since(before)
    clock_mhz, temperature_c = conditions()
    gpu = loaded.gpu.told()
    compare_last(loaded, lane, times.outputs)
    device_ns = device_time(lane)
    values = lane.samples.since(times.first)
    shape = stats.slice_statistics(values)
    return protocol.Sliced(
        started_ns=started,
        duration_ns=times.duration_ns,
        calls=times.calls,
        settle_calls=ready.calls + times.settle_calls,
        settle_ns=ready.duration_ns + times.settle_ns,
        gpu_settled=ready.settled,
        first_ns=values[0],
        clock_mhz=clock_mhz,
        temperature_c=temperature_c,
        device_ns=device_ns,
        other_ns=spent.other_ns,
        throttled_ns=spent.throttled_ns,
        **shape,
        **_spent(spent),
        **gpu,
    )


def _ready(loaded: Loaded, lane: Lane) -> Settled:
    """Keep a GPU busy until its clock settles; these calls count as those just after a switch."""
    return loaded.gpu.settle(lambda: lane.runner(*lane.rings[0].take(1)))


def collect(loaded: Loaded, request: protocol.Collect) -> protocol.Collected:
    """Give the samples since the last time, once the runner is held to compute what it answers."""
    lane = loaded.lanes[request.batch]
    refuse_cache(loaded, lane)
    refuse_memory(loaded, lane)
    values = lane.samples.since(0)
    lane.samples = measure.Samples()
    if len(values) <= RAW_SAMPLES:
        return protocol.Collected(calls=len(values), values_ns=tuple(values))
    bins, counts = stats.histogram(values)
    return protocol.Collected(calls=len(values), growth=stats.GROWTH, bins=bins, counts=counts)


def find_depth(loaded: Loaded, request: protocol.FindDepth) -> protocol.Found:
    """Try depths in a short window each, and give the one that completed the most."""
    lane = loaded.lanes[request.batch]
    rates: dict[int, float] = {}
    with phase("run"):
        _ready(loaded, lane)
    for depth in _depths(loaded, lane):
        with measure.collector_frozen(), phase("run"):
            times = _window(loaded, lane, depth, int(request.trial_s * 1e9))
        rates[depth] = times.batches / times.duration_ns
    return protocol.Found(depth=max(rates, key=lambda depth: rates[depth]))


def _depths(loaded: Loaded, lane: Lane) -> list[int]:
    """Depths worth trying: powers of two up to twice the cores, and what the runtime recommends."""
    if loaded.concurrency == "serial":
        return [1]
    most = min(lane.depth, 2 * (loaded.target.threads or 1))
    depths = {1} | {1 << power for power in range(1, most.bit_length())}
    recommended = getattr(loaded.session, "optimal_depth", None)
    if isinstance(recommended, int) and 0 < recommended <= lane.depth:
        depths.add(recommended)
    return sorted(depth for depth in depths if depth <= lane.depth)


def time_window(loaded: Loaded, request: protocol.TimeWindow) -> protocol.Windowed:
    """Count the images that are completed in a window with the queue kept full."""
    lane = loaded.lanes[request.batch]
    duration_ns = max(int(request.window_s * 1e9), int(request.latencies * lane.call_ns))
    with measure.collector_frozen(), phase("run"):
        ready = _ready(loaded, lane)
        before = usage()
        started = time.perf_counter_ns()
        times = _window(loaded, lane, request.depth, duration_ns)
        spent = usage().since(before)
    gpu = loaded.gpu.told()
    return protocol.Windowed(
        started_ns=started,
        duration_ns=times.duration_ns,
        images=times.batches * lane.batch,
        cpu_ns=spent.cpu_ns,
        gpu_settled=ready.settled,
        **gpu,
    )


def _window(loaded: Loaded, lane: Lane, depth: int, duration_ns: int) -> window.WindowTimes:
    runner = lane.runner
    if depth > 1 and isinstance(runner, Pipelined):
        return window.window_pipelined(runner, lane.rings[0], depth, duration_ns)
    if depth == 1:
        return window.window_serial(runner, lane.rings[0], duration_ns)
    while len(lane.runners) < depth:
        more = loaded.runner_of(lane.batch, 1)
        lane.runners.append(more)
        lane.rings.append(ring_for(loaded, more, lane.batch))
    return window.window_threads(lane.runners[:depth], lane.rings[:depth], duration_ns)


def time_stretch(loaded: Loaded, request: protocol.TimeStretch) -> protocol.Stretched:
    """Time one uninterrupted stretch of calls, step by step."""
    lane = loaded.lanes[request.batch]
    first, steps = lane.samples.count, loaded.gpu.steps()
    before = usage()
    started = time.perf_counter_ns()
    with measure.collector_frozen(), phase("run"):
        times = measure.time_stretch(
            lane.runner,
            lane.rings[0],
            lane.samples,
            request.duration_s,
            request.step_s,
            lane.call_ns,
            edge=steps.edge if steps else None,
        )
    spent = usage().since(before)
    gpu = steps.told(len(times.steps)) if steps else {}
    compare_last(loaded, lane, times.outputs)
    values = lane.samples.since(first)
    edges = [*times.steps, times.calls]
    medians = tuple(
        statistics.median(values[low:high]) if high > low else None for low, high in pairwise(edges)
    )
    facts = _spent(spent)
    facts.pop("switches")
    return protocol.Stretched(
        started_ns=started,
        duration_ns=times.duration_ns,
        calls=times.calls,
        medians_ns=medians,
        **facts,
        **gpu,
    )


def _spent(spent: Usage) -> dict[str, Any]:
    return {name: getattr(spent, name) for name in ("cpu_ns", "run_delay_ns", "switches", "steal_ns")}
