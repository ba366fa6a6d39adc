"""What training minimises: small pure functions of logits, each with its formula and source."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Average -log softmax(logits)[label] over the images.

    logits: (N, classes) float32. labels: (N,) int64. Answers a scalar, in nats.
    """
    return -logits.log_softmax(1).gather(1, labels[:, None]).mean()


def soft_targets(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Average T^2 * KL(softmax(teacher / T) || softmax(student / T)) over the images.

    The factor T^2 keeps the size of the gradient when T grows. From G. Hinton, O. Vinyals, J. Dean,
    "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, section 2. Both are logits
    (N, classes) float32. Answers a scalar, in nats.
    """
    wanted = (teacher / temperature).log_softmax(1)
    given = (student / temperature).log_softmax(1)
    return temperature**2 * (wanted.exp() * (wanted - given)).sum(1).mean()
