"""ResNets of basic blocks: ResNet-18, and ResNet-10 and ResNet-8 with one block a stage.

K. He et al., Deep Residual Learning for Image Recognition, 2015, arXiv 1512.03385: figure 3 and table 1,
with 1x1 convolutions where the shape changes (option B of section 4.1). ResNet-10 and ResNet-8 are no
networks of the paper: they have the same blocks, one in each of four or three stages.

The paths for forward hooks: `features.0` is the stem, `features.1` to `features.4` the stages, and
`features.{stage}.{i}` the blocks of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch  # noqa: TID253  # a network is a torch class
from torch import Tensor, nn  # noqa: TID253

from kdbench.distill.nets.frame import Classifier, Unit, draw_convolutions

CHANNELS = (64, 128, 256, 512)


class Block(nn.Module):
    """Two 3x3 units, added to the input, or to its 1x1 projection where they change its shape; ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Unit(inputs, outputs, stride=stride), Unit(outputs, outputs, activation=None)
        )
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = (
            nn.Identity() if same else Unit(inputs, outputs, kernel=1, stride=stride, activation=None)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet18(
    *,
    channels: Sequence[int] = CHANNELS,
    stem: str = "imagenet",
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build ResNet-18, two blocks a stage: 11,177,538 parameters, 1,813,562,368 MACs at 3x224x224."""
    return resnet((2,) * len(channels), channels, stem=stem, classes=classes, mean=mean, std=std)


def resnet10(
    *,
    channels: Sequence[int] = CHANNELS,
    stem: str = "imagenet",
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build ResNet-10, one block in each of 4 stages: 4,906,818 parameters, 888,718,336 MACs at 3x224x224."""
    return resnet((1,) * len(channels), channels, stem=stem, classes=classes, mean=mean, std=std)


def resnet8(
    *,
    channels: Sequence[int] = CHANNELS[:3],
    stem: str = "imagenet",
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build ResNet-8, one block in each of 3 stages: 1,233,218 parameters, 708,887,040 MACs at 3x224x224."""
    return resnet((1,) * len(channels), channels, stem=stem, classes=classes, mean=mean, std=std)


def resnet(
    blocks: Sequence[int],
    channels: Sequence[int],
    *,
    stem: str,
    classes: int,
    mean: float,
    std: float,
) -> nn.Module:
    """Build a ResNet with so many blocks in each stage, all stages but the first with stride 2.

    stem: `imagenet` for large images, a 7x7 unit with stride 2 and a 3x3 maximum with stride 2; `small`
        for those of 64 pixels or less, a 3x3 unit alone.
    """
    inputs = channels[0]
    layers: list[nn.Module] = [_stem(stem, inputs)]
    for stage, (count, outputs) in enumerate(zip(blocks, channels, strict=True)):
        row = [Block(inputs, outputs, stride=1 if stage == 0 else 2)]
        row += [Block(outputs, outputs, stride=1) for _ in range(count - 1)]
        layers.append(nn.Sequential(*row))
        inputs = outputs
    features, head = nn.Sequential(*layers), nn.Linear(inputs, classes)
    return draw_convolutions(Classifier(features, head, mean=mean, std=std))


def _stem(kind: str, channels: int) -> nn.Module:
    match kind:
        case "imagenet":
            return nn.Sequential(Unit(3, channels, kernel=7, stride=2), nn.MaxPool2d(3, 2, padding=1))
        case "small":
            return nn.Sequential(Unit(3, channels))
        case _:
            raise ValueError(f"stem must be imagenet or small, not {kind!r}")
