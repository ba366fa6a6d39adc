"""A backend with one Target: what a worker is started for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdbench.discovery import Source
from kdbench.spec import BackendInfo, Device, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backend with one Target. `cells`: index into the plan's cells for each batch size of the target."""

    source: Source
    info: BackendInfo
    runtime_version: str
    device: Device
    target: Target
    cells: Mapping[int, int]

    @property
    def label(self) -> str:
        """Name the job, fit for a file name."""
        return f"{self.source.name}-{self.device.id}-{self.target.precision}".replace(":", "-")
