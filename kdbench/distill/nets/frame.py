"""What all networks share: the unit they are rows of, the frame around these, and how weights are drawn.

None of them draws a random number while it runs, or changes a tensor in place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch  # noqa: TID253  # a network is a torch class; this package is loaded only to build one
from torch import Tensor, nn  # noqa: TID253

Activation = Callable[[Tensor], Tensor]


class Unit(nn.Module):
    """Convolve without bias and with the size kept up to the stride, normalise over the batch, activate."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = torch.relu,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) float32 to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        normal: Tensor = self.norm(self.conv(x))
        return normal if self.activation is None else self.activation(normal)


class Classifier(nn.Module):
    """Normalise the image, extract `features`, average them over the image, and let `head` judge.

    mean, std: one for all channels, of images in 0..1. The normalisation is part of the network, so that
        it is exported with it and nobody does it twice. ValueError unless std is above zero.
    """

    def __init__(self, features: nn.Module, head: nn.Module, *, mean: float, std: float) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f"std must be above zero, not {std}")
        self.mean, self.std = mean, std
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) float32 in 0..1 to logits (N, classes) float32."""
        features: Tensor = self.features((images - self.mean) / self.std)
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def draw_convolutions(network: nn.Module) -> nn.Module:
    """Draw the weights of all convolutions anew from torch's random state: normal, variance 2 / fan-in.

    He et al. 2015, arXiv 1502.01852, equation 10; fan-in = inputs / groups * k * k. It keeps the scale of
    signals from layer to layer also where batch statistics are those of an untrained network, so that one
    with random weights computes with ordinary numbers. For the same reason no scale of a residual branch
    begins at zero: a compiler would see the branch vanish.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return network
