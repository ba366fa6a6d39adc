"""What a stage of training minimises, as modules: a network with its loss, batches in, a scalar out.

The loss is computed inside a module, so that several processes average all its gradients, those of a method's
own parameters too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch  # noqa: TID253  # a lesson is a torch class; this module is loaded only to train
from torch import Tensor, nn  # noqa: TID253

from kdbench.distill.features import Answer, Watched
from kdbench.distill.methods import cross_entropy


class Labels(nn.Module):
    """Learn from labelled images alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Give the cross-entropy of images (N, 3, H, W) float32 and labels (N,) int64, in nats."""
        return cross_entropy(self.network(images), labels)


class Teaching(nn.Module):
    """Learn from what a teacher says of unlabelled images, and from a few labels.

    terms: methods as modules, each with its weight. paths: the student's modules whose answers they compare.
    """

    def __init__(
        self,
        network: nn.Module,
        terms: Sequence[tuple[float, nn.Module]],
        paths: Sequence[str],
        label_weight: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.terms = nn.ModuleList(term for _, term in terms)
        self._weights = [weight for weight, _ in terms]
        self._watched = Watched(network, paths)
        self._label_weight = label_weight

    def forward(self, views: Tensor, images: Tensor, labels: Tensor, *wanted: Tensor) -> Tensor:
        """Add up the weighted terms over `views` and the cross-entropy of the labelled images.

        wanted: the teacher's logits (N, classes) for the views, then its features, one per path.
        """
        count = len(views)
        answer = self._watched(torch.cat([views, images]))
        given, aim = answer[:count], Answer(wanted[0], tuple(wanted[1:]))
        loss: Tensor = self._weights[0] * self.terms[0](given, aim)
        for weight, term in zip(self._weights[1:], self.terms[1:], strict=True):
            loss = loss + weight * term(given, aim)
        if self._label_weight:
            loss = loss + self._label_weight * cross_entropy(answer.logits[count:], labels)
        return loss
