"""The student as a module: built from its factory and weights, prepared for inference."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import Student, Target, TensorSpec, networks
from kdbench.spec import Precision

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What the weights do not tell of the network: its factory, the keywords for it, its inputs."""

    factory: str
    arguments: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, student: Student) -> Blueprint:
        """Take the blueprint of a student; Unsupported if it has no factory or no weights."""
        return cls(networks.factory_of(student), student.arguments, student.inputs)

    def to_notes(self) -> dict[str, str]:
        """Write the blueprint as the notes of an artifact."""
        return {"blueprint": json.dumps(asdict(self))}

    @classmethod
    def from_notes(cls, notes: Mapping[str, str]) -> Blueprint:
        """Read what `to_notes` wrote."""
        plain = json.loads(notes["blueprint"])
        inputs = (TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in plain["inputs"])
        return cls(plain["factory"], plain["arguments"], tuple(inputs))


def prepare(blueprint: Blueprint, weights: Path, target: Target) -> nn.Module:
    """Build the network for the processor, ready to run as the target's precision and options say.

    It takes and answers tensors of the student's own dtypes, float32 also for bf16: see `cast`.
    """
    import torch

    options = target.options
    network = assemble(
        blueprint, weights, fuse=bool(options["fuse"]), channels_last=bool(options["channels_last"])
    )
    # With `high` or `medium`, oneDNN may compute float32 products in bf16.
    torch.set_float32_matmul_precision("highest")
    return cast(network, torch.bfloat16) if target.precision == "bf16" else network


def assemble(blueprint: Blueprint, weights: Path, *, fuse: bool, channels_last: bool) -> nn.Module:
    """Build the network with these weights in float32, its batch norms folded and its layout chosen."""
    import torch

    network = networks.assemble(blueprint.factory, blueprint.arguments, weights)
    if fuse:
        network = fold_batch_norms(network)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # untyped in torch
    return network


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution that alone feeds it.

    Answers a traced copy of the network, or the network itself where torch.fx cannot trace it.
    """
    from torch import fx
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    try:
        traced = fx.symbolic_trace(network)
    # Tracing runs the network's own code on stand-ins for tensors: anything may come out of it.
    except Exception as fault:
        logger.warning("The network cannot be traced, and its batch norms stay: %s", fault)
        return network
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    norms: list[Any] = [node for node in traced.graph.nodes if _normalises_convolution(traced, node)]
    for norm in norms:
        conv: Any = norm.args[0]
        # A convolution that is called twice may feed two norms, or only one of its answers be normalised.
        if len(conv.users) > 1 or calls[conv.target] > 1:
            continue
        modules: list[Any] = [traced.get_submodule(node.target) for node in (conv, norm)]
        traced.set_submodule(conv.target, fuse_conv_bn_eval(*modules))
        norm.replace_all_uses_with(conv)
        traced.graph.erase_node(norm)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.requires_grad_(False)


def _normalises_convolution(traced: nn.Module, node: Any) -> bool:
    """Tell whether a node normalises, with running statistics, what a convolution answers."""
    from torch import nn

    source: Any = node.args[0] if node.op == "call_module" and node.args else None
    if getattr(source, "op", "") != "call_module":
        return False
    norm, conv = traced.get_submodule(node.target), traced.get_submodule(source.target)
    return (
        isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        and isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and norm.running_mean is not None
    )


def cast(network: nn.Module, dtype: Any, *, reorder: bool = False) -> nn.Module:
    """Compute in `dtype` inside: floating inputs are converted on entry, floating outputs to float32.

    reorder: bring images into the order batch, height, width, channels in the same pass.
    """
    import torch
    from torch import nn

    def enter(part: Tensor) -> Tensor:
        if not part.is_floating_point():
            return part
        if reorder and part.dim() == 4:
            return part.to(dtype, memory_format=torch.channels_last)
        return part.to(dtype)

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.to(dtype)

        def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
            answer: Any = self.network(*(enter(part) for part in inputs))
            if isinstance(answer, torch.Tensor):
                return answer.float()
            return tuple(part.float() if part.is_floating_point() else part for part in answer)

    return Cast().eval()


def precision_of(network: nn.Module) -> Precision:
    """Read the precision back from the weights."""
    import torch

    dtype = next(part.dtype for part in network.parameters() if part.is_floating_point())
    narrow: dict[Any, Precision] = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    return narrow.get(dtype, "fp32")


def empty_inputs(inputs: Sequence[TensorSpec], batch_size: int, device: str = "cpu") -> tuple[Tensor, ...]:
    """Allocate one tensor of zeros (batch_size, *shape) per input."""
    import torch

    return tuple(
        torch.zeros((batch_size, *spec.shape), dtype=getattr(torch, spec.dtype), device=device)
        for spec in inputs
    )
