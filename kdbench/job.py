"""A backend with one Target: what a worker is started for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdbench import device as devices
from kdbench.discovery import Interpreter, Source
from kdbench.spec import BackendInfo, Device, SideName, Student, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """An artifact that was compiled elsewhere: its JSON, where its files are, and what is recorded of it."""

    artifact: str
    home: Path
    key: str
    bytes: int
    compile_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backend with one Target and one network, the student or its teacher.

    cells: index into the plan's cells for each batch size of the target.
    versions: of the plugin's distributions. python: the interpreter of its workers, None for this one.
    side, pair: in a trial, which side it is of, and the number that it shares with its counterpart.
    brought: its artifact, where that came from elsewhere; None where it is compiled here. The target's batch
    sizes are then those that it was compiled for, and `cells` may have fewer.
    """

    student: Student
    source: Source
    info: BackendInfo
    runtime_version: str
    device: Device
    target: Target
    cells: Mapping[int, int]
    versions: Mapping[str, str]
    python: Interpreter | None = None
    side: SideName = ""
    pair: int | None = None
    brought: Brought | None = None

    @property
    def label(self) -> str:
        """Name the job, fit for a file name."""
        name = f"{self.source.name}-{self.device.id}-{self.target.precision}".replace(":", "-")
        name = name if self.student.role == "student" else f"{name}-{self.student.role}"
        return f"{name}-side-{self.side}" if self.side else name

    @property
    def physical(self) -> str:
        """The physical device that it runs on; only jobs of one take turns."""
        return devices.physical(self.device.id, self.device.uuid)

    @property
    def family(self) -> tuple[str, str, str]:
        """What jobs that must live in one cohort have in common within a scenario, and no other job has.

        These are a student's and its teacher's; in a trial, those of a pair.
        """
        if self.pair is not None:
            return "pair", str(self.pair), ""
        return self.source.name, self.device.id, self.target.precision
