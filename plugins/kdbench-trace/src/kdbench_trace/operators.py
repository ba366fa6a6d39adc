"""Spans of PyTorch's operators, from its own profiler, where a backend has loaded PyTorch; else none.

The profiler: docs.pytorch.org/docs/stable/profiler.html. What it exports counts microseconds from
`baseTimeNanoseconds` of the wall clock.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kdbench_trace.chrome import Event, complete, process, thread

HOST = frozenset({"cpu_op"})
DEVICE = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
GROUP = 10_000_002
"""The process number of what runs on a GPU: beyond what Linux gives, so that it is no real one's."""

Call = tuple[int, int, int]
"""A call that was profiled: thread, begin and end."""


class Operators:
    """One stretch under PyTorch's profiler; `reason` says why there is none, as long as there is none."""

    def __init__(self) -> None:
        self.reason = "the calls of this cell are not profiled"
        self._profiler: Any = None
        self._offset_ns = 0

    def start(self) -> None:
        """Begin to profile, if there is something to profile with; a failure is a reason, no fault."""
        if "torch" not in sys.modules:
            self.reason = "PyTorch is not loaded"
            return
        try:
            import torch
            from torch.profiler import ProfilerActivity, profile

            kinds, cuda = [ProfilerActivity.CPU], torch.cuda
            if cuda.is_available() and cuda.is_initialized():  # type: ignore[no-untyped-call]
                kinds.append(ProfilerActivity.CUDA)
            self._profiler = profile(activities=kinds, record_shapes=True)
            self._profiler.start()
            self._offset_ns = time.time_ns() - time.perf_counter_ns()
            self.reason = ""
        except Exception as fault:  # a build without Kineto, a profiler that is in use
            self.reason, self._profiler = f"{type(fault).__name__}: {fault}", None

    @property
    def running(self) -> bool:
        """Whether it was started."""
        return self._profiler is not None

    def stop(self) -> None:
        """End the stretch."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._profiler.stop()
        except Exception as fault:
            self.reason, self._profiler = f"{type(fault).__name__}: {fault}", None

    def spans(self, folder: Path, pid: int, calls: Iterable[Call]) -> list[Event]:
        """Give the spans within calls that were profiled, and a GPU's. folder: for a file that goes again."""
        if self._profiler is None:
            return []
        path = folder / ".operators.json"
        try:
            self._profiler.export_chrome_trace(str(path))
            told = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        except Exception as fault:
            self.reason = f"{type(fault).__name__}: {fault}"
            return []
        finally:
            path.unlink(missing_ok=True)
        base_ns = int(told.get("baseTimeNanoseconds", 0)) - self._offset_ns
        return placed(told["traceEvents"], base_ns, pid, list(calls))


def placed(exported: Iterable[dict[str, Any]], base_ns: int, pid: int, calls: list[Call]) -> list[Event]:
    """Put exported spans on this trace's clock and tracks; base_ns: what their times count from."""
    events: list[Event] = []
    streams: dict[int, str] = {}
    for one in exported:
        kind = one.get("cat")
        if one.get("ph") != "X" or kind not in HOST | DEVICE:
            continue
        begin = base_ns + round(float(one["ts"]) * 1000)
        end = begin + round(float(one["dur"]) * 1000)
        if kind in HOST:
            events += _within(one, begin, end, pid, calls)
        else:
            stream = int(one["tid"])
            streams[stream] = f"stream {stream}"
            events.append(complete(one["name"], GROUP, GROUP + stream, begin, end))
    if streams:
        events += process(GROUP, "GPU", 2)
        for position, (stream, name) in enumerate(sorted(streams.items())):
            events += thread(GROUP, GROUP + stream, name, position)
    return events


def _within(one: dict[str, Any], begin: int, end: int, pid: int, calls: list[Call]) -> Iterator[Event]:
    """Give a span in the call that it is of; the clocks agree to a microsecond, so its ends are fitted."""
    for tid, low, high in calls:
        if tid == int(one["tid"]) and low <= (begin + end) // 2 <= high:
            shapes = one.get("args", {}).get("Input Dims")
            more = {"shapes": json.dumps(shapes)} if shapes else {}
            yield complete(one["name"], pid, tid, max(begin, low), min(end, high), **more)
            return
