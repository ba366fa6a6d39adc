"""What a worker does for each request: one backend, one session, its runners.

Runs in the worker's process only. Nothing here knows the backend's name.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdbench import __version__, accuracy, measure, protocol, timing, yardstick
from kdbench.backends import Backend, load_plugin
from kdbench.discovery import Source, installed
from kdbench.environment import versions
from kdbench.errors import ContractError
from kdbench.gpuwatch import GpuWatch
from kdbench.lane import Lane, Loaded, infer, phase, ring_for, transfer_of
from kdbench.observing import Watch, make
from kdbench.spec import Available, Stage
from kdbench.student import load_evaluation
from kdbench.usage import peak_memory_bytes, resident_bytes
from kdbench.wire import artifact_from_json, artifact_to_json


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
        stage = _STAGES.get(type(request))
        if self.watch is None or stage is None:
            return self._do(request)
        try:
            with self.watch.stage(stage):
                return self._do(request)
        finally:
            if stage == "close":
                self.watch.close()

    def _do(self, request: Any) -> Any:
        timed = _TIMED.get(type(request))
        if timed is not None:
            return timed(self.loaded, request)
        return _HANDLERS[type(request)](self, request)


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
    service._loaded = Loaded(
        student=request.student,
        target=request.target,
        session=session,
        runner_of=partial(service.backend.run, session),
        concurrency=service.backend.info.concurrency,
        evaluation=evaluation,
        base_bytes=base_bytes,
        gpu=GpuWatch(request.uuid, request.fellows),
    )
    depth = getattr(session, "optimal_depth", None)
    return protocol.Loaded(placement=session.placement, load_ns=elapsed, optimal_depth=depth)


def _prepare(service: Service, request: protocol.Prepare) -> protocol.Prepared:
    loaded = service.loaded
    first = next(accuracy.batches(loaded.evaluation.inputs, request.batch))[1]
    depth = request.depth if loaded.concurrency == "pipelined" else 1
    begin = time.perf_counter_ns()
    runner = loaded.runner_of(request.batch, depth)
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
    protocol.MeasureMemory: _measure_memory,
    protocol.Close: _close,
}

_TIMED: dict[type, Callable[[Loaded, Any], Any]] = {
    protocol.WarmUp: timing.warm_up,
    protocol.MakeCalls: timing.make_calls,
    protocol.TimeSlice: timing.time_slice,
    protocol.Collect: timing.collect,
    protocol.FindDepth: timing.find_depth,
    protocol.TimeWindow: timing.time_window,
    protocol.TimeStretch: timing.time_stretch,
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
