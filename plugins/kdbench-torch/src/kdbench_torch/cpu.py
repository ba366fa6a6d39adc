"""The backend `torch-cpu`: the student as a PyTorch module on the processor."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kdbench import (
    Artifact,
    Availability,
    Available,
    BackendInfo,
    Device,
    Option,
    Runner,
    Student,
    Target,
    Unavailable,
    hookimpl,
)

if TYPE_CHECKING:
    from kdbench_torch.session import TorchSession

OLDEST = (2, 6)
"""The first torch whose ahead-of-time packages are a public interface."""

INSTALL = "pip install 'torch>=2.6' safetensors"

FUSE = Option(
    name="fuse",
    type="bool",
    default=True,
    help="Fold batch normalisation into convolutions, where torch.fx can trace the network.",
)
OPTIONS = (
    Option(
        name="mode",
        type="str",
        default="eager",
        choices=("eager", "compile", "aot"),
        help="eager: operator by operator; compile: torch.compile; aot: an AOTInductor package.",
    ),
    FUSE,
    Option(
        name="channels_last",
        type="bool",
        default=True,
        help="Keep images and convolution weights in the order batch, height, width, channels.",
    ),
    Option(
        name="freeze",
        type="bool",
        default=False,
        help="Let Inductor pack the weights for oneDNN as constants; with mode=compile and mode=aot only.",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="PyTorch (CPU)",
        devices=("cpu",),
        precisions=("fp32", "bf16"),
        options=OPTIONS,
        concurrency="threads",
        distributions=("torch",),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Import torch and read what the processor computes in."""
    try:
        import torch
        from safetensors.torch import load_file as load_file
    except ModuleNotFoundError as fault:
        return Unavailable(f"The Python package {fault.name} is not installed.", INSTALL)
    except (ImportError, OSError) as fault:
        return Unavailable(f"PyTorch is installed and cannot be imported: {fault}", INSTALL)
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST:
        return Unavailable(f"PyTorch {torch.__version__} is too old.", INSTALL)

    from kdbench_torch.processor import identify

    return Available(str(torch.__version__), (Device("cpu", *identify()),))


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the student's weights for mode=eager, with compiled code beside or instead for the others."""
    artifact: Artifact = _mode(target).compile_student(student, target, workdir)
    return artifact


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> TorchSession:
    """Open the artifact in the mode that it was compiled for."""
    session: TorchSession = _mode(target).load_artifact(artifact, target)
    return session


@hookimpl
def kdbench_run(session: TorchSession, batch_size: int) -> Runner:
    """Hand over a runner with inputs of its own."""
    return session.runner(batch_size)


def _mode(target: Target) -> ModuleType:
    from kdbench_torch import aot, eager, inductor

    return {"eager": eager, "compile": inductor, "aot": aot}[str(target.options["mode"])]
