"""Plugins that misbehave in one way each, really installed, run beside a healthy one, and watched."""

from __future__ import annotations

import importlib
import os
import textwrap
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from kdbench import bench, journal, profile
from kdbench.records import BackendRecord, CellRecord, Result, Slice
from kdbench.sections import Profile
from kdbench.spec import Boundary, Scenario
from kdbench.student import load_evaluation, open_student

STUDENT = "digits-2x5"
HEALTHY = "numpy"
ROGUE = "rogue-"
"""Sorts the others behind the healthy one, which so is the anchor of every cohort."""

MARK = "KDBENCH_TEST_MARK"
"""What a run starts, however indirectly, has inherited this variable."""

HEAD = """
import ctypes, os, signal, stat, subprocess, sys, time
from pathlib import Path
import numpy
import kdbench_numpy as healthy
from kdbench import *
from kdbench_numpy import kdbench_describe, kdbench_probe, kdbench_compile, kdbench_load, kdbench_run

HERE = Path(__file__)

def starts():
    with HERE.with_suffix(".starts").open("a") as file:
        file.write("x")
    return HERE.with_suffix(".starts").stat().st_size
"""

PLACES = {
    "import": "{}",
    "describe": """
        @hookimpl
        def kdbench_describe():
            {}
    """,
    "probe": """
        @hookimpl
        def kdbench_probe():
            {}
            return healthy.kdbench_probe()
    """,
    "compile": """
        @hookimpl
        def kdbench_compile(student, target):
            {}
            return healthy.kdbench_compile(student, target)
    """,
    "load": """
        @hookimpl
        def kdbench_load(artifact):
            {}
            return healthy.kdbench_load(artifact)
    """,
    "bind": """
        @hookimpl
        def kdbench_run(session, batch_size):
            {}
            return healthy.kdbench_run(session, batch_size)
    """,
    "run": """
        @hookimpl
        def kdbench_run(session, batch_size):
            runner, calls = healthy.kdbench_run(session, batch_size), []
            def call(inputs):
                calls.append(inputs)
                {}
                return runner(inputs)
            return call
    """,
    "resident": """
        @hookimpl
        def kdbench_run(session, batch_size):
            inner = healthy.kdbench_run(session, batch_size)
            class Resident:
                upload, download = staticmethod(inner.upload), staticmethod(inner.download)
                def __call__(self, inputs):
                    return inner(inputs)
                {}
            return Resident()
    """,
    "close": """
        @hookimpl
        def kdbench_load(artifact):
            session = healthy.kdbench_load(artifact)
            class Opened:
                placement, runner = session.placement, session.runner
                def close(self):
                    {}
            return Opened()
    """,
}
"""A hook each, healthy but for the statements at `{}`; `run` is a call of the runner, `bind` its making.

`resident` is the body of a runner's class, whose methods it may replace.
"""


def rogue(place: str, statements: str) -> str:
    """Give the source of a plugin that does something else in one place and is healthy elsewhere."""
    template = textwrap.dedent(PLACES[place])
    margin = next(line for line in template.splitlines() if line.strip() == "{}").removesuffix("{}")
    body = textwrap.indent(textwrap.dedent(statements).strip("\n"), margin)
    return HEAD + template.replace(f"{margin}{{}}", body)


def install(folder: Path, name: str, source: str) -> None:
    """Make a folder on the path hold the distribution of one plugin."""
    module = f"kdbench_{name.replace('-', '_')}"
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kdbench-{name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[kdbench]\n{name} = {module}\n")
    importlib.invalidate_caches()


def checked() -> int:
    """Tell after how many calls of a runner a block is done with checking, and warms up or times."""
    return 5 + len(load_evaluation(open_student(STUDENT)).labels)


def tiny(
    *,
    blocks: int = 2,
    memory_share: float = 0.5,
    tail_s: float = 0.0,
    limits: Mapping[str, float] | None = None,
    allow_fallback: bool = False,
    boundary: Boundary = "host",
    scenarios: tuple[Scenario, ...] = ("latency",),
) -> Profile:
    """Give a plan of short blocks, with time limits that only a plugin that hangs exceeds.

    Each block checks the whole split. tail_s: length of the tails; with them, memory is measured too.
    """
    generous = dict.fromkeys(("describe", "probe", "compile", "load", "run"), 60.0)
    asked = profile.resolve(
        profile.load("quick"),
        student=STUDENT,
        blocks=blocks,
        batches=(1,),
        threads=1,
        scenarios=scenarios,
        boundary=boundary,
        limits={**generous, **(limits or {})},
        allow_fallback=allow_fallback,
    )
    latency = {"rounds": 2, "slice_s": 0.005, "warm_up_s": 0.01, "warm_up_max_s": 0.1}
    return structs.replace(
        asked,
        latency=structs.replace(asked.latency, **latency),
        throughput=structs.replace(asked.throughput, blocks=1, window_s=0.02, latencies=2),
        tail=structs.replace(asked.tail, duration_s=tail_s, step_s=0.01),
        memory=structs.replace(asked.memory, measure=tail_s > 0),
        accuracy=structs.replace(asked.accuracy, later_images=0),
        limits=structs.replace(asked.limits, memory_share=memory_share),
    )


@dataclass(frozen=True)
class Ran:
    """A finished run of some rogues beside the healthy backend; `left` is what still lived after it."""

    result: Result
    output: Path
    left: tuple[str, ...]

    def row(self, name: str) -> CellRecord | BackendRecord:
        """Give the record that says what became of a backend."""
        cells = [one for one in self.result.cells if one.cell.backend == name]
        return cells[0] if cells else next(one for one in self.result.backends if one.name == name)

    def rogue(self, name: str) -> CellRecord | BackendRecord:
        """Give the record of a rogue."""
        return self.row(ROGUE + name)

    def slices(self, name: str) -> list[Slice]:
        """Give what was timed of a backend."""
        names = [one.cell.backend for one in self.result.cells]
        return [one for one in self.result.slices if names[one.cell] == name]

    @property
    def journal(self) -> Path:
        """Where the journal was."""
        return journal.journal_path(self.output)


def environment(patch: pytest.MonkeyPatch, folder: Path, cache: Path) -> str:
    """Put the plugins of a folder on the path of this process and of workers; answer the mark of the run."""
    mark = uuid.uuid4().hex
    patch.syspath_prepend(folder)
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    patch.setenv("KDBENCH_CACHE", str(cache))
    patch.setenv("TMPDIR", str(folder))  # what a run leaves that is killed, pytest takes away
    patch.setenv(MARK, mark)
    return mark


def run_beside(rogues: Mapping[str, str], folder: Path, cache: Path, plan: Profile) -> Ran:
    """Install the rogues, by name, and measure them and the healthy backend as `kdbench run` does."""
    for name, source in rogues.items():
        install(folder / "plugins", ROGUE + name, source)
    output = folder / "result.json"
    with pytest.MonkeyPatch.context() as patch:
        mark = environment(patch, folder / "plugins", cache)
        names = (HEALTHY, *(ROGUE + name for name in rogues))
        request = bench.Request(student=open_student(STUDENT), profile=plan, output=output, plugins=names)
        result = bench.run(request)
    return Ran(result, output, living(mark))


def living(mark: str) -> tuple[str, ...]:
    """Describe every process that inherited the mark, and every child of this one that is not buried."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(MARK) == mark and process.pid != os.getpid()
            if ours or (process.ppid() == os.getpid() and process.status() == psutil.STATUS_ZOMBIE):
                found.append(f"{process.pid} {process.status()} {process.cmdline()}")
        except psutil.Error:
            continue
    return tuple(found)
