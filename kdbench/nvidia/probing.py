"""Which GPUs a plugin can use in this process, or what is lacking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kdbench.nvidia import driver, handles, lacks, nvml, sight, traces
from kdbench.nvidia.gpu import Gpu
from kdbench.spec import Unavailable
from kdbench.sysfs import ROOT

_CONTEXT_BYTES = 128 * 2**20
"""Less than any context takes."""

_NOTHING_VISIBLE = (100, 101)
"""CUDA_ERROR_NO_DEVICE and CUDA_ERROR_INVALID_DEVICE: what cuInit says to an unfit CUDA_VISIBLE_DEVICES."""


def look(
    cuda: tuple[int, int] = (12, 0),
    *,
    library: driver.CudaLibrary | None = None,
    nvml_library: nvml.Nvml | None = None,
    root: Path = ROOT,
    environ: Mapping[str, str] | None = None,
) -> tuple[Gpu, ...] | Unavailable:
    """Give the GPUs that CUDA sees in this process, in its own order; or what is lacking, and what mends it.

    For `kdbench_probe`, in a worker: it starts CUDA's driver (cuInit), and makes no context. A GPU whose
    compute mode forbids several processes, or whose memory is full, is left out; where none remains, the
    first one's lack is told.

    Args:
        cuda: the newest CUDA version that the plugin's libraries need of the driver.
        library: another CUDA driver, for tests; so are the rest.
        nvml_library: another NVML.
        root: where /proc, /sys and /dev are.
        environ: the environment, instead of this process's.

    Never raises.
    """
    try:
        found = _look(cuda, library, nvml_library, root, os.environ if environ is None else environ)
        return _sentence(found) if isinstance(found, Unavailable) else found
    except Exception as error:  # a probe answers, whatever a driver does
        return Unavailable(
            f"Asking NVIDIA's driver failed: {type(error).__name__}: {error}.", "nvidia-smi  (does it work?)"
        )


def _sentence(lacking: Unavailable) -> Unavailable:
    """Make a reason a sentence; the name of a library, file or variable keeps its first letter."""
    first = lacking.reason.split()[0]
    plain = first.isalpha() and first.islower()
    reason = lacking.reason[0].upper() + lacking.reason[1:] if plain else lacking.reason
    return Unavailable(f"{reason}.", lacking.fix)


def _look(
    cuda: tuple[int, int],
    library: driver.CudaLibrary | None,
    nvml_library: nvml.Nvml | None,
    root: Path,
    environ: Mapping[str, str],
) -> tuple[Gpu, ...] | Unavailable:
    try:
        asked = driver.Driver(library or driver.load())
    except OSError as error:
        return lacks.library(traces.read(root), error)
    try:
        served = asked.version()
        if served < cuda:
            return lacks.too_old(traces.read(root), served, cuda)
        asked.initialise()
        count = asked.count()
    except driver.CudaError as error:
        seen = traces.read(root)
        if error.code not in _NOTHING_VISIBLE:
            return lacks.refused(seen, error)
        count = 0
    with nvml.opened(nvml_library) as management:
        if not count:
            return sight.nothing(traces.read(root), sight.known(management, root), environ)
        return _usable(asked, count, management)


def _usable(
    asked: driver.Driver, count: int, management: nvml.Nvml | Unavailable
) -> tuple[Gpu, ...] | Unavailable:
    usable, lacking = [], []
    for ordinal in range(count):
        gpu = asked.gpu(ordinal)
        if not isinstance(management, Unavailable):
            driver_version = nvml.told(management, "nvmlSystemGetDriverVersion") or ""
            free_bytes = handles.free_bytes(management, gpu.uuid)
            gpu = replace(gpu, free_bytes=free_bytes, driver=driver_version)
        mode = asked.attribute(ordinal, driver.COMPUTE_MODE)
        if mode in (driver.PROHIBITED, driver.EXCLUSIVE_PROCESS):
            lacking.append(lacks.mode(gpu, mode))
        elif gpu.free_bytes is not None and gpu.free_bytes < _CONTEXT_BYTES:
            lacking.append(lacks.memory(gpu))
        else:
            usable.append(gpu)
    return tuple(usable) or lacking[0]
