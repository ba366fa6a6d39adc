"""Why CUDA sees no device although its driver runs: the variable, the device files, MIG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdbench.nvidia import handles, lacks, nvml
from kdbench.nvidia.traces import Traces, driver_lists
from kdbench.spec import Unavailable

VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Known:
    """What NVML knows of the GPUs, whatever CUDA_VISIBLE_DEVICES says.

    count: of GPUs; None where nobody tells.
    divided: whether each of them is in MIG mode.
    instances: the UUIDs of the MIG instances.
    """

    count: int | None = None
    divided: bool = False
    instances: tuple[str, ...] = ()


def known(library: nvml.Nvml | Unavailable, root: Path) -> Known:
    """Ask NVML, and without it the kernel, how many GPUs there are."""
    if isinstance(library, Unavailable):
        return Known(driver_lists(root) or None)
    gpus = handles.whole_gpus(library)
    divided = bool(gpus) and all(handles.mig(library, gpu) for gpu in gpus)
    parts = [part for gpu in gpus for part in handles.instances(library, gpu)]
    uuids = [nvml.told(library, "nvmlDeviceGetUUID", part) for part in parts]
    return Known(len(gpus), divided, tuple(uuid for uuid in uuids if uuid))


def nothing(traces: Traces, gpus: Known, environ: Mapping[str, str]) -> Unavailable:
    """Say why no device is visible."""
    value = environ.get(VARIABLE)
    if traces.platform == "linux" and not traces.nodes:
        return lacks.nodes(traces) if traces.module else lacks.no_driver(traces)
    if value is not None and _hides(value):
        return Unavailable(f"{VARIABLE} is {value!r}, which hides {_all(gpus)}", f"unset {VARIABLE}")
    if gpus.divided and not gpus.instances:
        return Unavailable(
            "MIG is enabled, but no instance has been created, so that CUDA has no device",
            "sudo nvidia-smi mig -cgi 0 -C  (the whole GPU as one; nvidia-smi mig -lgip lists others)",
        )
    if value is not None:
        fix = f"export {VARIABLE}={gpus.instances[0]}" if gpus.instances else f"unset {VARIABLE}"
        return Unavailable(f"{VARIABLE} is {value!r}, which names none of {_all(gpus)}", fix)
    if traces.platform == "tegra":
        return Unavailable(
            "this user may not open the Jetson's GPU", "sudo usermod -aG video,render $USER; log in anew"
        )
    return Unavailable(
        f"CUDA sees no device, of {_all(gpus)}", "nvidia-smi -L  (lists what the driver knows)"
    )


def _hides(value: str) -> bool:
    """Whether the list ends before it begins: an index that is none hides all after it.

    docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html
    """
    first = value.split(",")[0].strip()
    return first in ("", "-1", "NoDevFiles")


def _all(gpus: Known) -> str:
    if gpus.count is None:
        return "the GPUs of this machine"
    plural = "" if gpus.count == 1 else "s"
    told = f"the {gpus.count} GPU{plural} that NVIDIA's driver knows"
    return f"{told} (MIG instances: {len(gpus.instances)})" if gpus.divided else told
