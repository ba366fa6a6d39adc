"""LiteRT backend, once TensorFlow Lite: a `.tflite` file per batch size, run by XNNPACK on the CPU.

Compiling needs torch and litert-torch, running needs ai-edge-litert alone: a board without torch runs an
artifact that was compiled elsewhere. So `_converter` is for compile alone, and nothing that
load or run need (`_session`, `_interpreter`, `_compiled`, `_form`, `_delegation`) imports torch.
"""

from __future__ import annotations

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
    from kdbench_litert._session import LitertSession

INSTALL = "pip install 'ai-edge-litert>=2.3,<2.4'"

OPTIONS = (
    Option(
        name="api",
        type="str",
        default="interpreter",
        choices=("interpreter", "compiled"),
        help="interpreter: the API that TensorFlow Lite had; compiled: CompiledModel of LiteRT Next.",
    ),
    Option(
        name="accelerator",
        type="str",
        default="cpu",
        choices=("cpu", "gpu", "npu"),
        help="what CompiledModel compiles for; only cpu is offered so far.",
    ),
    Option(
        name="xnnpack",
        type="bool",
        default=True,
        help="Let XNNPACK take what it can of the graph; without it, LiteRT's own kernels compute.",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="LiteRT",
        devices=("cpu",),
        precisions=("fp32",),
        options=OPTIONS,
        concurrency="threads",
        distributions=("ai-edge-litert", "litert-torch", "torch"),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Import the runtime; whether the converter is there matters to compile alone."""
    try:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter as Interpreter
    except ModuleNotFoundError as fault:
        return Unavailable(f"The Python package {fault.name} is not installed.", INSTALL)
    # RuntimeError: a library of the wheel that does not load; AttributeError: an older wheel.
    except (ImportError, OSError, AttributeError, RuntimeError) as fault:
        return Unavailable(f"LiteRT is installed and cannot be imported: {fault}", INSTALL)
    return Available(ai_edge_litert.__version__, (Device("cpu", "any CPU"),))


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Convert the student's PyTorch network once per batch size."""
    _refuse_accelerator(target)
    from kdbench_litert._converter import convert

    return convert(student, target, workdir)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> LitertSession:
    """Open the file of each batch size."""
    _refuse_accelerator(target)
    from kdbench_litert._session import LitertSession

    return LitertSession(artifact, target)


@hookimpl
def kdbench_run(session: LitertSession, batch_size: int) -> Runner:
    """Hand over a model with memory and threads of its own."""
    return session.runner(batch_size)


def _refuse_accelerator(target: Target) -> None:
    """Refuse what nobody has run yet; the README says what it would take."""
    accelerator = target.options["accelerator"]
    if accelerator != "cpu":
        raise Unsupported(
            f"kdbench-litert drives the CPU only, and accelerator={accelerator} was asked for.",
            hint="Ask for accelerator=cpu; the README of kdbench-litert says what the others would take.",
        )
