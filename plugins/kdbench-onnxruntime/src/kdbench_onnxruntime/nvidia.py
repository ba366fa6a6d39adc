"""What ONNX Runtime's two providers for NVIDIA GPUs share: options, probe, and the file that they run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from kdbench import Availability, Available, Option, Student, Target, Unavailable, Unsupported
from kdbench.nvidia import Gpu, devices, look
from kdbench.spec import Precision
from kdbench_onnxruntime.libraries import least_capability, load, packages, toolkit, wanted
from kdbench_onnxruntime.wheels import GPU, clash, installed, provider_library, unimportable

KIND = "cuda"
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")
DISTRIBUTIONS = (GPU, "cuda-bindings")

GRAPH = Option(
    name="graph",
    type="bool",
    default=False,
    help="replay each call as one CUDA graph instead of launching its kernels one by one",
)
SYNC = Option(
    name="sync",
    type="str",
    default="spin",
    choices=("spin", "block"),
    help="how the host waits for the GPU: spin takes a core and wakes at once, block sleeps",
)

Name = Literal["cuda", "tensorrt"]

TF32 = "NVIDIA_TF32_OVERRIDE"


def available(name: Name) -> Availability:
    """Tell whether a provider can run here, from the wheel to the GPU; makes no session and no context."""
    wheels = installed()
    if fault := clash(wheels, GPU) or _wheel_fault(wheels, name):
        return fault
    try:
        import onnxruntime as ort

        release = str(ort.__version__)
    except (ImportError, AttributeError) as error:
        return unimportable(wheels, GPU, error)
    names = wanted(name)
    cuda = toolkit(names)
    gpus = look((cuda, 0)) if cuda else look()
    if isinstance(gpus, Unavailable):
        return gpus
    if fault := _library_fault(names, cuda, name) or _bindings_fault():
        return fault
    usable = [gpu for gpu in gpus if gpu.capability >= least_capability(cuda)]
    if not usable:
        return _old(gpus[0], cuda)
    return Available(release, devices(usable, PRECISIONS))


def _wheel_fault(wheels: Sequence[str], name: Name) -> Unavailable | None:
    """Say that the wheel is missing, or is one without this provider: its library is a file of its own."""
    if not wheels:
        return Unavailable(f"{GPU} is not installed.", fix=f"pip install '{GPU}[cuda,cudnn]'")
    if provider_library(name) is not None:
        return None
    return Unavailable(
        f"The wheel {wheels[0]} has no {'CUDA' if name == 'cuda' else 'TensorRT'} provider.",
        fix=f"pip uninstall -y {wheels[0]} && pip install '{GPU}[cuda,cudnn]'",
    )


def _library_fault(names: Sequence[str], cuda: int | None, name: Name) -> Unavailable | None:
    lacking = load(names)
    if not lacking:
        return None
    title, verb = "CUDA" if name == "cuda" else "TensorRT", "is" if len(lacking) == 1 else "are"
    return Unavailable(
        f"The {title} provider of {GPU} needs {', '.join(lacking)}, which {verb} missing.",
        fix=f"pip install {' '.join(packages(lacking, cuda))}",
    )


def _bindings_fault() -> Unavailable | None:
    """Say that the bindings are missing, or that they are for a newer CUDA than the driver's.

    Those ask the driver for its functions as of their own version: 13 finds no cuEventElapsedTime in a driver
    older than 12.8, which has another function of that name.
    """
    # Asked of the parent first: find_spec imports it, and fails where that is not there.
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return Unavailable("cuda-bindings is not installed.", fix="pip install cuda-bindings")
    major = int(version("cuda-bindings").partition(".")[0])
    if isinstance(look((major, 0)), Unavailable):
        return Unavailable(
            f"cuda-bindings is installed for CUDA {major}, which NVIDIA's driver does not serve.",
            fix=f"pip install 'cuda-bindings<{major}'",
        )
    return None


def _old(gpu: Gpu, cuda: int | None) -> Unavailable:
    capability, least = (".".join(map(str, pair)) for pair in (gpu.capability, least_capability(cuda)))
    return Unavailable(
        f"{gpu.name} has compute capability {capability}, and {GPU} is built with CUDA {cuda}, "
        f"which needs {least} or newer.",
        fix=f"install a release of {GPU} that was built with CUDA {(cuda or 13) - 1}",
    )


def graph_for(student: Student, target: Target, workdir: Path) -> Path:
    """Give the ONNX file that computes in the precision asked for: as it is stored, or cast.

    tf32 is fp32 with tensor cores that round the operands: the graph is the same.
    Raises Unsupported where there is no such file.
    """
    if "onnx" not in student.files:
        raise Unsupported(
            f"The bundle of {student.name} holds no ONNX file.",
            hint="Import its ONNX file (`kdbench import`), or use a backend that builds it from its weights.",
        )
    model, stored = student.files["onnx"], student.precision
    if target.precision == stored or (target.precision == "tf32" and stored == "fp32"):
        return model
    if stored != "fp32":
        raise Unsupported(
            f"{student.name} is stored in {stored}, and cannot be run in {target.precision}.",
            hint=f"Ask for --precision {stored}, or bring the network in fp32.",
        )
    from kdbench.casting import cast, samples

    return cast(model, target.precision, workdir, inputs=samples(student))


def set_tf32(target: Target) -> None:
    """Allow TF32 for `tf32` only, in this process: NVIDIA's libraries read the variable once, when they load.

    TensorRT's provider has no option for it, and a variable that a shell has set is not about this target.
    """
    if target.precision == "tf32":
        os.environ.pop(TF32, None)
    else:
        os.environ[TF32] = "0"
