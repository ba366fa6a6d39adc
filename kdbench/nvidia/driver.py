"""The few calls of CUDA's driver that a probe needs, by ctypes; none of them makes a context.

docs.nvidia.com/cuda/cuda-driver-api: "Initialization", "Version Management", "Device Management", "Error
Handling".
"""

# ruff: noqa: N802 (the functions have the names of cuda.h)

from __future__ import annotations

import ctypes
import sys
from typing import Any, Protocol, cast
from uuid import UUID

from kdbench.nvidia.gpu import Gpu

NAME = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

COMPUTE_MODE, CAPABILITY_MAJOR, CAPABILITY_MINOR = 20, 75, 76
"""Of CUdevice_attribute."""

PROHIBITED, EXCLUSIVE_PROCESS = 2, 3
"""Of CUcomputemode."""

_NAME_BYTES = 256
_UUID_BYTES = 16


class CudaLibrary(Protocol):
    """The C functions of libcuda that are called: each answers a CUresult, 0 for success."""

    def cuInit(self, flags: int, /) -> int:
        """Start the driver in this process; makes no context."""
        ...

    def cuDriverGetVersion(self, version: Any, /) -> int:
        """Tell the CUDA version that the driver serves; works before cuInit."""
        ...

    def cuDeviceGetCount(self, count: Any, /) -> int:
        """Count the devices that this process may see."""
        ...

    def cuDeviceGet(self, device: Any, ordinal: int, /) -> int:
        """Give the handle of a device."""
        ...

    def cuDeviceGetName(self, name: Any, size: int, device: Any, /) -> int:
        """Give its name."""
        ...

    def cuDeviceGetUuid(self, uuid: Any, device: Any, /) -> int:
        """Give the UUID of the whole GPU, also where the device is a MIG instance of it."""
        ...

    def cuDeviceGetUuid_v2(self, uuid: Any, device: Any, /) -> int:
        """Give the UUID of the GPU, or of the MIG instance where the device is one; since CUDA 11.4."""
        ...

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any, /) -> int:
        """Give one attribute."""
        ...

    def cuDeviceTotalMem_v2(self, size: Any, device: Any, /) -> int:
        """Give the size of its memory."""
        ...

    def cuGetErrorName(self, error: int, name: Any, /) -> int:
        """Give the name of a CUresult."""
        ...


class CudaError(Exception):
    """What the driver answered instead of success: `code` and `name`, as in cuda.h."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"{name} ({code})")
        self.code = code
        self.name = name


def load() -> CudaLibrary:
    """Load the driver's library by the name by which CUDA programs load it; OSError where it is not there."""
    return cast(CudaLibrary, ctypes.CDLL(NAME))


class Driver:
    """CUDA's driver, asked; all but `version` need `initialise` first, and any may raise `CudaError`."""

    def __init__(self, library: CudaLibrary) -> None:
        self._library = library

    def initialise(self) -> None:
        """Start the driver in this process; changes of CUDA_VISIBLE_DEVICES count no longer."""
        self._ask("cuInit", 0)

    def version(self) -> tuple[int, int]:
        """Tell the newest CUDA version that it serves: (12, 8)."""
        number = ctypes.c_int()
        self._ask("cuDriverGetVersion", ctypes.pointer(number))
        return number.value // 1000, number.value % 1000 // 10

    def count(self) -> int:
        """Count the devices that this process sees."""
        number = ctypes.c_int()
        self._ask("cuDeviceGetCount", ctypes.pointer(number))
        return number.value

    def gpu(self, ordinal: int) -> Gpu:
        """Describe a device; its free memory is not asked for, as that would need a context."""
        device = self._device(ordinal)
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._ask("cuDeviceGetName", name, _NAME_BYTES, device)
        size = ctypes.c_size_t()
        self._ask("cuDeviceTotalMem_v2", ctypes.pointer(size), device)
        text = name.value.decode(errors="replace").strip()
        capability = (self.attribute(ordinal, CAPABILITY_MAJOR), self.attribute(ordinal, CAPABILITY_MINOR))
        return Gpu(ordinal, self._uuid(device, text), text, capability, size.value)

    def attribute(self, ordinal: int, attribute: int) -> int:
        """Give one attribute of a device."""
        value = ctypes.c_int()
        self._ask("cuDeviceGetAttribute", ctypes.pointer(value), attribute, self._device(ordinal))
        return value.value

    def _device(self, ordinal: int) -> ctypes.c_int:
        device = ctypes.c_int()
        self._ask("cuDeviceGet", ctypes.pointer(device), ordinal)
        return device

    def _uuid(self, device: ctypes.c_int, name: str) -> str:
        own = self._bytes("cuDeviceGetUuid_v2", device)
        whole = self._bytes("cuDeviceGetUuid", device)
        if own is None:
            return "" if whole is None else f"GPU-{UUID(bytes=whole)}"
        # Sixteen bytes without a prefix: an instance shows in that its UUID is not its GPU's.
        instance = (whole is not None and whole != own) or " MIG " in name
        return f"{'MIG' if instance else 'GPU'}-{UUID(bytes=own)}"

    def _bytes(self, function: str, device: ctypes.c_int) -> bytes | None:
        room = (ctypes.c_ubyte * _UUID_BYTES)()
        try:
            self._ask(function, ctypes.pointer(room), device)
        except (AttributeError, CudaError):
            return None
        return bytes(room)

    def _ask(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            raise CudaError(code, self._name(code))

    def _name(self, code: int) -> str:
        name = ctypes.c_char_p()
        try:
            self._library.cuGetErrorName(code, ctypes.pointer(name))
        except AttributeError:
            return "an error"
        return (name.value or b"an error without a name").decode(errors="replace")
