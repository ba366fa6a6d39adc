"""What a worker does for each request: one backend, one session, its runners.

Runs in the worker's process only. Nothing here knows the backend's name.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kdbench import __version__, accuracy, measure, protocol, stats, window, yardstick
from kdbench.backends import Backend, load_plugin
from kdbench.discovery import Source, installed
from kdbench.environment import versions
from kdbench.errors import ContractError
from kdbench.gpuwatch import GpuWatch
from kdbench.lane import (
    Lane,
    Loaded,
    compare_last,
    device_time,
    infer,
    phase,
    refuse_cache,
    ring_for,
    transfer_of,
)
from kdbench.novelty import refuse_memory
from kdbench.observing import Watch, make
from kdbench.settling import Settled
from kdbench.spec import Available, Pipelined, Stage
from kdbench.student import load_evaluation
from kdbench.usage import Usage, conditions, peak_memory_bytes, resident_bytes, usage
from kdbench.wire import artifact_from_json, artifact_to_json

RAW_SAMPLES = 2000
"""Up to so many samples of a cell and block are kept raw, more of them as a histogram."""


@dataclass
class Service:
    """One worker's state: the connected backend and, once it is asked for, the loaded session.

    watch: the observer that is told what the worker is at, if there is one.
    """

    backend: Backend
    watch: Watch | None = None
    _loaded: Loaded | None = None

    @property
    def loaded(self) -> Loaded:
        """The loaded session; asking before `Load` is the parent's mistake."""
        if self._loaded is None:
            raise ContractError("Nothing is loaded yet.")
        return self._loaded

    def answer(self, request: Any) -> Any:
        """Do what a request asks and give the reply; raises what goes wrong."""
        handler: Callable[[Service, Any], Any] = _HANDLERS[type(request)]
        stage = _STAGES.get(type(request))
        if self.watch is None or stage is None:
            return handler(self, request)
        try:
            with self.watch.stage(stage):
                return handler(self, request)
        finally:
            if stage == "close":
                self.watch.close()


def observe(request: protocol.Observe) -> tuple[Watch, protocol.Observing]:
    """Import an observer and let it make one for a cell."""
    return make(request.name, request.value, request.observation), protocol.Observing()


def connect(request: protocol.Open, watch: Watch | None = None) -> tuple[Service, protocol.Opened]:
    """Import the plugin and connect it, an observer around it if there is one."""
    source = Source(request.name, request.value, request.distribution, request.version, "")
    if watch is None:
        service = Service(load_plugin(source))
    else:
        with watch.stage("import"):
            service = Service(load_plugin(source, {watch.name: watch.observer}), watch)
    info = service.backend.info
    return service, protocol.Opened(info=info, versions=versions(info.distributions))


def discover(_: protocol.Discover) -> protocol.Discovered:
    """Tell what this interpreter has installed, from packaging metadata alone."""
    sources, faults = installed()
    found = [
        protocol.Provided(
            name=one.name,
            value=one.value,
            distribution=one.distribution,
            version=one.version,
            stamp=one.stamp,
        )
        for one in sources.values()
    ]
    broken = [protocol.Provided(name=fault.name, fault=fault.reason) for fault in faults]
    return protocol.Discovered(
        python=platform.python_version(), kdbench=__version__, backends=(*found, *broken)
    )


def time_yardstick(_: protocol.TimeYardstick) -> protocol.Gauged:
    """Time the fixed piece of work."""
    with measure.collector_frozen():
        timing = yardstick.time_yardstick()
    return protocol.Gauged(
        started_ns=timing.started_ns, calls=timing.calls, median_ns=timing.median_ns, p10_ns=timing.p10_ns
    )


def _probe(service: Service, _: protocol.Probe) -> protocol.Probed:
    answer = service.backend.probe()
    if isinstance(answer, Available):
        return protocol.Probed(available=answer)
    return protocol.Probed(unavailable=answer)


def _compile(service: Service, request: protocol.Compile) -> protocol.Compiled:
    begin = time.perf_counter()
    artifact = service.backend.compile(request.student, request.target, request.workdir, request.shelf)
    elapsed = time.perf_counter() - begin
    text = artifact_to_json(artifact, request.workdir, request.student).decode()
    return protocol.Compiled(artifact=text, compile_s=elapsed)


