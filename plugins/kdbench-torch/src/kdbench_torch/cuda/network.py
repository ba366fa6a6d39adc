"""The student on the device, as the target's precision, mode and options ask for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import Artifact, Student, Target, Unsupported
from kdbench.spec import Precision
from kdbench_torch.cuda import tf32
from kdbench_torch.inductor import CACHE, building, compile_now
from kdbench_torch.network import Blueprint, assemble, cast, precision_of
from kdbench_torch.session import Network

if TYPE_CHECKING:
    from torch import nn

INDUCTOR_MODES = {
    "default": "default",
    "reduce-overhead": "default",
    "max-autotune": "max-autotune-no-cudagraphs",
}
"""What torch.compile is asked for.

The outputs of its own CUDA graphs last until the next call, whichever runner makes it. So the graph is
captured here instead, as for mode=graph: one per runner, free to be in flight beside another.
"""

TF32_SINCE = (8, 0)
"""The compute capability that tensor cores need for TF32."""


def compile_student(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the student's weights, and what Inductor left in its cache for mode=compile.

    Only mode=compile needs the device here. Raises Unsupported for an option that would change nothing.
    """
    if target.options["inductor"] != "default" and target.options["mode"] != "compile":
        raise Unsupported(f"Inductor has no part in mode={target.options['mode']}.", hint="Add mode=compile.")
    blueprint, weights = Blueprint.of(student), student.files["weights"]
    if target.options["mode"] != "compile":
        return Artifact((weights,), blueprint.to_notes())
    use(target)
    network = prepare(blueprint, weights, target)
    with tempfile.TemporaryDirectory(dir=workdir) as cache:
        compiled(network, blueprint, target, Path(cache))
        packed = shutil.make_archive(str(workdir / Path(CACHE).stem), "zip", cache)
    return Artifact((weights, Path(packed)), blueprint.to_notes())


def use(target: Target) -> None:
    """Make the target's device the thread's own, and set what holds for the whole process."""
    import torch

    torch.cuda.set_device(target.device)
    tf32.allow(target.precision == "tf32")
    torch.backends.cudnn.benchmark = bool(target.options["cudnn_benchmark"])
    torch.backends.cudnn.deterministic = False


def prepare(blueprint: Blueprint, weights: Path, target: Target) -> nn.Module:
    """Build the network on the target's device: weights converted, inputs and outputs float32."""
    import torch

    last = channels_last(target)
    network = assemble(blueprint, weights, fuse=bool(target.options["fuse"]), channels_last=last)
    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16}
    if target.precision in dtypes:
        network = cast(network, dtypes[target.precision], reorder=last)
    return network.to(target.device)


def channels_last(target: Target) -> bool:
    """Tell whether images are kept as batch, height, width, channels.

    Tensor cores take them so, and cuDNN would reorder them in every layer; the units for fp32 do not:
    docs.nvidia.com/deeplearning/performance/dl-performance-convolutional, "Tensor Layouts In Memory".
    """
    asked = target.options["channels_last"]
    return target.precision != "fp32" if asked == "auto" else asked == "yes"


def open_network(artifact: Artifact, target: Target, network: nn.Module) -> Network:
    """Give the callable that a step runs."""
    from torch.fx import GraphModule

    if target.options["mode"] != "compile":
        # A traced network has no hooks, and looking for them at each call takes as long as a small layer.
        return network.forward if isinstance(network, GraphModule) else network
    with tempfile.TemporaryDirectory(prefix="kdbench-torch-") as cache:
        shutil.unpack_archive(artifact.files[1], cache)
        return compiled(network, Blueprint.from_notes(artifact.notes), target, Path(cache))


def compiled(network: nn.Module, blueprint: Blueprint, target: Target, cache: Path) -> Callable[..., Any]:
    """Compile for every batch size, from the cache as far as it goes; Unsupported without Triton."""
    from torch.utils._triton import has_triton

    mode = INDUCTOR_MODES[str(target.options["inductor"])]
    with building(cache, target):
        if not has_triton():
            raise Unsupported(
                "mode=compile needs Triton, and a GPU of compute capability 7.0 or later.",
                hint="Install triton, which comes with torch for CUDA on Linux, or use mode=graph.",
            )
        return compile_now(network, blueprint.inputs, target, device=target.device, mode=mode)


def captures(target: Target) -> bool:
    """Tell whether a runner replays a CUDA graph."""
    return target.options["mode"] == "graph" or target.options["inductor"] != "default"


def provider(target: Target) -> str:
    """Name what executes: `eager` or `inductor`, and whether a graph replays it."""
    name = "inductor" if target.options["mode"] == "compile" else "eager"
    return f"{name}, cuda graph" if captures(target) else name


def precision_on(network: nn.Module) -> Precision:
    """Read back from weights, switches and device what the products are really computed in."""
    import torch

    precision = precision_of(network)
    device = next(network.parameters()).device
    rounded = tf32.allowed() and torch.cuda.get_device_capability(device) >= TF32_SINCE
    return "tf32" if precision == "fp32" and rounded else precision
