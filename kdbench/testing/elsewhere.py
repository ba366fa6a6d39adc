"""What the contract does in a fresh interpreter: `python -m kdbench.testing.elsewhere ERRAND ANSWER`.

The errand names a function of this module and its arguments. Printing is the plugin's; the answer is a file.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from kdbench.backends import Backend, load_plugin
from kdbench.discovery import Source
from kdbench.spec import Session, Student, Target
from kdbench.student import load_evaluation, open_student
from kdbench.wire import artifact_from_json, artifact_to_json, decode, encode, encode_availability

LEAST, CYCLES = 60, 300
"""Between so many times what still grows is no pool that fills."""


def describe(backend: str) -> dict[str, Any]:
    """Import a plugin and ask what it is; tells what that imported, and what of it is native code."""
    before = set(sys.modules)
    info = _backend(backend).describe()
    fresh = {name: sys.modules[name] for name in set(sys.modules) - before}
    files = {name: str(getattr(module, "__file__", "") or "") for name, module in fresh.items()}
    native = [name for name, file in files.items() if file.endswith(tuple(EXTENSION_SUFFIXES))]
    return {"modules": sorted(fresh), "native": sorted(native), "info": encode(info).decode()}


def probe(backend: str, hidden: list[str]) -> dict[str, Any]:
    """Probe where some modules cannot be imported; what the plugin raises is told as text."""
    connected = _backend(backend)
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        return {"answer": encode_availability(connected.probe()).decode()}
    except Exception as error:
        return {"raised": str(error)}


def compile_there(
    backend: str, student: str, target: str, workdir: str, watched: dict[str, str]
) -> dict[str, Any]:
    """Compile, and give the artifact as it is kept; by watched folder, files written there and taken away.

    The vendor's library is imported before, by the probe: what it leaves in a user's home is its own doing.
    """
    opened, folder, connected = open_student(student), Path(workdir), _backend(backend)
    connected.probe()
    before = {name: _files(Path(place)) for name, place in watched.items()}
    artifact = connected.compile(opened, decode(target.encode(), Target), folder)
    after = {name: _files(Path(place)) for name, place in watched.items()}
    return {
        "artifact": artifact_to_json(artifact, folder, opened).decode(),
        "written": {name: _written(before[name], after[name]) for name in watched},
        "gone": {name: sorted(map(str, set(before[name]) - set(after[name]))) for name in watched},
    }


def answer(**errand: str) -> dict[str, Any]:
    """Load a kept artifact and answer the first image of the split."""
    connected, student, session = _loaded(**errand)
    inputs = tuple(array[:1].copy() for array in load_evaluation(student).inputs)
    outputs = [array.tolist() for array in connected.run(session, 1)(inputs)]
    session.close()
    return {"outputs": outputs}


def cycle(*, seconds: float, stretch: int, slack: list[int], **errand: str) -> dict[str, Any]:
    """Load, run and close again and again, until a stretch of cycles holds no more than the one before it.

    Gives the greatest (resident bytes, threads, open files) of each of the last two stretches, and how many
    cycles there were: what grows for `seconds`, or for CYCLES of them, does not stop growing.
    """
    connected = _backend(errand["backend"])
    student = open_student(errand["student"])
    inputs = tuple(array[:8].copy() for array in load_evaluation(student).inputs)
    target = decode(errand["target"].encode(), Target)
    artifact = artifact_from_json(errand["artifact"].encode(), Path(errand["workdir"]), student)
    held: list[tuple[int, ...]] = []
    begin = time.monotonic()
    while True:
        session = connected.load(artifact, target)
        connected.run(session, 8)(inputs)
        session.close()
        del session
        gc.collect()
        held.append(_held())
        if len(held) == 1:
            # A vendor's modules stay, and to look through all of them each time is slow.
            gc.freeze()
        if len(held) < 2 * stretch:
            continue
        first, last = (tuple(map(max, zip(*part, strict=True))) for part in _stretches(held, stretch))
        flat = all(now <= then + more for then, now, more in zip(first, last, slack, strict=True))
        enough = len(held) >= CYCLES or (len(held) >= LEAST and time.monotonic() - begin > seconds)
        if flat or enough:
            return {"before": first, "after": last, "cycles": len(held), "flat": flat}


def wanted(*, seconds: float, **errand: str) -> dict[str, Any]:
    """Run for a while; tells how many CPUs its threads kept busy, or waited for."""
    connected, student, session = _loaded(**errand)
    inputs = tuple(array[:8].copy() for array in load_evaluation(student).inputs)
    runner = connected.run(session, 8)
    for _ in range(20):
        runner(inputs)
    before, begin = _waited_ns(), time.perf_counter_ns()
    computed = time.process_time_ns()
    while (spent := time.perf_counter_ns() - begin) < seconds * 1e9:
        runner(inputs)
    busy, after = time.process_time_ns() - computed, _waited_ns()
    session.close()
    waited = sum(after[task] - before.get(task, 0) for task in after)
    return {"share": (busy + waited) / spent}


def _backend(source: str) -> Backend:
    return load_plugin(Source(*json.loads(source)))


def _loaded(
    *, backend: str, student: str, target: str, artifact: str, workdir: str
) -> tuple[Backend, Student, Session]:
    connected, opened = _backend(backend), open_student(student)
    kept = artifact_from_json(artifact.encode(), Path(workdir), opened)
    return connected, opened, connected.load(kept, decode(target.encode(), Target))


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Give size and time of every file below a folder, by relative path; the CUDA driver's cache left out."""
    found = {path.relative_to(folder): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (fact.st_size, fact.st_mtime_ns) for path, fact in found.items() if path.parts[0] != ".nv"}


def _written(before: dict[Path, tuple[int, int]], after: dict[Path, tuple[int, int]]) -> list[str]:
    return sorted(str(path) for path, fact in after.items() if fact != before.get(path))


def _held() -> tuple[int, int, int]:
    """Give this process's resident bytes, and the numbers of its threads and open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads, files = (sum(1 for _ in Path(f"/proc/self/{name}").iterdir()) for name in ("task", "fd"))
    return pages * os.sysconf("SC_PAGE_SIZE"), threads, files


def _stretches(held: list[tuple[int, ...]], stretch: int) -> tuple[list[tuple[int, ...]], ...]:
    return held[-2 * stretch : -stretch], held[-stretch:]


def _waited_ns() -> dict[str, int]:
    """Give by living thread for how long it was ready to run and did not; nothing where nothing tells."""
    found = {}
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError):  # a thread that has just ended
            found[task.parent.name] = int(task.read_text().split()[1])
    return found


ERRANDS = {one.__name__: one for one in (describe, probe, compile_there, answer, cycle, wanted)}


def main(errand: Path, answered: Path) -> None:
    """Run one errand."""
    asked = json.loads(errand.read_bytes())
    answered.write_text(json.dumps(ERRANDS[asked["errand"]](**asked["arguments"])))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    # Threads that a vendor left behind would keep this process from ending.
    sys.stderr.flush()
    os._exit(0)
