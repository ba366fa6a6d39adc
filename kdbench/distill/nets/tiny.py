"""The two small networks of the embedded student, a plain teacher and a depthwise student, and a third.

All are `TinyNet`s: normalise, a row of units, average over the image, one linear layer. The weights of
one, as safetensors or `state_dict`, are named by position, so that any language can run them:

```
features.{i}.conv.weight        (out, in / groups, k, k)    no bias, padding k // 2, k is 3 or 1
features.{i}.norm.weight        (out,)  scale               }  batch normalisation with eps = 1e-5:
features.{i}.norm.bias          (out,)  offset              }  (x - running_mean) / sqrt(running_var + eps)
features.{i}.norm.running_mean  (out,)                      }  * weight + bias, then ReLU
features.{i}.norm.running_var   (out,)                      }
features.{i}.norm.num_batches_tracked  ()  int64            not used in inference
head.weight  (classes, last channel)      head.bias  (classes,)
```

All others are float32. `docs/students.md` says which unit has which stride and groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn  # noqa: TID253  # a network is a torch class
from torch.nn.functional import avg_pool2d  # noqa: TID253

from kdbench.distill.nets.frame import Classifier, Unit


class TinyNet(Classifier):
    """Classify small images by a plain row of units, the last of `width` channels."""

    def __init__(self, units: Sequence[Unit], *, width: int, classes: int, mean: float, std: float) -> None:
        super().__init__(nn.Sequential(*units), nn.Linear(width, classes), mean=mean, std=std)


class PooledNet(TinyNet):
    """A TinyNet that sees the mean of every `pool` by `pool` pixels; margins that do not fill one are cut."""

    def __init__(
        self, units: Sequence[Unit], *, pool: int, width: int, classes: int, mean: float, std: float
    ) -> None:
        super().__init__(units, width=width, classes=classes, mean=mean, std=std)
        if pool < 1:
            raise ValueError(f"pool must be at least 1, not {pool}")
        self.pool = pool

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) float32 in 0..1, H and W at least `pool`, to logits (N, classes)."""
        return super().forward(avg_pool2d(images, self.pool))


def tiny_student(
    *,
    channels: Sequence[int] = (12, 24, 48, 64),
    strides: Sequence[int] = (1, 2, 2, 1),
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build the depthwise-separable student: 6,186 parameters, 186,368 MACs at 3x16x16.

    Unit 0 is a full 3x3 convolution. Each further channel adds two units: a depthwise 3x3 with the
    stride (groups = its channels), then a pointwise 1x1 to the new channel.
    """
    units = [Unit(3, channels[0], stride=strides[0])]
    for (inputs, outputs), stride in zip(pairwise(channels), strides[1:], strict=True):
        units += [Unit(inputs, inputs, stride=stride, groups=inputs), Unit(inputs, outputs, kernel=1)]
    return TinyNet(units, width=channels[-1], classes=classes, mean=mean, std=std)


def tiny_teacher(
    *,
    channels: Sequence[int] = (32, 64, 128, 192),
    strides: Sequence[int] = (2, 1, 2, 2),
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build the plain teacher of full 3x3 convolutions: 315,426 parameters, 3,299,712 MACs at 3x16x16."""
    units = _plain(channels, strides)
    return TinyNet(units, width=channels[-1], classes=classes, mean=mean, std=std)


def pooled_teacher(
    *,
    pool: int = 4,
    channels: Sequence[int] = (32, 64, 128, 192),
    strides: Sequence[int] = (2, 1, 2, 2),
    classes: int = 2,
    mean: float = 0.5,
    std: float = 0.25,
) -> nn.Module:
    """Build the tiny teacher on a coarser view: 315,426 parameters, 3,299,712 MACs at 3x64x64.

    It teaches across resolutions: a student of larger images learns from what a teacher sees in the same
    images, made `pool` times smaller. The weights are named, and fit, as those of `tiny_teacher`.
    """
    units = _plain(channels, strides)
    return PooledNet(units, pool=pool, width=channels[-1], classes=classes, mean=mean, std=std)


def _plain(channels: Sequence[int], strides: Sequence[int]) -> list[Unit]:
    pairs = zip(pairwise((3, *channels)), strides, strict=True)
    return [Unit(inputs, outputs, stride=stride) for (inputs, outputs), stride in pairs]
