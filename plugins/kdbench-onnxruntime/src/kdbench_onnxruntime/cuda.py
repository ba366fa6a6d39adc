"""The backend `onnxruntime-cuda`: ONNX Runtime on its CUDA execution provider.

Options are those of onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html ("Configuration
Options"): `use_tf32=0` for fp32, which the provider would otherwise compute with TF32 from Ampere on, and
`cudnn_conv_algo_search`, whose vendor default EXHAUSTIVE tries cuDNN's algorithms at the first run.
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
    Unsupported,
    hookimpl,
)
from kdbench.spec import Precision
from kdbench_onnxruntime import OPTIMIZATION
from kdbench_onnxruntime.libraries import load, wanted
from kdbench_onnxruntime.nvidia import (
    DISTRIBUTIONS,
    GRAPH,
    KIND,
    PRECISIONS,
    SYNC,
    available,
    graph_for,
    set_tf32,
)

if TYPE_CHECKING:
    from kdbench_onnxruntime._gpu import GpuSession

PROVIDER = "CUDAExecutionProvider"

OPTIONS = (
    OPTIMIZATION,
    GRAPH,
    SYNC,
    Option(
        name="conv_search",
        type="str",
        default="exhaustive",
        choices=("exhaustive", "heuristic", "default"),
        help="how cuDNN's algorithm for a convolution is chosen; exhaustive tries all beforehand",
    ),
    Option(
        name="prefer_nhwc",
        type="bool",
        default=False,
        help="keep images as batch, height, width, channels where there are kernels for it",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="ONNX Runtime CUDA",
        devices=(KIND,),
        precisions=PRECISIONS,
        options=OPTIONS,
        concurrency="pipelined",
        boundaries=("host", "device"),
        distributions=DISTRIBUTIONS,
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Look at the wheel, the driver, the GPUs and the libraries, in that order."""
    return available("cuda")


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the ONNX file in the precision asked for, and in the notes what it is computed in."""
    model = graph_for(student, target, workdir)
    from kdbench_onnxruntime._model import batch_axis, notes

    axis = batch_axis(model, student.inputs, target.batch_sizes)
    return Artifact((model,), notes(student, axis, _computed_in(model, student, target, axis, workdir)))


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> GpuSession:
    """Open one inference session per batch size, or one for all if the shapes are dynamic."""
    from kdbench_onnxruntime._gpu import GpuSession
    from kdbench_onnxruntime._session import opened

    set_tf32(target)
    load(wanted("cuda"))
    model, axis = artifact.files[0], artifact.notes["batch_axis"]
    return GpuSession(
        artifact,
        target,
        PROVIDER,
        lambda batch_size, stream: opened(model, target, axis, batch_size, chain(target, stream)),
    )


@hookimpl
def kdbench_run(session: GpuSession, batch_size: int, depth: int) -> Runner:
    """Allocate and bind what `depth` requests need, and run each once."""
    return session.runner(batch_size, depth)


def chain(target: Target, stream: int | None) -> list[tuple[str, dict[str, str]]]:
    """Give the provider with its options; `stream` is the address of ours, or None for one of its own."""
    options = {
        "device_id": target.device.partition(":")[2],
        "use_tf32": "1" if target.precision == "tf32" else "0",
        "cudnn_conv_algo_search": str(target.options["conv_search"]).upper(),
        "prefer_nhwc": "1" if target.options["prefer_nhwc"] else "0",
    }
    if stream is not None:
        options |= {
            "has_user_compute_stream": "1",
            "user_compute_stream": str(stream),
            "enable_cuda_graph": "1" if target.options["graph"] else "0",
        }
    return [(PROVIDER, options)]


def _computed_in(model: Path, student: Student, target: Target, axis: str, workdir: Path) -> Precision:
    """Tell what most products take, where the graph is not in fp32; Unsupported where a kernel is missing."""
    if target.precision in ("fp32", "tf32"):
        return target.precision
    from kdbench_onnxruntime._model import computed_in, session_options, zeros
    from kdbench_onnxruntime._session import opened_with

    load(wanted("cuda"))
    first = target.batch_sizes[0]
    try:
        return computed_in(
            lambda options: opened_with(model, options, chain(target, None)),
            session_options(target, axis, None if target.dynamic else first),
            zeros(student.inputs, first),
            target.precision,
            workdir,
        )
    except Exception as error:
        # Its class for a missing kernel, NotImplemented, is not public by name.
        if type(error).__name__ != "NotImplemented":
            raise
        raise Unsupported(
            f"ONNX Runtime has no CUDA kernel in {target.precision}: {str(error).splitlines()[0][:200]}",
            hint="Ask for another --precision.",
        ) from error
