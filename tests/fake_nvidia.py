"""Fake C libraries of NVIDIA: libcuda and NVML, at the seam where kdbench calls them, and nothing above it.

They hold what a test gives them and answer as the vendor's documentation says. Nothing here has run on a GPU.
"""

# ruff: noqa: N802 (the functions have the names of the C libraries)

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

NAMES = {
    2: b"CUDA_ERROR_OUT_OF_MEMORY",
    34: b"CUDA_ERROR_STUB_LIBRARY",
    46: b"CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: b"CUDA_ERROR_NO_DEVICE",
    101: b"CUDA_ERROR_INVALID_DEVICE",
    214: b"CUDA_ERROR_ECC_UNCORRECTABLE",
    304: b"CUDA_ERROR_OPERATING_SYSTEM",
    802: b"CUDA_ERROR_SYSTEM_NOT_READY",
    803: b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: b"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    805: b"CUDA_ERROR_MPS_CONNECTION_FAILED",
    999: b"CUDA_ERROR_UNKNOWN",
}
GIB = 2**30
FIRST = "GPU-00000000-0000-0000-0000-000000000001"
SECOND = "GPU-00000000-0000-0000-0000-000000000002"
SLICE = "MIG-00000000-0000-0000-0000-0000000000a1"


@dataclass
class Card:
    """A GPU as both libraries see it; `part` is the UUID of the MIG instance that CUDA sees in its place."""

    uuid: str = FIRST
    name: str = "NVIDIA RTX 4090"
    capability: tuple[int, int] = (8, 9)
    memory: int = 24 * GIB
    compute_mode: int = 0
    part: str = ""

    @property
    def seen(self) -> str:
        return self.part or self.uuid


@dataclass
class FakeCuda:
    """libcuda: `init` and `version_error` are the CUresults of cuInit and cuDriverGetVersion."""

    cards: list[Card] = field(default_factory=lambda: [Card()])
    version: int = 13000
    init: int = 0
    version_error: int = 0
    calls: list[str] = field(default_factory=list)

    def cuInit(self, flags: int) -> int:
        self.calls.append("cuInit")
        assert flags == 0
        return self.init

    def cuDriverGetVersion(self, version: Any) -> int:
        version.contents.value = self.version
        return self.version_error

    def cuDeviceGetCount(self, count: Any) -> int:
        count.contents.value = len(self.cards)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device.contents.value = ordinal
        return 0 if ordinal < len(self.cards) else 101

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self.cards[device.value].name.encode()[: size - 1]
        return 0

    def cuDeviceGetUuid(self, uuid: Any, device: Any) -> int:
        return _put(uuid, self.cards[device.value].uuid)

    def cuDeviceGetUuid_v2(self, uuid: Any, device: Any) -> int:
        return _put(uuid, self.cards[device.value].seen)

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        card = self.cards[device.value]
        value.contents.value = {20: card.compute_mode, 75: card.capability[0], 76: card.capability[1]}[
            attribute
        ]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        size.contents.value = self.cards[device.value].memory
        return 0

    def cuGetErrorName(self, error: int, name: Any) -> int:
        name.contents.value = NAMES.get(error)
        return 0 if error in NAMES else 1


def _put(room: Any, uuid: str) -> int:
    room.contents[:] = list(UUID(uuid.partition("-")[2]).bytes)
    return 0


class NotTold(Exception):
    """Stands for pynvml.NVMLError, with the same `value`."""

    def __init__(self, value: int = 3) -> None:
        super().__init__("Not Supported" if value == 3 else f"error {value}")
        self.value = value


