"""The five hooks that make a backend; they *are* compile, load and run.

Each is called once per thing that it makes, never per inference: the timed loop calls the Runner
itself, so nothing of pluggy stands in a measured region. Arguments travel by name and a plugin may
take a subset of them, so a new argument breaks nobody.
"""

from __future__ import annotations

from pathlib import Path

import pluggy

from kdbench.spec import Artifact, Availability, BackendInfo, Runner, Session, Student, Target

PROJECT = "kdbench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def kdbench_describe() -> BackendInfo:  # type: ignore[empty-body]  # a specification
    """Say what this backend is: pure data, no vendor library imported, the same answer every time."""


@hookspec(firstresult=True)
def kdbench_probe() -> Availability:  # type: ignore[empty-body]  # a specification
    """Say whether it can run here and now.

    May import the vendor library. Never raises for an expected lack: a missing package, no device,
    a driver too old are `Unavailable(reason, fix)`.
    """


@hookspec(firstresult=True)
def kdbench_compile(  # type: ignore[empty-body]  # a specification
    student: Student, target: Target, workdir: Path, shelf: Path | None
) -> Artifact:
    """Turn the student into what the runtime loads.

    Writes only below `workdir`, and on `shelf`: a folder that outlives this call, for what makes the next
    one quicker and changes no artifact's meaning, such as a cache of timings. All students and targets of a
    backend share it as long as versions, device and driver stay; None where nothing is kept. Another process
    may use it at the same time: rename into place what is written. Runs once per target in a process of its
    own, is timed, may be slow; its artifact is cached and loaded later in other processes. Nothing to do?
    Answer the student's own file. Raises `Unsupported` for a student or target that the backend cannot do.
    """


@hookspec(firstresult=True)
def kdbench_load(artifact: Artifact, target: Target) -> Session:  # type: ignore[empty-body]  # a specification
    """Open the artifact; possibly long after compile and in another process. Timed. The caller closes it."""


@hookspec(firstresult=True)
def kdbench_run(session: Session, batch_size: int, depth: int) -> Runner:  # type: ignore[empty-body]  # a specification
    """Hand over the callable that runs this session at one batch size.

    Bind, allocate and capture here, once. `depth` is how many requests the harness wants in flight;
    above 1 answer a `Pipelined` runner if the backend declares that concurrency. Runners of one
    session may be alive together and must not disturb each other.
    """
