"""Losses of logits, image by image: labels, and the teacher's answer as soft, hard or decoupled targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.distill.methods.vectors import directed

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 0.01
"""Least deviation that an image's logits are divided by."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Average -log softmax(logits)[label] over the images.

    logits: (N, classes) float32. labels: (N,) int64. Answers a scalar, in nats.
    """
    return -logits.log_softmax(1).gather(1, labels[:, None]).mean()


def soft_targets(
    student: Tensor, teacher: Tensor, *, temperature: float, standardise: bool = False
) -> Tensor:
    """Average T^2 * KL(softmax(teacher / T) || softmax(student / T)) over the images.

    The factor T^2 keeps the size of the gradient when T grows. From G. Hinton, O. Vinyals, J. Dean,
    "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, section 2. Both are logits
    (N, classes) float32. Answers a scalar, in nats. standardise: see `standardised`, done to both first.
    """
    if standardise:
        student, teacher = standardised(student), standardised(teacher)
    wanted = (teacher / temperature).log_softmax(1)
    given = (student / temperature).log_softmax(1)
    return temperature**2 * _divergence(wanted, given)


def standardised(logits: Tensor) -> Tensor:
    """Give each image's logits the mean 0 and the variance 1 over the classes, or less if below 0.0001.

    So the student need match how the teacher ranks and spaces the classes, not how large its logits are.
    From S. Sun, W. Ren, J. Li, R. Wang, X. Cao, "Logit Standardization in Knowledge Distillation", 2024,
    arXiv 2403.01427. The variance is the mean square, as of a population; the sample's would be
    a temperature sqrt(K / (K - 1)) times as high. logits: (N, K) float32, and so is the answer. Of two
    logits it keeps only which is larger: they become +1 and -1.
    """
    centred = logits - logits.mean(1, keepdim=True)
    root: float = logits.shape[1] ** 0.5
    return root * directed(centred, floor=root * _FLOOR)


def hard_targets(student: Tensor, teacher: Tensor) -> Tensor:
    """Average -log softmax(student)[argmax teacher] over the images: the teacher's verdict as the label.

    From H. Touvron and others, "Training data-efficient image transformers & distillation through
    attention", 2020, arXiv 2012.12877, section 4. Both are logits (N, classes) float32. Answers a scalar,
    in nats.
    """
    return cross_entropy(student, teacher.argmax(1))


def decoupled_targets(
    student: Tensor, teacher: Tensor, *, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Average T^2 * (alpha * TCKD + beta * NCKD) over the images.

    TCKD = KL(b_teacher || b_student), with b the two probabilities (target class, all the rest together);
    NCKD = KL(q_teacher || q_student), with q the softmax of logits / T over the other classes alone. KD is
    TCKD + (1 - b_teacher[target]) * NCKD, which silences NCKD where the teacher is sure; here the two are
    weighed apart. From B. Zhao, Q. Cui, R. Song, Y. Qiu, J. Liang, "Decoupled Knowledge Distillation",
    2022, arXiv 2203.08679, section 3.

    The paper's target class is the image's label. Images without labels are distilled on here, so that it
    is the class that the teacher holds most likely. Both are logits (N, classes) float32. Answers a scalar,
    in nats. With two classes there is one other class, q is 1, and NCKD is 0 whatever the student says.
    """
    target = teacher.argmax(1, keepdim=True)
    wanted_target, wanted_others = _decoupled(teacher / temperature, target)
    given_target, given_others = _decoupled(student / temperature, target)
    of_target = _divergence(wanted_target, given_target)
    of_others = _divergence(wanted_others, given_others)
    return temperature**2 * (alpha * of_target + beta * of_others)


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Give the logarithms of the probabilities (N, 2) of target and rest, and (N, classes - 1) in the rest.

    target: (N, 1) int64.
    """
    import torch

    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, places + (places >= target))
    pair = torch.cat([logits.gather(1, target), others.logsumexp(1, keepdim=True)], 1)
    return pair.log_softmax(1), others.log_softmax(1)


def _divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """Average KL over the images, of logarithms of probabilities (N, classes)."""
    return (wanted.exp() * (wanted - given)).sum(1).mean()