def _load(service: Service, request: protocol.Load) -> protocol.Loaded:
    artifact = artifact_from_json(request.artifact.encode(), request.workdir, request.student)
    evaluation = load_evaluation(request.student)
    base_bytes = resident_bytes()
    begin = time.perf_counter_ns()
    session = service.backend.load(artifact, request.target)
    elapsed = time.perf_counter_ns() - begin
    gpu = GpuWatch(request.uuid, request.fellows)
    service._loaded = Loaded(request.student, request.target, session, evaluation, base_bytes, gpu=gpu)
    depth = getattr(session, "optimal_depth", None)
    return protocol.Loaded(placement=session.placement, load_ns=elapsed, optimal_depth=depth)


def _prepare(service: Service, request: protocol.Prepare) -> protocol.Prepared:
    loaded = service.loaded
    first = next(accuracy.batches(loaded.evaluation.inputs, request.batch))[1]
    pipelined = service.backend.info.concurrency == "pipelined"
    begin = time.perf_counter_ns()
    runner = service.backend.run(loaded.session, request.batch, request.depth if pipelined else 1)
    transfer = transfer_of(runner, loaded.target.boundary)
    with phase("run"):
        outputs = transfer.download(runner(transfer.upload(first)))
        accuracy.check_outputs(outputs, loaded.student.outputs, request.batch)
    elapsed = time.perf_counter_ns() - begin
    ring = ring_for(loaded, runner, request.batch)
    loaded.lanes[request.batch] = Lane(
        request.batch, request.depth, request.slice, [runner], [ring], transfer
    )
    return protocol.Prepared(call_ns=elapsed)


def _check(service: Service, request: protocol.Check) -> protocol.Checked:
    loaded, lane = service.loaded, service.loaded.lanes[request.batch]
    evaluation, precision = loaded.evaluation, loaded.target.precision
    images = min(request.images or len(evaluation), len(evaluation))
    with phase("check"):
        logits = infer(lane, evaluation, loaded.student.outputs, images)
    lane.expected = logits
    labels = None if evaluation.labels is None else evaluation.labels[:images]
    agreement = accuracy.compare(logits, evaluation.logits[:images], labels, precision)
    facts = {name: getattr(agreement, name) for name in protocol.Checked.__struct_fields__ if name != "fault"}
    return protocol.Checked(**facts, fault=accuracy.fault(agreement, precision))


def _warm_up(service: Service, request: protocol.WarmUp) -> protocol.Warmed:
    lane = service.loaded.lanes[request.batch]
    with phase("run"):
        result = measure.warm_up(lane.runner, lane.rings[0], request.at_least_s, request.at_most_s)
    lane.call_ns = result.call_ns
    return protocol.Warmed(calls=result.calls, call_ns=result.call_ns, settled=result.settled)


def _make_calls(service: Service, request: protocol.MakeCalls) -> protocol.Called:
    lane = service.loaded.lanes[request.batch]
    with phase("run"):
        for inputs in lane.rings[0].take(request.calls):
            lane.runner(inputs)
    return protocol.Called()


def _time_slice(service: Service, request: protocol.TimeSlice) -> protocol.Sliced:
    lane = service.loaded.lanes[request.batch]
    with measure.collector_frozen(), phase("run"):
        before = usage()
        started = time.perf_counter_ns()
        ready = _ready(service, lane)
        times = measure.time_slice(lane.runner, lane.rings[0], lane.samples, lane.plan, lane.call_ns)
        spent = usage().since(before)
    clock_mhz, temperature_c = conditions()
    gpu = service.loaded.gpu.told()
    compare_last(service.loaded, lane, times.outputs)
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


def _ready(service: Service, lane: Lane) -> Settled:
    """Keep a GPU busy until its clock settles; these calls count as those just after a switch."""
    return service.loaded.gpu.settle(lambda: lane.runner(*lane.rings[0].take(1)))


def _collect(service: Service, request: protocol.Collect) -> protocol.Collected:
    lane = service.loaded.lanes[request.batch]
    refuse_cache(service.loaded, lane)
    refuse_memory(service.loaded, lane)
    values = lane.samples.since(0)
    lane.samples = measure.Samples()
    if len(values) <= RAW_SAMPLES:
        return protocol.Collected(calls=len(values), values_ns=tuple(values))
    bins, counts = stats.histogram(values)
    return protocol.Collected(calls=len(values), growth=stats.GROWTH, bins=bins, counts=counts)


