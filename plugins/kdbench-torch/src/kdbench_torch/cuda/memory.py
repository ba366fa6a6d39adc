"""Memory on both sides of the bus: pinned arrays that the device reads by itself, and tensors on the device.

docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html: only copies from and to pinned memory run beside
the host, and the host has to synchronise before it reads what the device wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdbench import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from kdbench.spec import Array

    Arrays = tuple[Array, ...]
    Tensors = tuple[Tensor, ...]


class Pinned:
    """The pinned inputs that one runner allocated, found again by the identity of an entry."""

    def __init__(self, inputs: Sequence[TensorSpec], batch_size: int) -> None:
        self._inputs, self._batch_size = inputs, batch_size
        self.known: dict[int, Tensors] = {}
        self._allocated: list[Arrays] = []

    def allocate(self, count: int) -> list[Arrays]:
        """Allocate `count` entries, which the device reads where they are; they live as long as this."""
        import torch

        fresh = []
        for _ in range(count):
            tensors = tuple(
                pinned((self._batch_size, *spec.shape), getattr(torch, spec.dtype)) for spec in self._inputs
            )
            arrays = tuple(tensor.numpy() for tensor in tensors)
            self.known[id(arrays)] = tensors
            fresh.append(arrays)
        # An id is unique only among the living.
        self._allocated += fresh
        return fresh

    def close(self) -> None:
        """Let them go."""
        self.known.clear()
        self._allocated.clear()


def pinned(shape: Sequence[int], dtype: Any) -> Tensor:
    """Allocate page-locked memory of the host, filled with zeros."""
    import torch

    return torch.zeros(tuple(shape), dtype=dtype, pin_memory=True)


def pinned_like(tensors: Tensors) -> Tensors:
    """Allocate pinned memory for a copy of each tensor of the device."""
    return tuple(pinned(tensor.shape, tensor.dtype) for tensor in tensors)


def upload(inputs: Arrays, device: str) -> Tensors:
    """Copy arrays to tensors of the device, all there when this returns."""
    import torch

    # Tensors cannot be read-only: torch would print a warning.
    hosts = (torch.from_numpy(array if array.flags.writeable else array.copy()) for array in inputs)
    tensors = tuple(host.to(device) for host in hosts)
    # Memory that is not pinned is staged, and the last part may still be on its way.
    torch.cuda.current_stream(device).synchronize()
    return tensors


def download(outputs: Tensors) -> Arrays:
    """Copy tensors of the device to arrays of the host."""
    return tuple(tensor.cpu().numpy() for tensor in outputs)
