"""ncnn backend: ARM and x86 CPUs, and GPUs by Vulkan.

Compile runs the program pnnx on the student's ONNX file and needs neither torch nor ncnn; load and run need
ncnn alone, so that a board runs what another machine compiled. What ncnn does by itself where a CPU has fp16,
16 bits for weights and for what lies between layers, happens here only where the precision says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdbench import (
    Artifact,
    Availability,
    Available,
    BackendInfo,
    Option,
    Runner,
    Student,
    Target,
    Unavailable,
    Unsupported,
    hookimpl,
)

if TYPE_CHECKING:
    from kdbench_ncnn._session import NcnnSession

INSTALL = "pip install 'ncnn>=1.0.20261020'"

OPTIONS = (
    Option(
        name="packing",
        type="bool",
        default=True,
        help="let channels lie side by side in groups as wide as the CPU's vectors",
    ),
    Option(
        name="winograd",
        type="bool",
        default=True,
        help="compute 3x3 convolutions by Winograd's transform, which rounds otherwise",
    ),
    Option(
        name="sgemm",
        type="bool",
        default=True,
        help="compute convolutions as products of matrices where ncnn finds that faster",
    ),
    Option(
        name="lightmode",
        type="bool",
        default=True,
        help="give each layer's input back as soon as it was used, and work in place",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is; int8, which ncnn calibrates by tools of its own, is not offered yet."""
    return BackendInfo(
        api=1,
        title="ncnn",
        devices=("cpu", "gpu"),
        precisions=("fp32", "fp16", "bf16"),
        options=OPTIONS,
        concurrency="threads",
        distributions=("ncnn", "pnnx"),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Ask ncnn for the CPU and for Vulkan's GPUs; pnnx is not asked for, as only compile needs it."""
    try:
        import ncnn

        from kdbench_ncnn._devices import find_devices

        version = str(ncnn.__version__)
        if not hasattr(ncnn.Mat, "batch"):
            return Unavailable(
                f"ncnn {version} runs no batches, which came with 1.0.20261020.", fix=f"{INSTALL} --upgrade"
            )
        return Available(version, find_devices())
    except ModuleNotFoundError as error:
        if error.name != "ncnn":
            return Unavailable(f"ncnn cannot be used: {error}.", fix=f"pip install {error.name}")
        return Unavailable("ncnn is not installed.", fix=INSTALL)
    # OSError and RuntimeError: a library that ncnn links against, or a driver of Vulkan.
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return Unavailable(f"ncnn cannot be used: {error}.", fix=f"{INSTALL} --force-reinstall")


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Convert the student's ONNX file by pnnx, once per batch size, or once with a free batch axis."""
    if "onnx" not in student.files:
        raise Unsupported(
            f"The bundle of {student.name} holds no ONNX file.",
            hint="Import its ONNX file (`kdbench import`), or use a backend that builds it from its weights.",
        )
    from kdbench_ncnn._convert import convert

    return convert(student, target, workdir)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> NcnnSession:
    """Open the network of each batch size."""
    from kdbench_ncnn._session import NcnnSession

    return NcnnSession(artifact, target)


@hookimpl
def kdbench_run(session: NcnnSession, batch_size: int) -> Runner:
    """Allocate the inputs and outputs of one batch size; threads may drive several runners."""
    return session.runner(batch_size)
