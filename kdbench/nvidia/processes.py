"""Who else computes on a GPU, as far as NVML tells: counts and memory, never names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.nvidia.nvml import Nvml, told

_FIRST_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of Linux's include/linux/proc_ns.h: the process namespace of the machine itself."""

_MOST_PROCESSES = 2**22
"""PID_MAX_LIMIT of Linux; a driver older than nvidia-ml-py's structures shows itself by higher numbers."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Other processes with a compute context.

    count: how many; None with `reason` where it cannot be told.
    memory_bytes: what they hold together; None where it is not told.
    """

    count: int | None
    memory_bytes: int | None = None
    reason: str = ""


def foreign(library: Nvml, handle: Any, own: Collection[int], root: Path) -> Foreign:
    """Count the processes that compute on a GPU (or MIG instance, by its handle) and are not our own.

    NVML gives the numbers of the machine itself also inside a container
    (github.com/NVIDIA/nvidia-docker/issues/1483), where they cannot be told from our own; as long as no own
    process computes, all of them are others.
    """
    if (root / "dev/dxg").exists():
        return Foreign(None, reason="WSL 2 does not tell who computes on the GPU")
    found = told(library, "nvmlDeviceGetComputeRunningProcesses", handle)
    if found is None:
        return Foreign(None, reason="the driver does not tell who computes on the GPU")
    held = {int(process.pid): process.usedGpuMemory for process in found}
    if any(not 0 < pid <= _MOST_PROCESSES for pid in held):
        return Foreign(None, reason="the driver and nvidia-ml-py do not fit together")
    if own and _inside_namespace(root):
        return Foreign(None, reason="in a container the driver's process numbers are those of the host")
    others = [memory for pid, memory in held.items() if pid not in own]
    told_memory = None not in others
    return Foreign(len(others), sum(int(memory) for memory in others) if told_memory else None)


def _inside_namespace(root: Path) -> bool:
    try:
        return str((root / "proc/self/ns/pid").readlink()) != _FIRST_NAMESPACE
    except OSError:
        return False
