"""ExecuTorch backend: programs lowered to XNNPACK, or run by the portable kernels alone.

Compile needs torch and writes one `.pte` program per batch size; load and run need the runtime alone, by the
vendor's Python binding or, where there is no torch, by a small library built from the wheel's own headers.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
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
    Unsupported,
    hookimpl,
)

if TYPE_CHECKING:
    from kdbench_executorch.session import ExecuTorchSession

INSTALL = "pip install 'executorch>=1.5,<1.6'"
COMPILE = ("torch", "safetensors")
"""What lowering a program needs beside executorch."""

OPTIONS = (
    Option(
        name="delegate",
        type="str",
        default="xnnpack",
        choices=("xnnpack", "portable", "coreml", "vulkan", "qnn", "openvino"),
        help="who runs the operators; portable is no delegate; of the others only xnnpack is driven yet",
    ),
    Option(
        name="binding",
        type="str",
        default="auto",
        choices=("auto", "python", "native"),
        help="python: the vendor's, with torch; native: the library of `python -m kdbench_executorch.build`",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="ExecuTorch",
        devices=("cpu",),
        precisions=("fp32",),
        options=OPTIONS,
        distributions=("executorch", "torch"),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Load the runtime, by torch or without it."""
    try:
        installed = version("executorch")
    except PackageNotFoundError:
        return Unavailable("executorch is not installed.", INSTALL)
    from kdbench_executorch.engine import start
    from kdbench_executorch.processor import processor_name

    try:
        start("auto")
    except Unsupported as refusal:
        return Unavailable(refusal.message, refusal.hint)
    except (ImportError, OSError, AttributeError) as fault:
        return Unavailable(f"executorch {installed} cannot be loaded: {fault}.", INSTALL)
    return Available(installed, (Device("cpu", processor_name()),))


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Export the network by torch and lower it to the delegate, once per batch size."""
    from kdbench_executorch.delegates import driven

    driven(str(target.options["delegate"]))
    for name in COMPILE:
        if not find_spec(name):
            raise Unsupported(
                f"Making a program of ExecuTorch needs {name}, which is not installed here.",
                hint="Compile where it is (`kdbench compile`), and run the artifact here.",
            )
    from kdbench_executorch.lowering import compile_student

    return compile_student(student, target, workdir)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> ExecuTorchSession:
    """Open the programs by the binding that was asked for."""
    from kdbench_executorch.engine import start
    from kdbench_executorch.session import ExecuTorchSession

    return ExecuTorchSession(start(str(target.options["binding"])), artifact, target)


@hookimpl
def kdbench_run(session: ExecuTorchSession, batch_size: int) -> Runner:
    """Hand over a runner with a program of its own."""
    return session.runner(batch_size)
