"""Losses of features: what a layer of the student says against what one of the teacher's says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.distill.methods.vectors import directed

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 1e-6
"""Least length that a map of squares is divided by: activations of a thousandth."""


def hint(student: Tensor, teacher: Tensor, *, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean of (weight * student + bias - teacher)^2 over images, channels and positions.

    The learned `weight` and `bias` map the student's channels to the teacher's at each position: a 1x1
    convolution. From A. Romero and others, "FitNets: Hints for Thin Deep Nets", 2014, arXiv 1412.6550,
    section 2.2, whose halved sum of squares is a mean here, as the customary weight of 100 presupposes.
    student, teacher: (N, C, H, W) or (N, C) float32, each with its own C, H and W; see `met`. weight:
    (teacher's C, student's C). bias: (teacher's C,). Answers a scalar.
    """
    student, teacher = met(student, teacher)
    projected = student.movedim(1, -1) @ weight.T + bias
    return (projected - teacher.movedim(1, -1)).square().mean()


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of (a_student / |a_student| - a_teacher / |a_teacher|)^2 over images and positions.

    With a(image) the mean over channels of squared activations, a map of where the network looks; and |a|
    the root of its sum of squares. From S. Zagoruyko, N. Komodakis, "Paying More Attention to Attention",
    2017, arXiv 1612.03928, section 3.1. The weight of 1000 belongs to this mean over positions: the paper
    gives it as 1000 divided by the number of the map's elements and the batch. student, teacher:
    (N, C, H, W) float32, each with its own C, H and W; the maps are averaged to a common size. Answers a
    scalar.
    """
    looks = met(student.square().mean(1, keepdim=True), teacher.square().mean(1, keepdim=True))
    given, wanted = (look.flatten(1) for look in looks)
    return (directed(given, floor=_FLOOR) - directed(wanted, floor=_FLOOR)).square().mean()


def met(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of the two to the size of the smaller one, in height and width each.

    (N, C, H, W) against (N, C) is averaged over all positions. Channels stay as they are.
    """
    if student.ndim == teacher.ndim == 2:
        return student, teacher
    if student.ndim == 2 or teacher.ndim == 2:
        return averaged(student, (1, 1)).flatten(1), averaged(teacher, (1, 1)).flatten(1)
    height = min(student.shape[2], teacher.shape[2])
    width = min(student.shape[3], teacher.shape[3])
    return averaged(student, (height, width)), averaged(teacher, (height, width))


def averaged(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N, C, H, W) to (N, C, *size) over windows that differ by one where they do not divide.

    The windows are those of adaptive average pooling, whose own backward pass on CUDA is not deterministic.
    Vectors (N, C) are given back as they are.
    """
    if features.ndim == 2 or features.shape[2:] == size:
        return features
    height, width = _windows(features, 2, size[0]), _windows(features, 3, size[1])
    return height @ features @ width.T


def _windows(features: Tensor, axis: int, count: int) -> Tensor:
    """Give the matrix (count, length of the axis) that averages it over `count` windows."""
    import torch

    length = features.shape[axis]
    places = torch.arange(length, device=features.device)
    numbers = torch.arange(count, device=features.device)[:, None]
    ends = -(-(numbers + 1) * length // count)
    inside = ((places >= numbers * length // count) & (places < ends)).to(features.dtype)
    shares: Tensor = inside / inside.sum(1, keepdim=True)
    return shares
