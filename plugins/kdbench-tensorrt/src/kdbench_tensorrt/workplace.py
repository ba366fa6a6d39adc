"""The GPU that a target names, as the driver tells of it."""

from __future__ import annotations

from kdbench import Unavailable
from kdbench.nvidia import Gpu, look


def find_gpu(device: str) -> Gpu | None:
    """Find the GPU with the id of a target; None where CUDA sees no such GPU."""
    seen = look()
    if isinstance(seen, Unavailable):
        return None
    return next((gpu for gpu in seen if gpu.id == device), None)
