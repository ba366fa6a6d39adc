"""A worker of a block with the job that it does, and what all blocks of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kdbench import protocol
from kdbench.errors import BackendError
from kdbench.job import Job
from kdbench.ledger import Ledger
from kdbench.plan import Plan
from kdbench.process import Worker
from kdbench.records import ArtifactRecord


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled artifact, ready to be loaded: its JSON, the folder that it lies in, and its record."""

    artifact: str
    workdir: Path
    record: ArtifactRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all blocks of a run share. `origin_ns` is the start of the run by the monotonic clock.

    unjudged: by the folder of a bundle, why no accuracy can be told; empty where one can.
    gauge: the worker that times the yardstick, if there is one.
    """

    plan: Plan
    ledger: Ledger
    built: Mapping[int, Built]
    logs: Path
    memory_bytes: int
    origin_ns: int
    unjudged: Mapping[Path, str]
    tell: Callable[[str], None]
    gauge: Worker | None = None

    @property
    def limit_s(self) -> float:
        """The time limit of one request in phase `run`."""
        return self.plan.profile.limits.run_s


@dataclass(slots=True)
class Member:
    """A worker of a block with the job that it does.

    cells: those that it can still be asked for, by batch size. loaded: what it told of its session.
    failed: whether a cell of it failed.
    """

    job: Job
    built: Built
    worker: Worker
    cells: dict[int, int] = field(default_factory=dict)
    loaded: protocol.Loaded | None = None
    failed: bool = False

    def ready(self, batch: int) -> bool:
        """Tell whether it can be asked for this batch size."""
        return batch in self.cells and self.worker.alive


@contextmanager
def blamed(site: Site, member: Member, batch: int) -> Iterator[None]:
    """Charge what goes wrong inside to the one cell that was worked on."""
    try:
        yield
    except BackendError as fault:
        member.failed = True
        site.ledger.fail([member.cells.pop(batch)], fault, member.worker)