def _find_depth(service: Service, request: protocol.FindDepth) -> protocol.Found:
    lane = service.loaded.lanes[request.batch]
    rates: dict[int, float] = {}
    with phase("run"):
        _ready(service, lane)
    for depth in _depths(service, lane):
        with measure.collector_frozen(), phase("run"):
            times = _window(service, lane, depth, int(request.trial_s * 1e9))
        rates[depth] = times.batches / times.duration_ns
    return protocol.Found(depth=max(rates, key=lambda depth: rates[depth]))


def _depths(service: Service, lane: Lane) -> list[int]:
    """Depths worth trying: powers of two up to twice the cores, and what the runtime recommends."""
    if service.backend.info.concurrency == "serial":
        return [1]
    most = min(lane.depth, 2 * (service.loaded.target.threads or 1))
    depths = {1} | {1 << power for power in range(1, most.bit_length())}
    recommended = getattr(service.loaded.session, "optimal_depth", None)
    if isinstance(recommended, int) and 0 < recommended <= lane.depth:
        depths.add(recommended)
    return sorted(depth for depth in depths if depth <= lane.depth)


def _time_window(service: Service, request: protocol.TimeWindow) -> protocol.Windowed:
    lane = service.loaded.lanes[request.batch]
    duration_ns = max(int(request.window_s * 1e9), int(request.latencies * lane.call_ns))
    with measure.collector_frozen(), phase("run"):
        ready = _ready(service, lane)
        before = usage()
        started = time.perf_counter_ns()
        times = _window(service, lane, request.depth, duration_ns)
        spent = usage().since(before)
    gpu = service.loaded.gpu.told()
    return protocol.Windowed(
        started_ns=started,
        duration_ns=times.duration_ns,
        images=times.batches * lane.batch,
        cpu_ns=spent.cpu_ns,
        gpu_settled=ready.settled,
        **gpu,
    )


def _window(service: Service, lane: Lane, depth: int, duration_ns: int) -> window.WindowTimes:
    runner = lane.runner
    if depth > 1 and isinstance(runner, Pipelined):
        return window.window_pipelined(runner, lane.rings[0], depth, duration_ns)
    if depth == 1:
        return window.window_serial(runner, lane.rings[0], duration_ns)
    while len(lane.runners) < depth:
        more = service.backend.run(service.loaded.session, lane.batch, 1)
        lane.runners.append(more)
        lane.rings.append(ring_for(service.loaded, more, lane.batch))
    return window.window_threads(lane.runners[:depth], lane.rings[:depth], duration_ns)


def _time_stretch(service: Service, request: protocol.TimeStretch) -> protocol.Stretched:
    lane = service.loaded.lanes[request.batch]
    first, steps = lane.samples.count, service.loaded.gpu.steps()
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
    compare_last(service.loaded, lane, times.outputs)
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


def _measure_memory(service: Service, _: protocol.MeasureMemory) -> protocol.Measured:
    return protocol.Measured(peak_bytes=peak_memory_bytes(), base_bytes=service.loaded.base_bytes)


def _close(service: Service, _: protocol.Close) -> protocol.Closed:
    loaded = service.loaded
    loaded.lanes.clear()
    with phase("close"):
        loaded.session.close()
        loaded.session.close()
    return protocol.Closed()


_HANDLERS: dict[type, Callable[[Service, Any], Any]] = {
    protocol.Probe: _probe,
    protocol.Compile: _compile,
    protocol.Load: _load,
    protocol.Prepare: _prepare,
    protocol.Check: _check,
    protocol.WarmUp: _warm_up,
    protocol.MakeCalls: _make_calls,
    protocol.TimeSlice: _time_slice,
    protocol.Collect: _collect,
    protocol.FindDepth: _find_depth,
    protocol.TimeWindow: _time_window,
    protocol.TimeStretch: _time_stretch,
    protocol.MeasureMemory: _measure_memory,
    protocol.Close: _close,
}


_STAGES: dict[type, Stage] = {
    protocol.Load: "load",
    protocol.Prepare: "first call",
    protocol.WarmUp: "warm-up",
    protocol.MakeCalls: "calls",
    protocol.TimeWindow: "calls",
    protocol.Close: "close",
}
"""What an observer is told a request is."""


def _spent(spent: Usage) -> dict[str, Any]:
    return {name: getattr(spent, name) for name in ("cpu_ns", "run_delay_ns", "switches", "steal_ns")}
