"""ONNX Runtime backend, on its CPU execution provider.

The student's ONNX file is the artifact as it is: optimising the graph at load costs milliseconds, and
each session fixes the batch dimension, so that it plans for one static shape. A network is run in the
precision that it is stored in, and in no other; what it is then computed in is read from the runtime's own
profile, since the CPU provider has few kernels for fp16 and inserts casts to fp32. Both wheels, `onnxruntime`
and `onnxruntime-gpu`, carry the CPU provider; one of them may be installed, never both.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
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
from kdbench.spec import Precision

if TYPE_CHECKING:
    from kdbench_onnxruntime._runtime import OrtSession

WHEELS = ("onnxruntime", "onnxruntime-gpu")

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

OPTIONS = (
    Option(
        name="optimization",
        type="str",
        default="all",
        choices=("all", "extended", "basic", "none"),
        help="how far the graph is optimised at load",
    ),
    Option(
        name="execution",
        type="str",
        default="sequential",
        choices=("sequential", "parallel"),
        help="run the nodes of the graph one after the other, or independent branches at once",
    ),
    Option(
        name="spread",
        type="str",
        default="auto",
        choices=("auto", "nodes", "requests"),
        help="what the threads share: each node, or whole requests; auto is requests for throughput",
    ),
    Option(
        name="spinning",
        type="bool",
        default=True,
        help="let idle threads of the pool spin for work before they sleep, as the vendor's default does",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="ONNX Runtime",
        devices=("cpu",),
        precisions=PRECISIONS,
        options=OPTIONS,
        concurrency="threads",
        distributions=WHEELS,
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Import the runtime; two wheels in one environment overwrite each other and are refused."""
    wheels = [wheel for wheel in WHEELS if _is_installed(wheel)]
    if len(wheels) > 1:
        return Unavailable(
            f"{' and '.join(wheels)} are both installed and have overwritten each other's files.",
            fix=f"pip uninstall -y {' '.join(wheels)} && pip install onnxruntime",
        )
    try:
        import onnxruntime as ort

        return Available(ort.__version__, (Device("cpu", "CPU, by CPUExecutionProvider"),))
    # AttributeError: what is left of a wheel that was overwritten still imports, as an empty folder.
    except (ImportError, AttributeError) as error:
        reason = f"onnxruntime cannot be imported: {error}." if wheels else "onnxruntime is not installed."
        return Unavailable(
            reason, fix="pip install --force-reinstall onnxruntime" if wheels else "pip install onnxruntime"
        )


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the student's own ONNX file, and in the notes how to feed it and what it is computed in."""
    if "onnx" not in student.files:
        raise Unsupported(
            f"The bundle of {student.name} holds no ONNX file.",
            hint="Import its ONNX file (`kdbench import`), or use a backend that builds it from its weights.",
        )
    if target.precision != student.precision:
        raise Unsupported(
            f"ONNX Runtime runs a network as it is stored: {student.name} in {student.precision}, "
            f"not in {target.precision}.",
            hint=f"Convert its ONNX file to {target.precision}, and import that: `kdbench import`.",
        )
    from kdbench_onnxruntime._runtime import batch_axis, computed_in

    model, inputs = student.files["onnx"], student.inputs
    axis = batch_axis(model, inputs, target.batch_sizes)
    stored = target.precision
    notes = {
        "inputs": json.dumps([asdict(spec) for spec in inputs]),
        "outputs": json.dumps([asdict(spec) for spec in student.outputs]),
        "batch_axis": axis,
        "precision": stored if stored == "fp32" else computed_in(model, inputs, target, axis, workdir),
    }
    return Artifact((model,), notes)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> OrtSession:
    """Open one inference session per batch size, or one for all if the shapes are dynamic."""
    from kdbench_onnxruntime._runtime import OrtSession

    return OrtSession(artifact, target)


@hookimpl
def kdbench_run(session: OrtSession, batch_size: int) -> Runner:
    """Bind the outputs of one batch size; each thread of the harness asks for a runner of its own."""
    return session.runner(batch_size)


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
