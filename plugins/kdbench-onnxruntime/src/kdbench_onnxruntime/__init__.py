"""ONNX Runtime backend: its CPU execution provider, or another one by option.

The student's ONNX file is the artifact as it is: optimising the graph at load costs milliseconds, and each
session fixes the batch dimension, so that it plans for one static shape. A network is run in the precision
that it is stored in, and in no other; what the CPU provider then computes in is read from the runtime's own
profile, since it has few kernels for fp16 and inserts casts to fp32. Every wheel of ONNX Runtime carries the
CPU provider; one of them may be installed, never two. NVIDIA's providers are backends of their own,
`kdbench_onnxruntime.cuda` and `kdbench_onnxruntime.tensorrt`.
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
    Unsupported,
    hookimpl,
)
from kdbench.spec import Precision
from kdbench_onnxruntime.providers import CPU, PROVIDERS, kind_of, requested, settings
from kdbench_onnxruntime.wheels import WHEELS, clash, is_installed, unimportable

if TYPE_CHECKING:
    from kdbench_onnxruntime._runtime import OrtSession

KINDS = ("cpu", "gpu", "npu")

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

OPTIMIZATION = Option(
    name="optimization",
    type="str",
    default="all",
    choices=("all", "extended", "basic", "none"),
    help="how far the graph is optimised at load",
)
OPTIONS = (
    OPTIMIZATION,
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
    Option(
        name="provider",
        type="str",
        default=CPU,
        choices=tuple(PROVIDERS),
        help="the execution provider that computes; what it leaves, the CPU provider does",
    ),
    Option(
        name="provider_options",
        type="str",
        default="",
        help="further options of that provider, as its own page names them: key=value;key=value",
    ),
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is."""
    return BackendInfo(
        api=1,
        title="ONNX Runtime",
        devices=KINDS,
        precisions=PRECISIONS,
        options=OPTIONS,
        concurrency="threads",
        distributions=WHEELS,
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Import the runtime, and try every provider that it brings; two wheels are refused."""
    wheels = [wheel for wheel in WHEELS if is_installed(wheel)]
    if fault := clash(wheels, "onnxruntime"):
        return fault
    try:
        import onnxruntime as ort

        version = str(ort.__version__)
    # AttributeError: what is left of a wheel that was overwritten still imports, as an empty folder.
    except (ImportError, AttributeError) as error:
        return unimportable(wheels, "onnxruntime", error)
    from kdbench_onnxruntime._opening import working

    found = working()
    return Available(
        version,
        tuple(
            Device(kind, f"{kind.upper()}, by {', '.join(found[kind])}") for kind in KINDS if kind in found
        ),
    )


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Answer the student's own ONNX file, and in the notes how to feed it and what it is computed in."""
    provider = requested(target)
    settings(provider, target)
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
    from kdbench_onnxruntime._model import batch_axis, notes
    from kdbench_onnxruntime._opening import refuse_missing

    refuse_missing(provider)
    model = student.files["onnx"]
    axis = batch_axis(model, student.inputs, target.batch_sizes)
    return Artifact((model,), notes(student, axis, _computed_in(student, target, axis, workdir)))


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> OrtSession:
    """Open one inference session per batch size, or one for all if the shapes are dynamic."""
    from kdbench_onnxruntime._runtime import OrtSession

    return OrtSession(artifact, target)


@hookimpl
def kdbench_run(session: OrtSession, batch_size: int) -> Runner:
    """Bind the outputs of one batch size; each thread of the harness asks for a runner of its own."""
    return session.runner(batch_size)


def _computed_in(student: Student, target: Target, axis: str, workdir: Path) -> Precision:
    """Tell what the network is computed in: the CPU provider shows it, of others the table knows it."""
    stored, provider = target.precision, requested(target)
    if stored == "fp32":
        return stored
    if provider is not PROVIDERS[CPU]:
        return "fp32" if stored == "fp16" and kind_of(target.device) in provider.widens else stored
    from kdbench_onnxruntime._model import computed_in, zeros
    from kdbench_onnxruntime._opening import opened
    from kdbench_onnxruntime._runtime import threaded_options

    first = target.batch_sizes[0]
    return computed_in(
        lambda options: opened(student.files["onnx"], options, provider, "cpu", {}),
        threaded_options(target, axis, None if target.dynamic else first),
        zeros(student.inputs, first),
        stored,
        workdir,
    )
