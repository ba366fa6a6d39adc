"""MobileNetV3-small: inverted residuals with squeeze-and-excitation and hard-swish.

A. Howard et al., Searching for MobileNetV3, 2019, arXiv 1905.02244: the blocks of table 2, h-swish of
section 5.2, the last stage of section 5.1. Dropout is left out: nothing here is random.

The paths for forward hooks: `features.0` is the stem, `features.1` to `features.11` the blocks,
`features.12` the last 1x1 unit, `head.0` and `head.2` the two linear layers.
"""

from __future__ import annotations

import torch  # noqa: TID253  # a network is a torch class
from torch import Tensor, nn  # noqa: TID253
from torch.nn.functional import hardsigmoid, hardswish  # noqa: TID253

from kdbench.distill.nets.frame import Activation, Classifier, Unit, draw_convolutions

SMALL: tuple[tuple[int, int, int, bool, Activation, int], ...] = (
    (3, 16, 16, True, torch.relu, 2),
    (3, 72, 24, False, torch.relu, 2),
    (3, 88, 24, False, torch.relu, 1),
    (5, 96, 40, True, hardswish, 2),
    (5, 240, 40, True, hardswish, 1),
    (5, 240, 40, True, hardswish, 1),
    (5, 120, 48, True, hardswish, 1),
    (5, 144, 48, True, hardswish, 1),
    (5, 288, 96, True, hardswish, 2),
    (5, 576, 96, True, hardswish, 1),
    (5, 576, 96, True, hardswish, 1),
)
"""The blocks: kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride."""


class Squeeze(nn.Module):
    """Scale each channel by a gate in 0..1 that is computed from the means of all (squeeze-and-excitation).

    J. Hu et al. 2017, arXiv 1709.01507, with a quarter of the channels between and a hard sigmoid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = round_channels(channels / 4)
        self.reduce = nn.Conv2d(channels, between, 1)
        self.expand = nn.Conv2d(between, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, channels, H, W)."""
        means = x.mean((2, 3), keepdim=True)
        return x * hardsigmoid(self.expand(torch.relu(self.reduce(means))))


class Block(nn.Module):
    """Expand, filter each channel, gate, project; added to its input where that has the same shape."""

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        *,
        kernel: int,
        gated: bool,
        activation: Activation,
        stride: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(Unit(inputs, expanded, kernel=1, activation=activation))
        layers.append(
            Unit(expanded, expanded, kernel=kernel, stride=stride, groups=expanded, activation=activation)
        )
        if gated:
            layers.append(Squeeze(expanded))
        layers.append(Unit(expanded, outputs, kernel=1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        answer: Tensor = self.layers(x)
        return x + answer if self.residual else answer


def mobilenetv3_small(
    *,
    width: float = 1.0,
    stem_stride: int = 2,
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build MobileNetV3-small: 1,519,906 parameters, 55,488,448 MACs at 3x224x224.

    width: multiplies the channels everywhere but of the image, rounded to multiples of eight.
    stem_stride: 2 as in the paper, which halves the image five times; 1 for images of 32 pixels or less.
    """
    if not width > 0:
        raise ValueError(f"width must be above zero, not {width}")
    channels = round_channels(16 * width)
    layers: list[nn.Module] = [Unit(3, channels, stride=stem_stride, activation=hardswish)]
    for kernel, expanded, outputs, gated, activation, stride in SMALL:
        inputs, channels = channels, round_channels(outputs * width)
        layers.append(
            Block(
                inputs,
                round_channels(expanded * width),
                channels,
                kernel=kernel,
                gated=gated,
                activation=activation,
                stride=stride,
            )
        )
    last, between = round_channels(576 * width), round_channels(1024 * width)
    layers.append(Unit(channels, last, kernel=1, activation=hardswish))
    head = nn.Sequential(nn.Linear(last, between), nn.Hardswish(), nn.Linear(between, classes))
    return draw_convolutions(Classifier(nn.Sequential(*layers), head, mean=mean, std=std))


def round_channels(channels: float) -> int:
    """Round to the nearest multiple of eight, at least eight, that is not more than a tenth smaller."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
