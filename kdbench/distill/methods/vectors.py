"""The one operation that most losses of relations share: the direction of a vector, safe near zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def directed(vectors: Tensor, *, floor: float) -> Tensor:
    """Divide vectors along the last axis by their length, or by `floor` where they are shorter.

    A direction has no slope at zero, and near it one of 1 / length: a single student that answers all
    images alike would set the scale of an optimiser that adapts for thousands of steps. The floor caps the
    gradient at 1 / floor, and changes nothing above.
    """
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=floor)
