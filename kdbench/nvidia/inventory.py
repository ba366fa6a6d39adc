"""The GPUs of this machine as plain facts, for the environment of a result."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from kdbench.nvidia import handles, nvml
from kdbench.nvidia.conditions import throttle
from kdbench.nvidia.processes import foreign
from kdbench.spec import Unavailable
from kdbench.sysfs import ROOT

_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
"""nvmlComputeMode_t."""


def facts(
    own: Collection[int] = (), *, library: nvml.Nvml | None = None, root: Path = ROOT
) -> list[dict[str, Any]]:
    """Describe every GPU and MIG instance that NVML knows; `[]` without NVML, and `untold` says why.

    Plain JSON, None for what a driver does not tell. CUDA is not started, CUDA_VISIBLE_DEVICES does not
    count: the parent may call it, and finds a device by its UUID. `own` are processes that are not foreign. A
    MIG instance names its GPU in `parent`; its memory and processes are its own, the rest is its GPU's. Never
    raises.
    """
    with nvml.opened(library) as management:
        if isinstance(management, Unavailable):
            return []
        found = [
            (gpu, part)
            for gpu in handles.whole_gpus(management)
            for part in (gpu, *handles.instances(management, gpu))
        ]
        return [_facts(management, gpu, part, own, root) for gpu, part in found]


def untold(*, library: nvml.Nvml | None = None) -> Unavailable | None:
    """Say why NVML tells nothing here, and what mends it; None where it answers."""
    with nvml.opened(library) as management:
        return management if isinstance(management, Unavailable) else None


def _facts(library: nvml.Nvml, gpu: Any, part: Any, own: Collection[int], root: Path) -> dict[str, Any]:
    capability = nvml.told(library, "nvmlDeviceGetCudaComputeCapability", gpu)
    memory = nvml.told(library, "nvmlDeviceGetMemoryInfo", part)
    return {
        "uuid": nvml.told(library, "nvmlDeviceGetUUID", part),
        "parent": None if part is gpu else nvml.told(library, "nvmlDeviceGetUUID", gpu),
        "name": nvml.told(library, "nvmlDeviceGetName", part),
        "driver": nvml.told(library, "nvmlSystemGetDriverVersion"),
        "cuda": _cuda(nvml.told(library, "nvmlSystemGetCudaDriverVersion_v2")),
        "capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "memory_bytes": None if memory is None else int(memory.total),
        "free_bytes": None if memory is None else int(memory.free),
        **_state(library, gpu),
        **_modes(library, gpu, part),
        **_link(library, gpu),
        **_others(library, part, own, root),
    }


def _state(library: nvml.Nvml, gpu: Any) -> dict[str, Any]:
    reasons = throttle(library, gpu)
    return {
        "sm_clock_mhz": nvml.told(library, "nvmlDeviceGetClockInfo", gpu, nvml.SM),
        "sm_clock_max_mhz": nvml.told(library, "nvmlDeviceGetMaxClockInfo", gpu, nvml.SM),
        "memory_clock_mhz": nvml.told(library, "nvmlDeviceGetClockInfo", gpu, nvml.MEMORY),
        "memory_clock_max_mhz": nvml.told(library, "nvmlDeviceGetMaxClockInfo", gpu, nvml.MEMORY),
        "power_w": _watts(nvml.told(library, "nvmlDeviceGetPowerUsage", gpu)),
        "power_limit_w": _watts(nvml.told(library, "nvmlDeviceGetEnforcedPowerLimit", gpu)),
        "power_limit_default_w": _watts(nvml.told(library, "nvmlDeviceGetPowerManagementDefaultLimit", gpu)),
        "temperature_c": nvml.told(library, nvml.TEMPERATURE, gpu, nvml.GPU_SENSOR),
        "throttle": None if reasons is None else list(reasons),
    }


def _modes(library: nvml.Nvml, gpu: Any, part: Any) -> dict[str, Any]:
    # Where MIG is on, only an instance's handle tells the compute mode.
    mode = nvml.told(library, "nvmlDeviceGetComputeMode", part)
    return {
        "ecc": _flag(nvml.told(library, "nvmlDeviceGetCurrentEccMode", gpu)),
        "ecc_corrected": nvml.told(
            library, "nvmlDeviceGetTotalEccErrors", gpu, nvml.CORRECTED, nvml.SINCE_LOADED
        ),
        "ecc_uncorrected": nvml.told(
            library, "nvmlDeviceGetTotalEccErrors", gpu, nvml.UNCORRECTED, nvml.SINCE_LOADED
        ),
        "mig": handles.mig(library, gpu),
        "persistence": _flag(nvml.told(library, "nvmlDeviceGetPersistenceMode", gpu)),
        "compute_mode": None if mode is None else _MODES.get(mode, str(mode)),
    }


def _link(library: nvml.Nvml, gpu: Any) -> dict[str, Any]:
    return {
        "pcie_generation": nvml.told(library, "nvmlDeviceGetCurrPcieLinkGeneration", gpu),
        "pcie_generation_max": nvml.told(library, "nvmlDeviceGetMaxPcieLinkGeneration", gpu),
        "pcie_width": nvml.told(library, "nvmlDeviceGetCurrPcieLinkWidth", gpu),
        "pcie_width_max": nvml.told(library, "nvmlDeviceGetMaxPcieLinkWidth", gpu),
    }


def _others(library: nvml.Nvml, part: Any, own: Collection[int], root: Path) -> dict[str, Any]:
    others = foreign(library, part, own, root)
    drawing = nvml.told(library, "nvmlDeviceGetGraphicsRunningProcesses", part)
    return {
        "foreign": others.count,
        "foreign_memory_bytes": others.memory_bytes,
        "foreign_reason": others.reason,
        "drawing": None if drawing is None else len(drawing),
    }


def _cuda(number: int | None) -> str | None:
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)
