"""A backend with one Target: what a worker is started for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdbench.discovery import Source
from kdbench.spec import BackendInfo, Device, Student, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backend with one Target and one network, the student or its teacher.

    cells: index into the plan's cells for each batch size of the target.
    """

    student: Student
    source: Source
    info: BackendInfo
    runtime_version: str
    device: Device
    target: Target
    cells: Mapping[int, int]

    @property
    def label(self) -> str:
        """Name the job, fit for a file name."""
        name = f"{self.source.name}-{self.device.id}-{self.target.precision}".replace(":", "-")
        return name if self.student.role == "student" else f"{name}-{self.student.role}"

    @property
    def family(self) -> tuple[str, str, str]:
        """What a student's job and its teacher's have in common within a scenario, and no other job has."""
        return self.source.name, self.device.id, self.target.precision
