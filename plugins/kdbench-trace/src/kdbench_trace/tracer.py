"""The observer of one cell: slices of stages, hooks and calls, and a sampler beside it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from kdbench import Artifact, Observation, Runner, Session, hookimpl, watched
from kdbench_trace import activity, chrome
from kdbench_trace.operators import Call, Operators

FILE = "trace.json"
MOST_CALLS = 20_000
"""So many calls of warm-up are slices; a page of a hundred thousand is slow to look at."""

PROFILED_CALLS = 10
"""So many of the first calls after warm-up are made under PyTorch's profiler."""

IDLE_S = 0.3
"""For so long nothing is asked after the calls: pools of threads that spin, waiting for more, do so here."""

PATIENCE_S = 10.0


class Tracer:
    """Watches one cell and writes `trace.json`."""

    def __init__(self, observation: Observation) -> None:
        self._cell = observation.cell
        self._folder = observation.folder
        self._pid, self._main = os.getpid(), threading.get_native_id()
        self._stage, self._begun_ns = "", 0
        self._slices: list[chrome.Event] = []
        self._calls: list[tuple[str, str, int, int, int]] = []
        self._omitted = 0
        self._profiled: list[Call] = []
        self._operators = Operators()
        self._sampler = Sampler(self._folder)

    def begin(self, stage: str) -> None:
        """Note that a stage begins; before the calls, PyTorch's profiler starts, where there is one."""
        if stage == "calls" and self._cell.scenario == "latency":
            begin = time.perf_counter_ns()
            self._operators.start()
            if self._operators.running:
                self._add("torch.profiler starts", begin)
        self._stage, self._begun_ns = stage, time.perf_counter_ns()

    def end(self, stage: str) -> None:
        """Note that it has ended; after the calls, leave the process alone for a while."""
        if stage == "calls" and self._operators.running and len(self._profiled) < PROFILED_CALLS:
            self._timed("torch.profiler stops", self._operators.stop)
        self._add(stage, self._begun_ns)
        self._stage = ""
        if stage == "calls":
            self._timed("nothing is asked", lambda: time.sleep(IDLE_S))

    @hookimpl(wrapper=True)
    def kdbench_load(self, artifact: Artifact) -> Generator[None, Session, Session]:
        """Show how long the backend loads, and what."""
        begin = time.perf_counter_ns()
        session = yield
        sizes = {path.name: path.stat().st_size for path in artifact.files}
        self._add("kdbench_load", begin, files=sizes)
        return session

    @hookimpl(wrapper=True)
    def kdbench_run(self) -> Generator[None, Runner, Runner]:
        """Show how long it makes a runner, and each of the runner's calls."""
        begin = time.perf_counter_ns()
        runner = yield
        self._add("kdbench_run", begin)
        return watched(runner, self._around)

    def close(self) -> None:
        """Write the trace."""
        end_ns = time.perf_counter_ns()
        seen = activity.read(self._sampler.stop())
        events = [
            *chrome.process(self._pid, str(self._cell), 0),
            *chrome.thread(self._pid, self._main, "main thread: stages, hooks, calls, operators", 0),
            *self._slices,
            *self._called(),
            *self._operators.spans(self._folder, self._pid, self._profiled),
            *activity.tracks(seen, end_ns, self._main),
        ]
        about = {
            "cell": str(self._cell),
            "sampler": self._sampler.told,
            "operators": self._operators.reason or f"by torch.profiler, of the first {PROFILED_CALLS} calls",
            "calls_left_out": self._omitted,
        }
        chrome.write(self._folder / FILE, events, about)

    def _around(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.perf_counter_ns()
        try:
            return method(*arguments)
        finally:
            self._note(name, begin, time.perf_counter_ns())

    def _note(self, name: str, begin: int, end: int) -> None:
        tid = threading.get_native_id()
        if len(self._calls) < MOST_CALLS or self._stage != "warm-up":
            self._calls.append((name, self._stage, tid, begin, end))
        else:
            self._omitted += 1
        if self._operators.running and name == "call" and len(self._profiled) < PROFILED_CALLS:
            self._profiled.append((tid, begin, end))
            if len(self._profiled) == PROFILED_CALLS:
                self._timed("torch.profiler stops", self._operators.stop)

    def _called(self) -> list[chrome.Event]:
        """Give a slice per call, numbered within its stage, and a name to each thread that made some."""
        events: list[chrome.Event] = []
        numbers: dict[tuple[str, str], int] = {}
        for name, stage, tid, begin, end in self._calls:
            number = numbers[name, stage] = numbers.get((name, stage), -1) + 1
            events.append(chrome.complete(name, self._pid, tid, begin, end, stage=stage, number=number))
        others = {tid for _, _, tid, _, _ in self._calls} - {self._main}
        for position, tid in enumerate(sorted(others), 1):
            events += chrome.thread(self._pid, tid, f"thread {tid}: calls", position)
        return events

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        begin = time.perf_counter_ns()
        work()
        self._add(name, begin)

    def _add(self, name: str, begin: int, **more: Any) -> None:
        event = chrome.complete(name, self._pid, self._main, begin, time.perf_counter_ns(), **more)
        self._slices.append(event)


class Sampler:
    """The process that looks at this one's threads; `told` says where it runs, or why it does not.

    It gets CPUs that the run may use and this worker does not, where there are some.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".samples.txt"
        self._process: subprocess.Popen[bytes] | None = None
        if not Path("/proc/self/task").is_dir():
            self.told = "none: this system has no /proc"
            return
        spare = os.sched_getaffinity(os.getppid()) - os.sched_getaffinity(0)
        self.told = "on CPUs of its own" if spare else "on a CPU of the observed process: there is no other"
        program = str(Path(__file__).with_name("sampler.py"))
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                program,
                str(os.getpid()),
                str(self._path),
                ",".join(map(str, spare)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        if (
            not select.select([self._process.stdout], [], [], PATIENCE_S)[0]
            or not self._process.stdout.readline()
        ):
            self._process.kill()
            raise RuntimeError("its sampler did not start; the log has what it said")

    def stop(self) -> list[str]:
        """End it and give the lines that it wrote; none where there was none."""
        if self._process is None:
            return []
        self._process.communicate(timeout=PATIENCE_S)
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        self._path.unlink()
        return lines