@dataclass
class FakeNvml:
    """NVML: answers by UUID and function. A handle is the UUID itself.

    What `answers` lacks is `Not Supported`, as a consumer card or a Jetson says; `start` is nvmlInit's error.
    """

    uuids: list[str] = field(default_factory=lambda: [FIRST])
    parts: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    start: int = 0
    open: int = 0

    def nvmlInit(self) -> None:
        if self.start:
            raise NotTold(self.start)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in {*self.uuids, *(part for parts in self.parts.values() for part in parts)}:
            raise NotTold(6)
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7 if handle in self.parts else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index >= len(self.parts[handle]):
            raise NotTold(6)
        return self.parts[handle][index]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        found = [gpu for gpu, parts in self.parts.items() if handle in parts]
        if not found:
            raise NotTold(2)
        return found[0]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)

        def ask(handle: str, *arguments: int) -> Any:
            assert self.open > 0, "asked without nvmlInit"
            answer = self.answers.get(handle, {}).get(name)
            if isinstance(answer, dict):
                answer = answer.get(arguments[0])
            if answer is None:
                raise NotTold
            return answer

        return ask


def memory(total: int, free: int) -> SimpleNamespace:
    """Give an nvmlMemory_t."""
    return SimpleNamespace(total=total, free=free, used=total - free)


def process(pid: int, used: int | None = GIB) -> SimpleNamespace:
    """Give an nvmlProcessInfo_t."""
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def everything() -> dict[str, Any]:
    """Give what a data centre card tells."""
    return {
        "nvmlDeviceGetName": "NVIDIA H100",
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
        "nvmlDeviceGetMemoryInfo": memory(80 * GIB, 79 * GIB),
        "nvmlDeviceGetClockInfo": {1: 1755, 2: 2619},
        "nvmlDeviceGetMaxClockInfo": {1: 1980, 2: 2619},
        "nvmlDeviceGetTemperature": 41,
        "nvmlDeviceGetPowerUsage": 71_500,
        "nvmlDeviceGetEnforcedPowerLimit": 650_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
        "nvmlDeviceGetViolationStatus": {
            0: SimpleNamespace(violationTime=12_000_000),
            1: SimpleNamespace(violationTime=0),
        },
        "nvmlDeviceGetComputeRunningProcesses": [],
        "nvmlDeviceGetGraphicsRunningProcesses": [],
        "nvmlDeviceGetCurrentEccMode": 1,
        "nvmlDeviceGetTotalEccErrors": {0: 3, 1: 0},
        "nvmlDeviceGetMigMode": [0, 0],
        "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetComputeMode": 0,
        "nvmlDeviceGetCurrPcieLinkGeneration": 5,
        "nvmlDeviceGetMaxPcieLinkGeneration": 5,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
    }


class Machine:
    """A tree of /proc, /dev and /sys below a folder, written as the kernel would."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str = "") -> Machine:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return self

    def driver(self, version: str = "580.65.06") -> Machine:
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Jul 22 18:28:20 UTC 2025\n"
        return self.write("proc/driver/nvidia/version", line)

    def nodes(self) -> Machine:
        for name in ("nvidiactl", "nvidia0", "nvidia-uvm"):
            self.write(f"dev/{name}")
        return self

    def card(self, kernel_driver: str = "", kind: str = "0x030000") -> Machine:
        slot = f"sys/bus/pci/devices/0000:0{len(list(self.root.glob('sys/bus/pci/devices/*')))}:00.0"
        self.write(f"{slot}/vendor", "0x10de\n").write(f"{slot}/class", f"{kind}\n")
        if kernel_driver:
            (self.root / f"sys/bus/pci/drivers/{kernel_driver}").mkdir(parents=True, exist_ok=True)
            (self.root / slot / "driver").symlink_to(self.root / f"sys/bus/pci/drivers/{kernel_driver}")
        return self

    def container(self) -> Machine:
        return self.write(".dockerenv")

    def namespace(self, inode: int) -> Machine:
        link = self.root / "proc/self/ns/pid"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"pid:[{inode}]")
        return self

    def running(self) -> Machine:
        """A machine with a GPU and all of its driver."""
        return self.driver().nodes().card("nvidia")
