"""OpenVINO backend: CPU, GPU and NPU devices.

Compile exports one blob per batch size, with static shapes; load imports it, which takes a third of the
time of compiling again. The performance hint follows the scenario, the precision is never left to the
device, and both are read back from the compiled model.
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
    from kdbench_openvino._runtime import OpenVinoSession

OPTIONS = (
    Option(
        name="hint",
        type="str",
        default="scenario",
        choices=("scenario", "latency", "throughput", "none"),
        help="what the device plans for; scenario takes the hint of the same name",
    ),
    Option(
        name="num_streams",
        type="int",
        default=0,
        low=0,
        help="how many requests the device computes at once; 0 leaves it to the hint",
    ),
    Option(
        name="pinning",
        type="str",
        default="auto",
        choices=("auto", "on", "off"),
        help="bind the threads of the CPU device to cores",
    ),
    Option(
        name="hyper_threading",
        type="str",
        default="auto",
        choices=("auto", "on", "off"),
        help="let the CPU device use both threads of a core",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="OpenVINO",
        devices=("cpu", "gpu", "npu"),
        precisions=("fp32", "bf16", "fp16", "int8"),
        options=OPTIONS,
        concurrency="pipelined",
        distributions=("openvino",),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Ask the runtime for its devices, and each for the precisions that it computes in."""
    try:
        import openvino as ov

        from kdbench_openvino._runtime import find_devices

        devices = find_devices()
    except ModuleNotFoundError:
        return Unavailable("openvino is not installed.", fix="pip install openvino")
    # RuntimeError: a driver or a plugin of the runtime that does not load.
    except (ImportError, AttributeError, RuntimeError) as error:
        return Unavailable(f"openvino cannot be used: {error}.", fix="pip install --force-reinstall openvino")
    if not devices:
        return Unavailable(
            "openvino is installed, and finds no device here.", fix="install the device's driver"
        )
    return Available(ov.get_version().split("-")[0], devices)


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Compile the student's ONNX file for the device, once per batch size, and export what comes out."""
    if "onnx" not in student.files:
        raise Unsupported(
            f"The bundle of {student.name} holds no ONNX file.",
            hint="Import its ONNX file (`kdbench import`), or use a backend that builds it from its weights.",
        )
    from kdbench_openvino._runtime import export

    return export(student, target, workdir)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> OpenVinoSession:
    """Import the exported models."""
    from kdbench_openvino._runtime import OpenVinoSession

    return OpenVinoSession(artifact, target)


@hookimpl
def kdbench_run(session: OpenVinoSession, batch_size: int, depth: int) -> Runner:
    """Make one infer request, or `depth` of them that run side by side."""
    return session.runner(batch_size, depth)
