"""The two small networks of the embedded student: a plain teacher and a depthwise student.

Both are `TinyNet`s: normalise, a row of units, average over the image, one linear layer. The weights of
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

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from itertools import pairwise

import torch  # noqa: TID253  # a network is a torch class; this module is loaded only to build one
from torch import Tensor, nn  # noqa: TID253

from kdbench.card import NETWORKS
from kdbench.errors import RecipeError
from kdbench.spec import Scalar


class Unit(nn.Module):
    """Convolve without bias and with the size kept up to the stride, normalise over the batch, rectify."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) float32 to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return torch.relu(self.norm(self.conv(x)))


class TinyNet(nn.Module):
    """Classify small images; the normalisation of the input is part of the network."""

    def __init__(self, units: Sequence[Unit], *, width: int, classes: int, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.features = nn.Sequential(*units)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) float32 in 0..1 to logits (N, classes) float32."""
        features: Tensor = self.features((images - self.mean) / self.std)
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


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
    pairs = zip(pairwise((3, *channels)), strides, strict=True)
    units = [Unit(inputs, outputs, stride=stride) for (inputs, outputs), stride in pairs]
    return TinyNet(units, width=channels[-1], classes=classes, mean=mean, std=std)


def build(factory: str, arguments: Mapping[str, Scalar | Sequence[Scalar]], *, seed: int = 0) -> nn.Module:
    """Build a network of the `kdbench.networks` entry points, its weights drawn from `seed`.

    Leaves torch's own random state as it was. Raises RecipeError for a name that nobody installed and for
    arguments that its factory refuses.
    """
    found = entry_points(group=NETWORKS, name=factory)
    if not found:
        known = ", ".join(sorted(entry_points(group=NETWORKS).names)) or "none"
        raise RecipeError(
            f"The network {factory!r} is not installed (known: {known}).",
            hint=f"Install the package that provides it in the entry-point group {NETWORKS}.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = next(iter(found)).load()(**arguments)
        except (TypeError, ValueError, RuntimeError) as fault:
            raise RecipeError(f"The network {factory!r} cannot be built as asked: {fault}.") from fault
    if not isinstance(network, nn.Module):
        raise RecipeError(f"The network {factory!r} is a {type(network).__name__}, not a torch.nn.Module.")
    return network


def count_parameters(network: nn.Module) -> int:
    """Count the trained numbers: parameters, without the running statistics of normalisation."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, shape: Sequence[int]) -> int:
    """Count the multiply-accumulates of convolutions and linear layers for one image of `shape` (C, H, W).

    Counted by forward hooks while the network runs, so that a layer that is used twice counts twice.
    """
    total = 0

    def add(layer: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d | nn.Linear):
            total += output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(add) for layer in network.modules()]
    training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *shape))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total
