"""Turn the student into each job's artifact, one process at a time, or take it from the cache."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from kdbench import cache, cpu, protocol
from kdbench.errors import BackendError
from kdbench.job import Brought, Job
from kdbench.ledger import Ledger
from kdbench.member import Built
from kdbench.orphans import orphans_adopted
from kdbench.outfit import memory_limit_bytes
from kdbench.plan import Plan
from kdbench.process import Worker
from kdbench.records import ArtifactRecord
from kdbench.roster import opening


def compile_jobs(
    plan: Plan,
    ledger: Ledger,
    folder: Path,
    logs: Path,
    tell: Callable[[str], None],
    only: Sequence[int] | None = None,
) -> dict[int, Built]:
    """Give the artifact of each job that has one; cells of a job that cannot be compiled are marked.

    An artifact that was brought from elsewhere is taken as it is.

    folder: the user's cache, or an empty folder to compile anew. tell: called with what is being worked on.
    only: the jobs that are wanted, None for all.
    """
    built = {}
    for index in range(len(plan.jobs)) if only is None else only:
        job = plan.jobs[index]
        if not any(ledger.alive(cell) for cell in job.cells.values()):
            continue
        if job.brought is not None:
            built[index] = _brought(job.brought)
            continue
        name = artifact_key(job)
        cached = cache.find(folder, name)
        if cached is not None:
            built[index] = _built(name, *cached, cached=True)
            continue
        tell(job.label)
        made = _compile(plan, job, name, ledger, folder, logs)
        if made is not None:
            built[index] = made
    for index, one in built.items():
        for cell in plan.jobs[index].cells.values():
            ledger.update(cell, artifact=one.record)
    return built


def artifact_key(job: Job) -> str:
    """Name an artifact by network, target, plugin, versions, device and machine."""
    return cache.key(
        {
            "student": job.student.sha256,
            "network": job.student.role,
            "bundle": str(job.student.root),
            "target": asdict(job.target),
            "plugin": asdict(job.source),
            "runtime": job.runtime_version,
            "versions": dict(job.versions),
            "device": asdict(job.device),
            "cpu": [cpu.describe()[fact] for fact in ("model", "features")],
            "python": job.python.version if job.python else platform.python_version(),
            "interpreter": str(job.python.path) if job.python else "",
            "machine": platform.machine(),
        }
    )


def _place(job: Job) -> str:
    """Name what all artifacts of a backend on one device have in common."""
    return cache.key(
        {
            "plugin": asdict(job.source),
            "runtime": job.runtime_version,
            "versions": dict(job.versions),
            "device": asdict(job.device),
            "cpu": cpu.describe()["model"],
            "machine": platform.machine(),
        }
    )


def _compile(plan: Plan, job: Job, name: str, ledger: Ledger, folder: Path, logs: Path) -> Built | None:
    limits, source = plan.profile.limits, job.source
    printed = logs / f"{job.label}-{job.target.scenario}-compile.log"
    memory_bytes = memory_limit_bytes(limits.memory_share)
    with (
        orphans_adopted(),
        cache.draft(folder) as workdir,
        Worker(
            source.name,
            printed,
            threads=job.target.threads,
            cpus=plan.cpus,
            memory_bytes=memory_bytes,
            python=job.python.path if job.python else None,
        ) as worker,
    ):
        try:
            worker.ask(opening(source), protocol.Opened, "import", limits.describe_s)
            request = protocol.Compile(
                student=job.student,
                target=job.target,
                workdir=workdir,
                shelf=cache.shelf(folder, _place(job)),
            )
            compiled = worker.ask(request, protocol.Compiled, "compile", limits.compile_s)
        except BackendError as fault:
            ledger.fail(job.cells.values(), fault, worker)
            return None
        kept = cache.keep(folder, name, workdir, compiled.artifact, compiled.compile_s)
        return _built(name, *kept, cached=False)


def _built(name: str, entry: cache.Entry, home: Path, *, cached: bool) -> Built:
    record = ArtifactRecord(key=name, bytes=entry.bytes, compile_s=round(entry.compile_s, 6), cached=cached)
    return Built(entry.artifact, home, record)


def _brought(one: Brought) -> Built:
    record = ArtifactRecord(
        key=one.key, bytes=one.bytes, compile_s=one.compile_s, cached=False, origin="elsewhere"
    )
    return Built(one.artifact, one.home, record)
