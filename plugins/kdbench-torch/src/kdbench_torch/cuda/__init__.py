"""The backend `torch-cuda`: the student as a PyTorch module on an NVIDIA GPU.

Nothing of it has run on a GPU yet. It was read against docs.pytorch.org/docs/stable/notes/cuda.html and the
source of torch 2.13; each module names the pages for what it does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdbench import (
    Artifact,
    Availability,
    BackendInfo,
    Option,
    Runner,
    Student,
    Target,
    hookimpl,
)
from kdbench_torch.cpu import FUSE

if TYPE_CHECKING:
    from kdbench_torch.cuda.session import CudaSession

OPTIONS = (
    Option(
        name="mode",
        type="str",
        default="eager",
        choices=("eager", "graph", "compile"),
        help="eager: operator by operator; graph: a CUDA graph for each batch size; compile: torch.compile.",
    ),
    Option(
        name="inductor",
        type="str",
        default="default",
        choices=("default", "reduce-overhead", "max-autotune"),
        help="With mode=compile: as it is; in a CUDA graph; in a CUDA graph, kernels chosen by trial.",
    ),
    FUSE,
    Option(
        name="channels_last",
        type="str",
        default="auto",
        choices=("auto", "yes", "no"),
        help="Keep images as batch, height, width, channels; auto: where tensor cores compute, not in fp32.",
    ),
    Option(
        name="cudnn_benchmark",
        type="bool",
        default=True,
        help="Let cuDNN try out its algorithms for each shape, before anything is measured.",
    ),
    Option(
        name="sync",
        type="str",
        default="spin",
        choices=("spin", "block"),
        help="How the host waits for the GPU: asking without a pause, or asleep until it is woken.",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="PyTorch (CUDA)",
        devices=("cuda",),
        precisions=("fp32", "tf32", "fp16", "bf16"),
        options=OPTIONS,
        concurrency="pipelined",
        boundaries=("host", "device"),
        distributions=("torch",),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Ask the driver and this torch for the GPUs that they have in common, or say what is lacking."""
    from kdbench_torch.cuda.gpus import look

    return look(kdbench_describe().precisions)


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the student's weights, with Inductor's compiled code beside them for mode=compile."""
    from kdbench_torch.cuda.network import compile_student

    return compile_student(student, target, workdir)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> CudaSession:
    """Put the network on the device."""
    from kdbench_torch.cuda.session import load_artifact

    return load_artifact(artifact, target)


@hookimpl
def kdbench_run(session: CudaSession, batch_size: int, depth: int) -> Runner:
    """Warm up, capture and allocate; then hand over a runner with memory of its own."""
    return session.runner(batch_size, depth)
