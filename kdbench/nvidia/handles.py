"""NVML's handles of GPUs and of their MIG instances.

docs.nvidia.com/deploy/nvml-api, "Multi Instance GPU Management".
"""

from __future__ import annotations

from typing import Any

from kdbench.nvidia.nvml import Nvml, told


def whole_gpus(library: Nvml) -> list[Any]:
    """Give the handles of the GPUs, in NVML's order."""
    count = told(library, "nvmlDeviceGetCount") or 0
    handles = [told(library, "nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    return [handle for handle in handles if handle is not None]


def instances(library: Nvml, handle: Any) -> list[Any]:
    """Give the handles of a GPU's MIG instances; none where MIG is off."""
    places = told(library, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    handles = [told(library, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index) for index in range(places)]
    return [instance for instance in handles if instance is not None]


def mig(library: Nvml, handle: Any) -> bool | None:
    """Tell whether a GPU is divided into MIG instances; None for one that cannot be."""
    modes = told(library, "nvmlDeviceGetMigMode", handle)
    return None if modes is None else bool(modes[0])


def free_bytes(library: Nvml, uuid: str) -> int | None:
    """Tell how much memory of a GPU or MIG instance is free; None where NVML does not tell, as on Jetson."""
    handle = told(library, "nvmlDeviceGetHandleByUUID", uuid) if uuid else None
    memory = None if handle is None else told(library, "nvmlDeviceGetMemoryInfo", handle)
    return None if memory is None else int(memory.free)


def whole(library: Nvml, handle: Any) -> Any:
    """Give the handle of the GPU that a handle belongs to: its own, or that of the MIG instance's GPU."""
    parent = told(library, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
    return handle if parent is None else parent
