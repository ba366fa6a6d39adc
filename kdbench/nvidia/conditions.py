"""How a GPU stands at one moment: clocks, heat, power, what slows it, who else computes on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.nvidia import handles, nvml
from kdbench.nvidia.processes import foreign
from kdbench.spec import Unavailable
from kdbench.sysfs import ROOT

REASONS = {
    0x04: "sw power cap",
    0x08: "hw slowdown",
    0x10: "sync boost",
    0x20: "sw thermal slowdown",
    0x40: "hw thermal slowdown",
    0x80: "hw power brake",
    0x200: "board limit",
    0x400: "reliability",
}
"""Bits of nvmlClocksEventReasons that are throttling. Left out: idle (0x1), clocks that somebody has set
(0x2), a display's clock (0x100). docs.nvidia.com/deploy/nvml-api, "NvmlClocksEventReasons"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One reading of a GPU; a field is None where its driver does not tell.

    throttle: what lowers its clock right now, by name (`sw power cap`, `hw thermal slowdown`, …); empty for
        nothing. An idle GPU and a clock that somebody has set are no throttling; `hw slowdown` may also show
        for a moment while the clock changes.
    power_w: of an Ampere or later GPU (but GA100) the mean of the last second.
    power_violation_ns, thermal_violation_ns: for how long power or heat has held it back since its driver was
        loaded; only grows, so the difference of two readings belongs to the time between them.
    foreign: how many other processes have a compute context on it; None with `foreign_reason` where that
        cannot be told.
    used_bytes, free_bytes: of its memory, everybody's together.
    pcie_generation, pcie_width: of its link now; an idle GPU lowers the generation.
    untold: why nothing at all is told, in one sentence; empty where something is.
    """

    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttle: tuple[str, ...] | None = None
    power_violation_ns: int | None = None
    thermal_violation_ns: int | None = None
    foreign: int | None = None
    foreign_reason: str = ""
    used_bytes: int | None = None
    free_bytes: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    untold: str = ""


class Watch:
    """Reads how a GPU, or a MIG instance, stands; by NVML only, so that it may live in any process.

    A MIG instance has memory and processes of its own. Clocks, heat, power and throttling are its GPU's: an
    instance's handle is refused there, so its GPU's is taken.

    uuid: as `Device.uuid` and nvidia-smi give it.
    """

    def __init__(self, uuid: str, *, library: nvml.Nvml | None = None, root: Path = ROOT) -> None:
        self.uuid = uuid
        self._given = library
        self._root = root
        self._library: nvml.Nvml | None = None
        self._whole: Any = None
        self._part: Any = None
        self._untold = ""

    def read(self, own: Collection[int] = ()) -> Conditions:
        """Read once; `own` are the processes that are not foreign. Never raises."""
        if self._library is None and not self._untold:
            self._untold = self._open()
        if self._library is None:
            return Conditions(untold=self._untold)
        return _read(self._library, self._whole, self._part, own, self._root)

    def close(self) -> None:
        """Let go of NVML; calling it again does nothing, reading again opens it anew."""
        if self._library is not None:
            nvml.disconnect(self._library)
        self._library, self._untold = None, ""

    def _open(self) -> str:
        if not self.uuid:
            return "this device has no UUID, by which NVML knows it"
        library = nvml.connect(self._given)
        if isinstance(library, Unavailable):
            return library.reason
        self._part = nvml.told(library, "nvmlDeviceGetHandleByUUID", self.uuid)
        if self._part is None:
            nvml.disconnect(library)
            return f"NVML does not know {self.uuid}"
        self._library, self._whole = library, handles.whole(library, self._part)
        return ""


def throttle(library: nvml.Nvml, handle: Any) -> tuple[str, ...] | None:
    """Name what lowers a GPU's clocks; None where the driver does not tell."""
    bits = nvml.told(library, nvml.EVENT_REASONS, handle)
    return None if bits is None else tuple(name for bit, name in REASONS.items() if bits & bit)


def _read(library: nvml.Nvml, gpu: Any, part: Any, own: Collection[int], root: Path) -> Conditions:
    others = foreign(library, part, own, root)
    memory = nvml.told(library, "nvmlDeviceGetMemoryInfo", part)
    milliwatts = nvml.told(library, "nvmlDeviceGetPowerUsage", gpu)
    return Conditions(
        sm_clock_mhz=nvml.told(library, "nvmlDeviceGetClockInfo", gpu, nvml.SM),
        memory_clock_mhz=nvml.told(library, "nvmlDeviceGetClockInfo", gpu, nvml.MEMORY),
        temperature_c=nvml.told(library, nvml.TEMPERATURE, gpu, nvml.GPU_SENSOR),
        power_w=None if milliwatts is None else milliwatts / 1000,
        throttle=throttle(library, gpu),
        power_violation_ns=_held(library, gpu, nvml.POWER),
        thermal_violation_ns=_held(library, gpu, nvml.THERMAL),
        foreign=others.count,
        foreign_reason=others.reason,
        used_bytes=None if memory is None else int(memory.used),
        free_bytes=None if memory is None else int(memory.free),
        pcie_generation=nvml.told(library, "nvmlDeviceGetCurrPcieLinkGeneration", gpu),
        pcie_width=nvml.told(library, "nvmlDeviceGetCurrPcieLinkWidth", gpu),
    )


def _held(library: nvml.Nvml, gpu: Any, policy: int) -> int | None:
    status = nvml.told(library, "nvmlDeviceGetViolationStatus", gpu, policy)
    return None if status is None else int(status.violationTime)
