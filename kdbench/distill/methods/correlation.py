"""A loss of logits that asks for correlation with the teacher instead of equal probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.distill.methods.vectors import directed

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 1e-3
"""Least root of a row's summed squares that it is divided by; a probability that varies less has less say."""


def correlated_targets(
    student: Tensor, teacher: Tensor, *, temperature: float, beta: float, gamma: float
) -> Tensor:
    """T^2 * (beta * (1 - mean r over the images) + gamma * (1 - mean r over the classes)).

    With r(image) Pearson's correlation of the student's and the teacher's probabilities over the classes,
    r(class) that of this class's probabilities over the batch, and the probabilities softmax(logits / T).
    From T. Huang, S. You, F. Wang, C. Qian, C. Xu, "Knowledge Distillation from A Stronger Teacher", 2022,
    arXiv 2205.10536. Both are logits (N, classes) float32. Answers a scalar.

    The paper's formula has no T^2; the authors' code has it, with beta = gamma = 1 at T = 4 for CIFAR-100,
    and those are the numbers that others report. So it stands here too. Unlike in KD it keeps nothing in
    balance: a correlation does not shrink when T grows, so that T = 4 weighs the term 16 times as much.

    With two classes r(image) is +1 or -1 whatever the probabilities are, and has no gradient; r(class) is
    the same for both classes. So is r(class) in a batch of two images.
    """
    given = (student / temperature).softmax(1)
    wanted = (teacher / temperature).softmax(1)
    of_images = 1 - correlation(given, wanted).mean()
    of_classes = 1 - correlation(given.T, wanted.T).mean()
    return temperature**2 * (beta * of_images + gamma * of_classes)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each row of `first` with the same row of `second`, 0 where one is constant.

    Both are (rows, n) float32; answers (rows,). Shifting a row or scaling it up changes nothing. A row whose
    deviations from its mean have a length below 0.001 is drawn to 0, in proportion.
    """
    first = directed(first - first.mean(1, keepdim=True), floor=_FLOOR)
    second = directed(second - second.mean(1, keepdim=True), floor=_FLOOR)
    return (first * second).sum(1)
