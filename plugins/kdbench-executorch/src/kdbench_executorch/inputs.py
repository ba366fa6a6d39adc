"""Inputs that a method allocated, each with what the runtime takes in its place, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from kdbench import TensorSpec

if TYPE_CHECKING:
    from kdbench_executorch.engine import Arrays

Taken = TypeVar("Taken")


class Inputs(Generic[Taken]):
    """Allocates inputs of one batch size; `known` gives by their id what the runtime takes for them."""

    def __init__(self, specs: Sequence[TensorSpec], batch_size: int, view: Callable[[Arrays], Taken]) -> None:
        self._specs, self._batch_size, self._view = specs, batch_size, view
        self.known: dict[int, Taken] = {}
        self._allocated: list[Arrays] = []

    def allocate(self, count: int) -> list[Arrays]:
        """Allocate `count` of them, which live as long as this."""
        fresh: list[Arrays] = [
            tuple(np.zeros((self._batch_size, *spec.shape), spec.dtype) for spec in self._specs)
            for _ in range(count)
        ]
        self.known |= {id(arrays): self._view(arrays) for arrays in fresh}
        # An id is unique only among the living.
        self._allocated += fresh
        return fresh

    def clear(self) -> None:
        """Let them go."""
        self.known.clear()
        self._allocated.clear()
