"""MNN backend: the CPU of a phone, a board or a PC, in fp32. The plugin of docs/tutorial-backend.md."""

from __future__ import annotations

import json
from contextlib import chdir
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
    from kdbench_mnn._session import MnnSession

WINOGRAD = Option(
    name="winograd",
    type="bool",
    default=True,
    help="Let 3x3 convolutions take large Winograd tiles: more memory, less time, another rounding.",
)


@hookimpl
def kdbench_describe() -> BackendInfo:
    """Say what this backend is; nothing of MNN is imported for it."""
    return BackendInfo(
        api=1,
        title="MNN",
        devices=("cpu",),
        precisions=("fp32",),
        options=(WINOGRAD,),
        distributions=("mnn",),
    )


@hookimpl
def kdbench_probe() -> Availability:
    """Import the runtime; the wheels of MNN compute on the CPU and nowhere else."""
    try:
        import MNN
    except ImportError as fault:
        return Unavailable(f"MNN cannot be imported: {fault}.", "pip install 'mnn>=3.6,<3.7'")
    return Available(MNN.version(), (Device("cpu", "CPU, by MNN"),))


@hookimpl
def kdbench_compile(student: Student, target: Target, workdir: Path) -> Artifact:
    """Convert the student's ONNX file, once for all batch sizes."""
    if "onnx" not in student.files:
        raise Unsupported(f"The bundle of {student.name} holds no ONNX file.", hint="Import one that does.")
    if student.precision != "fp32":
        raise Unsupported(f"{student.name} is stored in {student.precision}.", hint="Take one in fp32.")
    if target.dynamic:
        raise Unsupported("MNN plans its memory for one batch size.", hint="Leave out --dynamic.")
    # MNN.tools.mnnconvert calls the same, but installs a package by pip and calls a server of MNN's makers.
    import _tools

    words = ["--modelFile", str(student.files["onnx"]), "--MNNModel", "student.mnn", "--bizCode", "kdbench"]
    with chdir(workdir):  # it leaves a file for large weights in the current folder, and takes it away again
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *words])
    if not (workdir / "student.mnn").is_file():  # it answers True even so
        raise Unsupported(f"MNN's converter refuses {student.name}.", hint="The log of compile says why.")
    sides = {"inputs": student.inputs, "outputs": student.outputs}
    notes = {side: json.dumps({spec.name: spec.shape for spec in specs}) for side, specs in sides.items()}
    return Artifact(files=(workdir / "student.mnn",), notes=notes)


@hookimpl
def kdbench_load(artifact: Artifact, target: Target) -> MnnSession:
    """Read the model, and let MNN say where and with how many threads it computes."""
    from kdbench_mnn._session import MnnSession

    inputs, outputs = (json.loads(artifact.notes[side]) for side in ("inputs", "outputs"))
    return MnnSession(artifact.files[0], inputs, outputs, target)


@hookimpl
def kdbench_run(session: MnnSession, batch_size: int) -> Runner:
    """Plan the memory of one batch size."""
    return session.runner(batch_size)
