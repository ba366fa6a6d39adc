"""A loss of how the images of a batch lie to each other, whatever the two networks' channels mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.distill.methods.vectors import directed

if TYPE_CHECKING:
    from torch import Tensor

_MEAN_FLOOR = 0.01
"""Least mean distance that is divided by: below it, all images look alike to the network."""

_FLOOR = 0.01
"""Least distance of two images that is divided by, in units of the mean distance."""


def relational(student: Tensor, teacher: Tensor, *, distance: float, angle: float) -> Tensor:
    """Huber loss of all pairs' distances, times `distance`, and of all triples' angles, times `angle`.

    A pair's relation is |x_i - x_j| / m, with m the mean distance of all pairs; a triple's is the cosine of
    the angle at x_j between x_i and x_k. Both losses average h(student's relation - teacher's), with
    h(d) = d^2 / 2 up to |d| = 1 and |d| - 1/2 beyond, over pairs and triples of different images. From
    W. Park, D. Kim, Y. Lu, M. Cho, "Relational Knowledge Distillation", 2019, arXiv 1904.05068, section 3;
    the weights 25 and 50 are customary. Turning, moving or scaling either side changes nothing.

    student: (N, C) or (N, C, H, W), which is averaged over H and W; teacher: likewise, with channels of its
    own; float32. Answers a scalar. Uses memory in proportion to N^2 * C, and N^3 for angles. Two images
    have no angle, and no distance but the mean: the loss is 0.
    """
    loss = student.new_zeros(())
    count = len(student)
    ours, theirs = apart(student), apart(teacher)
    if distance:
        gaps = _huber(ours.norm(dim=2) - theirs.norm(dim=2))
        loss = loss + distance * gaps.sum() / max(1, count * (count - 1))
    if angle:
        gaps = _huber(cosines(ours) - cosines(theirs))
        # An image's angle with itself says nothing, and is not 0 where it coincides with the vertex.
        own = gaps.diagonal(dim1=1, dim2=2).sum()
        loss = loss + angle * (gaps.sum() - own) / max(1, count * (count - 1) * (count - 2))
    return loss


def apart(features: Tensor) -> Tensor:
    """Differences (N, N, C) of all pairs of N images, in units of their mean length if that is 0.01 at least.

    features: (N, C), or (N, C, H, W), which is averaged over H and W.
    """
    rows = features.flatten(2).mean(2) if features.ndim > 2 else features
    differences = rows[:, None] - rows
    mean: Tensor = differences.norm(dim=2).sum() / max(1, len(rows) * (len(rows) - 1))
    return differences / mean.clamp(min=_MEAN_FLOOR)


def cosines(differences: Tensor) -> Tensor:
    """Cosine (N, N, N) of the angle at image j between i and k, at [j, i, k], of what `apart` gives.

    Drawn to 0, in proportion, where i or k is less than 0.01 mean distances away from j.
    """
    directions = directed(differences, floor=_FLOOR)
    return directions @ directions.transpose(1, 2)


def _huber(gap: Tensor) -> Tensor:
    size = gap.abs()
    capped = size.clamp(max=1.0)
    return capped * (size - capped / 2)
