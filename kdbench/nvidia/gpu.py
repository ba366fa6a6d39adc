"""One GPU as a plugin sees it, and what its units compute."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kdbench.spec import PRECISIONS, Device, Precision

_SINCE: dict[Precision, tuple[int, int]] = {
    "fp32": (0, 0),
    "tf32": (8, 0),
    "fp16": (5, 3),
    "bf16": (8, 0),
    "int8": (6, 1),
}
"""The compute capability from which on the units compute it.

docs.nvidia.com/cuda/cuda-c-programming-guide, "Compute Capabilities": half precision from 5.3 on, bf16 and
tf32 from 8.0 on; four-way int8 products (`__dp4a`) from 6.1 on.
"""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG instance of one, that CUDA sees in this process.

    index: its place in CUDA's own order, `CUDA_VISIBLE_DEVICES` applied: what `cudaSetDevice` takes.
    uuid: `GPU-…` or `MIG-…`, as nvidia-smi prints it; empty where the driver does not tell.
    capability: the compute capability, (8, 9) for `sm_89`.
    free_bytes: of its memory, when it was looked at; None where NVML does not tell.
    driver: the version of NVIDIA's driver; empty where NVML does not tell.
    """

    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    free_bytes: int | None = None
    driver: str = ""

    @property
    def id(self) -> str:
        """Give what `--device` takes: `cuda:0`."""
        return f"cuda:{self.index}"


def precisions(gpu: Gpu) -> tuple[Precision, ...]:
    """Tell what its units compute themselves, in kdbench's order; fp32 always."""
    return tuple(name for name in PRECISIONS if gpu.capability >= _SINCE[name])


def devices(gpus: Iterable[Gpu], declared: Collection[Precision]) -> tuple[Device, ...]:
    """Make the devices of a probe's answer: each with those of the declared precisions that it computes."""
    return tuple(
        Device(gpu.id, gpu.name, _both(gpu, declared), uuid=gpu.uuid, driver=gpu.driver) for gpu in gpus
    )


def _both(gpu: Gpu, declared: Collection[Precision]) -> tuple[Precision, ...]:
    return tuple(name for name in precisions(gpu) if name in declared)
