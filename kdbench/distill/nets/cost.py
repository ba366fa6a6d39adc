"""What a network costs, counted and not timed: parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch  # noqa: TID253  # a network is a torch class; this package is loaded only to build one
from torch import Tensor, nn  # noqa: TID253


def count_parameters(network: nn.Module) -> int:
    """Count the trained numbers: parameters, without the running statistics of normalisation."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, shape: Sequence[int], *, dtype: str = "float32") -> int:
    """Count the multiply-accumulates of two-dimensional convolutions and linear layers for one input.

    shape, dtype: of that input, without the batch axis; (C, H, W) for images.

    A layer that is used twice counts twice, for the forward hooks count while the network runs, once, on
    zeros and on the device of its parameters. Nothing else is counted: not pooling, normalisation,
    activations and sums, nor products that are written as functions (attention).
    """
    total = 0

    def add(layer: nn.Conv2d | nn.Linear, inputs: object, output: Tensor) -> None:
        nonlocal total
        # One output point needs one row of weights: (inputs / groups) * k * k of them, or the input's width.
        total += output.numel() * layer.weight[0].numel()

    layers = list(network.modules())
    modes = [layer.training for layer in layers]
    hooks = [layer.register_forward_hook(add) for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *shape, dtype=getattr(torch, dtype), device=device))
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
        for hook in hooks:
            hook.remove()
    return total
