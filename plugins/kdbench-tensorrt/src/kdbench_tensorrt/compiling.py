"""Compile: precision into the graph, the graph into engines, and all that load needs into the artifact."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

from kdbench import Artifact, Student, Target, Unsupported
from kdbench_tensorrt.building import ANY, Engine, Workshop
from kdbench_tensorrt.editions import Edition
from kdbench_tensorrt.layers import Layer, layers_of_engine, to_json
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import deserialise
from kdbench_tensorrt.stored import LAYERS, TIMING, file_name, notes_of
from kdbench_tensorrt.workplace import find_gpu

KEPT = {"bf16": ("HardSwish", "Mish", "LpNormalization", "ConvTranspose")}
"""Operators that stay in fp32 where the rest is cast: TensorRT for RTX 1.7 does not parse the first three in
bf16, and does not build the last. For TensorRT 10 and 11 nobody has tried; fp32 is right there too."""


def compile_student(
    edition: Edition, student: Student, target: Target, workdir: Path, shelf: Path | None = None
) -> Artifact:
    """Build the engines of a target into `workdir`; the artifact has the ONNX file that they come from.

    shelf: where the timing cache outlives this: the next student meets kernels that were timed already.
    Raises Unsupported for a student without an ONNX file, for int8, and for what TensorRT does not know.
    """
    model = _model(edition, student, target, workdir)
    gpu = find_gpu(target.device)
    if gpu is not None:
        # The builder times kernels on the device that is current in its thread.
        from kdbench_tensorrt import device

        device.select(gpu.index, spin=target.options["sync"] == "spin")
    signature = Signature(student.inputs, student.outputs)
    workshop = Workshop(edition, model, signature, target, gpu, _timing_on(shelf))
    engines = {size: workshop.build(size) for size in ((ANY,) if target.dynamic else target.batch_sizes)}
    _keep_timing(shelf, workshop.timing)
    return _write(workshop, engines, workdir)


def _timing_on(shelf: Path | None) -> bytes:
    try:
        return (shelf / TIMING).read_bytes() if shelf else b""
    except OSError:  # none yet
        return b""


def _keep_timing(shelf: Path | None, timing: bytes) -> None:
    """Put the timing cache on the shelf in one step: another process may read it now, or write its own."""
    if shelf is None or not timing:
        return
    with NamedTemporaryFile(dir=shelf, prefix=f".{TIMING}-", delete=False) as draft:
        draft.write(timing)
    Path(draft.name).replace(shelf / TIMING)


def _model(edition: Edition, student: Student, target: Target, workdir: Path) -> Path:
    """Give the ONNX file to parse: as it is stored, or converted to what is asked for."""
    if "onnx" not in student.files:
        raise Unsupported(
            f"The bundle of {student.name} holds no ONNX file.",
            hint="Import its ONNX file (`kdbench import`), or use a backend that builds it from its weights.",
        )
    if "int8" in (target.precision, student.precision):
        # The place of quantised networks: Q and DQ nodes parse as they are, and nothing else differs.
        raise Unsupported(
            f"{edition.title} does not run quantised networks here yet.",
            hint="Ask for --precision fp16 or fp32.",
        )
    stored = student.files["onnx"]
    if target.precision in (student.precision, "tf32") or target.precision == "fp32":
        return stored
    from kdbench.casting import cast, samples

    kept = KEPT.get(target.precision, ())
    return cast(stored, target.precision, workdir, inputs=samples(student), keep=kept)


def _layers_told(workshop: Workshop, engine: Engine) -> tuple[Layer, ...]:
    """Ask an engine for its layers; empty where there is no device to open it on."""
    opened = None if workshop.gpu is None else deserialise(workshop, engine.blob)
    return () if opened is None else layers_of_engine(workshop.trt, opened[1])


def _write(workshop: Workshop, engines: dict[int, Engine], workdir: Path) -> Artifact:
    """Write what was built, and say in the notes what it was built for."""
    files = []
    layers = {}
    for size, engine in engines.items():
        name = file_name(size)
        (workdir / name).write_bytes(engine.blob)
        files.append(workdir / name)
        layers[name] = (_layers_told(workshop, engine), engine.layers)
    (workdir / LAYERS).write_text(to_json(layers), encoding="utf-8")
    files += [workdir / LAYERS, workshop.model]
    if workshop.timing:
        (workdir / TIMING).write_bytes(workshop.timing)
        files.append(workdir / TIMING)
    return Artifact(tuple(files), notes_of(workshop, list(engines)))
