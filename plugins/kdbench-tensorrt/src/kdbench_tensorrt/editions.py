"""The two editions of TensorRT: one API under two module names, and what sets them apart."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Edition:
    """One of NVIDIA's two libraries.

    module: what is imported.
    distributions: whose versions decide what an engine is; those of the other CUDA major are simply not
        installed.
    libraries: the distribution to install, and the start of the names of its parts.
    oldest: the oldest release that will do: TensorRT before 10.1 has no `device_memory_size_v2`.
    just_in_time: kernels are compiled where they run: the builder needs no device and times nothing, an
        engine is not bound to the GPU that built it, and a context is told how to compile
        (docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html).
    """

    module: str
    title: str
    distributions: tuple[str, ...]
    libraries: str
    oldest: tuple[int, int]
    just_in_time: bool

    def vendor(self) -> Any:
        """Import the library; ImportError says what is missing."""
        return import_module(self.module)


_CASTING = ("onnx",)
"""Makes the fp16 or bf16 graph that an engine is built from."""

_CUDA = ("cuda-bindings",)
_PARTS = ("", "-bindings", "-libs")


def _distributions(name: str) -> tuple[str, ...]:
    return (
        name,
        *(f"{name}-{major}{part}" for major in ("cu12", "cu13") for part in _PARTS),
        *_CUDA,
        *_CASTING,
    )


STANDARD = Edition(
    module="tensorrt",
    title="TensorRT",
    distributions=_distributions("tensorrt"),
    libraries="tensorrt",
    oldest=(10, 3),
    just_in_time=False,
)

RTX = Edition(
    module="tensorrt_rtx",
    title="TensorRT for RTX",
    distributions=_distributions("tensorrt-rtx"),
    libraries="tensorrt-rtx",
    oldest=(1, 4),
    just_in_time=True,
)
