"""NVML through nvidia-ml-py: opened, asked, closed. It makes no CUDA context: the parent may use it too.

docs.nvidia.com/deploy/nvml-api: "Initialization and Cleanup", "Device Queries", "Multi Instance GPU
Management"; which call takes a MIG instance's handle is said there at each call. nvidia-ml-py (module
`pynvml`) is the extra `nvidia`; releases 12.535 to 13.615 have these functions, but for the second names.
"""

# ruff: noqa: N802 (the functions have the names of NVML)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Protocol, cast

from kdbench.spec import Unavailable

SM, MEMORY = 1, 2
"""Of nvmlClockType_t."""

POWER, THERMAL = 0, 1
"""Of nvmlPerfPolicyType_t."""

TEMPERATURE = ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV")
"""CUDA 14 drops the first name; drivers before 570 or so lack the second."""

EVENT_REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
"""Drivers before 535 lack the first name; CUDA 14 drops the second."""

GPU_SENSOR = 0
CORRECTED, UNCORRECTED = 0, 1
SINCE_LOADED = 0
"""Of nvmlTemperatureSensors_t, nvmlMemoryErrorType_t, nvmlEccCounterType_t (volatile)."""

_INSTALL = "pip install 'kdbench[nvidia]'"
_REASONS = {
    4: ("the kernel does not let this user ask NVIDIA's driver", "ls -l /dev/nvidia*"),
    9: ("NVIDIA's kernel module is not loaded", "sudo modprobe nvidia"),
    12: ("NVML is not installed: there is no libnvidia-ml.so.1", "install NVIDIA's driver"),
    15: ("a GPU has fallen off the bus", "sudo reboot"),
    16: ("a GPU has to be reset", "sudo nvidia-smi --gpu-reset"),
    18: ("NVIDIA's kernel module and its libraries are of unlike versions", "sudo reboot"),
}
"""nvmlReturn_t of nvmlInit that somebody can do something about."""


class Nvml(Protocol):
    """The functions of pynvml that are called; each raises where the driver does not tell."""

    def nvmlInit(self) -> None:
        """Connect to the driver; counted, so that each needs its nvmlShutdown."""
        ...

    def nvmlShutdown(self) -> None:
        """Disconnect."""
        ...

    def nvmlSystemGetDriverVersion(self) -> str:
        """Give the driver's version."""
        ...

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        """Give the CUDA version that it serves, 12080 for 12.8."""
        ...

    def nvmlDeviceGetCount(self) -> int:
        """Count the GPUs, MIG instances not among them."""
        ...

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Any:
        """Give a GPU's handle."""
        ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> Any:
        """Give the handle of a GPU or of a MIG instance."""
        ...

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any, /) -> int:
        """Count the places for MIG instances; nvmlDeviceGetMigDeviceHandleByIndex says which are taken."""
        ...

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int, /) -> Any:
        """Give the handle of a MIG instance."""
        ...

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: Any, /) -> Any:
        """Give the handle of a MIG instance's GPU."""
        ...

    def nvmlDeviceGetMigMode(self, handle: Any, /) -> list[int]:
        """Give the current and the pending mode."""
        ...

    def nvmlDeviceGetName(self, handle: Any, /) -> str:
        """Give the name."""
        ...

    def nvmlDeviceGetUUID(self, handle: Any, /) -> str:
        """Give the UUID with its prefix."""
        ...

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, /) -> tuple[int, int]:
        """Give the compute capability."""
        ...

    def nvmlDeviceGetMemoryInfo(self, handle: Any, /) -> Any:
        """Give `total`, `used` and `free` in bytes, a MIG instance's own by its own handle."""
        ...

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: int, /) -> int:
        """Give a clock in MHz."""
        ...

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, clock: int, /) -> int:
        """Give a clock's maximum in MHz."""
        ...

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int, /) -> int:
        """Give the temperature in degrees Celsius."""
        ...

    def nvmlDeviceGetTemperatureV(self, handle: Any, sensor: int, /) -> int:
        """Give the same under its newer name."""
        ...

    def nvmlDeviceGetPowerUsage(self, handle: Any, /) -> int:
        """Give the power in milliwatts."""
        ...

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any, /) -> int:
        """Give the power limit in force, in milliwatts."""
        ...

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Any, /) -> int:
        """Give the power limit that the GPU starts with, in milliwatts."""
        ...

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, /) -> int:
        """Give what lowers the clocks, as bits."""
        ...

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, /) -> int:
        """Give the same under its older name."""
        ...

    def nvmlDeviceGetViolationStatus(self, handle: Any, policy: int, /) -> Any:
        """Give `violationTime`: for how many nanoseconds a policy has held the clocks down; until CUDA 14."""
        ...

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any, /) -> list[Any]:
        """Give the processes with a compute context, each with `pid` and `usedGpuMemory`."""
        ...

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any, /) -> list[Any]:
        """Give the processes with a graphics context."""
        ...

    def nvmlDeviceGetCurrentEccMode(self, handle: Any, /) -> int:
        """Tell whether error correction is on."""
        ...

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, kind: int, counter: int, /) -> int:
        """Count errors of the memory."""
        ...

    def nvmlDeviceGetPersistenceMode(self, handle: Any, /) -> int:
        """Tell whether the driver stays loaded without a client."""
        ...

    def nvmlDeviceGetComputeMode(self, handle: Any, /) -> int:
        """Give the compute mode; where MIG is on, by an instance's handle only."""
        ...

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: Any, /) -> int:
        """Give the link's generation now; an idle GPU lowers it."""
        ...

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: Any, /) -> int:
        """Give the highest generation that GPU and slot allow."""
        ...

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: Any, /) -> int:
        """Give the number of lanes now."""
        ...

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: Any, /) -> int:
        """Give the highest number of lanes."""
        ...


def connect(library: Nvml | None = None) -> Nvml | Unavailable:
    """Give NVML, connected; or say why not. Every connection needs its `disconnect`."""
    try:
        library = library or cast(Nvml, import_module("pynvml"))
        library.nvmlInit()
    except ImportError:
        return Unavailable("nvidia-ml-py is not installed, so that NVML cannot be asked", _INSTALL)
    except Exception as error:  # pynvml's classes cannot be named without importing it
        code = getattr(error, "value", None)
        reason, fix = _REASONS.get(code or 0, (f"NVML does not start: {error}", "nvidia-smi"))
        return Unavailable(reason, fix)
    return library


def disconnect(library: Nvml) -> None:
    """Close a connection; never raises."""
    with suppress(Exception):
        library.nvmlShutdown()


@contextmanager
def opened(library: Nvml | None = None) -> Iterator[Nvml | Unavailable]:
    """Connect for the length of a block."""
    found = connect(library)
    try:
        yield found
    finally:
        if not isinstance(found, Unavailable):
            disconnect(found)


def told(library: Nvml, functions: str | tuple[str, ...], *arguments: Any) -> Any:
    """Ask the first of these functions that answers, by name: newer releases rename and drop some.

    None where the driver does not tell, which is usual on consumer cards, in guests and on Jetson.
    """
    for name in (functions,) if isinstance(functions, str) else functions:
        try:
            return getattr(library, name)(*arguments)
        except Exception:  # what a driver does not tell is no fault, whichever error it chose
            continue
    return None
