"""NumPy backend: the reference that runs on any machine, and the example of how to write a backend.

It runs the two networks that kdbench ships, `tiny-student` and `tiny-teacher`, from their weights, and
is no interpreter of graphs: any other student is `Unsupported`. The five hooks below are all of a
backend; what they need of the runtime is in `_runtime`, imported only by the hooks that need it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdbench import (
    Artifact,
    Availability,
    Available,
    BackendInfo,
    Device,
    Runner,
    Student,
    Target,
    Unsupported,
    hookimpl,
)

if TYPE_CHECKING:
    from kdbench_numpy._runtime import NumpySession

# What each factory takes when the student's card does not say otherwise; see docs/students.md.
DEFAULTS: dict[str, dict[str, Any]] = {
    "tiny-student": {"strides": (1, 2, 2, 1), "mean": 0.5, "std": 0.25},
    "tiny-teacher": {"strides": (2, 1, 2, 2), "mean": 0.5, "std": 0.25},
}


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="NumPy",
        devices=("cpu",),
        precisions=("fp32",),
        boundaries=("host", "device"),
        distributions=("numpy",),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """NumPy is a dependency, so it is always there."""
    import numpy as np

    return Available(np.__version__, (Device("cpu", "CPU, by NumPy and its BLAS"),))


@hookimpl
def kdbench_compile(student: Student, target: Target) -> Artifact:
    """Answer the student's own weights, and in the notes what they do not tell of the network."""
    if student.factory not in DEFAULTS:
        raise Unsupported(
            f"NumPy runs {' and '.join(DEFAULTS)} only, not {student.factory or 'an ONNX graph'}.",
            hint="Use a backend that runs any student, such as onnxruntime.",
        )
    if "weights" not in student.files:
        raise Unsupported(
            f"The bundle of {student.name} holds no weights as safetensors.",
            hint="Use a backend that reads ONNX, such as onnxruntime.",
        )
    if target.precision != "fp32":
        raise Unsupported(
            f"NumPy computes in fp32, not in {target.precision}.", hint="Ask for --precision fp32."
        )
    settings: dict[str, Any] = {**DEFAULTS[student.factory], **student.arguments}
    facts = {
        "units": _units(student.factory, settings["strides"]),
        "mean": settings["mean"],
        "std": settings["std"],
        "image": student.inputs[0].shape,
    }
    return Artifact((student.files["weights"],), {key: json.dumps(fact) for key, fact in facts.items()})


@hookimpl
def kdbench_load(artifact: Artifact) -> NumpySession:
    """Read the weights and fold what can be folded."""
    from kdbench_numpy._runtime import NumpySession

    facts = {key: json.loads(note) for key, note in artifact.notes.items()}
    return NumpySession(artifact.files[0], **facts)


@hookimpl
def kdbench_run(session: NumpySession, batch_size: int) -> Runner:
    """Allocate the buffers of one batch size."""
    return session.runner(batch_size)


def _units(factory: str, strides: Sequence[int]) -> list[tuple[int, bool]]:
    """Give the stride of each unit, and whether it is depthwise."""
    if factory == "tiny-teacher":
        return [(stride, False) for stride in strides]
    blocks = [unit for stride in strides[1:] for unit in ((stride, True), (1, False))]
    return [(strides[0], False), *blocks]
