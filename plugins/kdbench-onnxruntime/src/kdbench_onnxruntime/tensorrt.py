"""The backend `onnxruntime-tensorrt`: ONNX Runtime on its TensorRT execution provider.

Options are those of onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html. Compile makes
the sessions once on the device, so that the engines are in the artifact; load finds them there and builds
nothing.

Precision is in the graph: with neither `trt_fp16_enable` nor `trt_int8_enable` the provider builds a strongly
typed network (github.com/microsoft/onnxruntime/pull/18707), which is the only kind that TensorRT 11 knows.
TF32 is the
exception: TensorRT's builder has it on, and the provider no option for it
(github.com/microsoft/onnxruntime/issues/28177). What turns it off is NVIDIA's environment variable, once per
process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench import Artifact, Availability, BackendInfo, Option, Runner, Student, Target, hookimpl
from kdbench_onnxruntime import OPTIMIZATION, cuda
from kdbench_onnxruntime.engines import Engines, profile
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

PROVIDER = "TensorrtExecutionProvider"

OPTIONS = (
    OPTIMIZATION,
    GRAPH,
    SYNC,
    Option(
        name="optimization_level",
        type="int",
        default=3,
        low=0,
        high=5,
        help="how long the builder searches for faster kernels; 3 is TensorRT's own default",
    ),
    Option(
        name="workspace_mib",
        type="int",
        default=0,
        low=0,
        help="scratch memory that a layer may use, in MiB; 0 leaves it to the provider",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="ONNX Runtime TensorRT",
        devices=(KIND,),
        precisions=PRECISIONS,
        options=OPTIONS,
        concurrency="pipelined",
        boundaries=("host", "device"),
        distributions=(*DISTRIBUTIONS, "tensorrt-cu12", "tensorrt-cu13"),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Look at the wheel, the driver, the GPUs and the libraries, in that order."""
    return available("tensorrt")


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Build the engines on the device, and answer them beside the ONNX file that they were built from."""
    model = graph_for(student, target, workdir)
    set_tf32(target)
    load(wanted("tensorrt"))
    from kdbench_onnxruntime._model import batch_axis, notes
    from kdbench_onnxruntime._session import opened

    axis = batch_axis(model, student.inputs, target.batch_sizes)
    for batch_size in (None,) if target.dynamic else target.batch_sizes:
        engines = Engines.in_folder(workdir, batch_size)
        engines.folder.mkdir(parents=True)
        given = {
            **engines.building(workdir),
            **(profile(student.inputs, target.batch_sizes) if batch_size is None else {}),
        }
        opened(model, target, axis, batch_size, chain(target, None, given))
        engines.refuse_none()
    return Artifact((model, *Engines.files(workdir)), notes(student, axis, target.precision))


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> GpuSession:
    """Open one inference session per batch size from its engine; raises where one would be built anew."""
    set_tf32(target)
    load(wanted("tensorrt"))
    from kdbench_onnxruntime._gpu import GpuSession
    from kdbench_onnxruntime._model import specs
    from kdbench_onnxruntime._session import opened

    model, axis = artifact.files[0], artifact.notes["batch_axis"]
    inputs = specs(artifact.notes["inputs"])

    def session(batch_size: int | None, stream: int) -> object:
        engines = Engines.of(artifact.files[1:], batch_size)
        shapes = profile(inputs, target.batch_sizes) if batch_size is None else {}
        with engines.unchanged():
            given = chain(target, stream, {**engines.reading(), **shapes})
            return opened(model, target, axis, batch_size, given)

    return GpuSession(artifact, target, PROVIDER, session)


@hookimpl
def kdbench_run(session: GpuSession, batch_size: int, depth: int) -> Runner:
    """Allocate and bind what `depth` requests need, and run each."""
    return session.runner(batch_size, depth)


def chain(target: Target, stream: int | None, given: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Give the TensorRT provider with its options, and CUDA's in the same stream for what it leaves."""
    options = {
        "device_id": target.device.partition(":")[2],
        "trt_builder_optimization_level": str(target.options["optimization_level"]),
        **given,
    }
    if target.options["workspace_mib"]:
        options["trt_max_workspace_size"] = str(int(target.options["workspace_mib"]) << 20)
    beside = {"device_id": options["device_id"], "use_tf32": "1" if target.precision == "tf32" else "0"}
    if stream is not None:
        ours = {"has_user_compute_stream": "1", "user_compute_stream": str(stream)}
        options |= {**ours, "trt_cuda_graph_enable": "1" if target.options["graph"] else "0"}
        beside |= ours
    return [(PROVIDER, options), (cuda.PROVIDER, beside)]
