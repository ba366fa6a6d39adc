"""ONNX to ncnn by the program pnnx, which prints much, writes beside its input and needs no torch.

Left alone it stores weights in fp16; and operators that ncnn does not have stay in the file without an error.
(github.com/Tencent/ncnn/tree/master/tools/pnnx)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from kdbench import Artifact, Student, Target, TensorSpec, Unsupported
from kdbench_ncnn._text import Network, batched_in, refuse_unknown, without_casts

INSTALL = "pip install --no-deps 'pnnx>=20261020'"
"""Without --no-deps pip brings torch along, of which the program carries its own."""

TYPES = {"float32": "f32", "float16": "f16", "uint8": "u8", "int8": "i8", "int32": "i32", "int64": "i64"}
LOG_CHARACTERS = 2000
MODEL, PARAM, WEIGHTS, EXAMPLE = "model.onnx", "model.ncnn.param", "model.ncnn.bin", "model_ncnn.py"
"""What pnnx is given, and what of all that it writes is wanted."""

ANY = 0
"""The batch size of a network that takes every one."""


def convert(student: Student, target: Target, workdir: Path) -> Artifact:
    """Convert for each batch size, and keep one network for all that came out the same."""
    _refuse_precision(student, target)
    program, graph = find_pnnx(), _graph_names(student)
    networks: list[Network] = []
    batches = {}
    for batch_size in (ANY,) if target.dynamic else target.batch_sizes:
        network = _converted(program, student, graph, target, batch_size, workdir)
        if network not in networks:
            refuse_unknown(network.param, student.name)
            networks.append(network)
        batches[batch_size] = networks.index(network)
    files = [file for index, network in enumerate(networks) for file in network.write(workdir, index)]
    notes = {
        "batches": json.dumps(list(batches.items())),
        "batched": json.dumps([network.batched for network in networks]),
        "blobs_in": json.dumps([f"in{graph[0].index(spec.name)}" for spec in student.inputs]),
        "blobs_out": json.dumps([f"out{graph[1].index(spec.name)}" for spec in student.outputs]),
        "inputs": json.dumps([asdict(spec) for spec in student.inputs]),
        "outputs": json.dumps([asdict(spec) for spec in student.outputs]),
    }
    return Artifact(tuple(files), notes)


def find_pnnx() -> Path:
    """Find the program: in the package, which is not imported as that would import torch; or on the PATH."""
    name = "pnnx.exe" if sys.platform == "win32" else "pnnx"
    package = find_spec("pnnx")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (program := Path(folder) / name).is_file():
            return program
    if found := shutil.which("pnnx"):
        return Path(found)
    raise Unsupported("pnnx, which converts ONNX files for ncnn, is not installed.", hint=INSTALL)


def _refuse_precision(student: Student, target: Target) -> None:
    """Refuse a network that is stored in less than fp32; what a device lacks is for load to tell."""
    if student.precision == "fp32":
        return
    raise Unsupported(
        f"{student.name} is stored in {student.precision}, and pnnx converts fp32 networks only.",
        hint="Import the network as it was in fp32 (`kdbench import`), and ask for the precision.",
    )


def _converted(
    program: Path,
    student: Student,
    graph: tuple[Sequence[str], Sequence[str]],
    target: Target,
    batch_size: int,
    workdir: Path,
) -> Network:
    """Convert for one batch size in a folder of its own, which is gone afterwards."""
    folder = workdir / "pnnx"
    folder.mkdir()
    shutil.copyfile(student.files["onnx"], folder / MODEL)
    specs = [next(spec for spec in student.inputs if spec.name == name) for name in graph[0]]
    # Two unlike batch sizes leave the axis free.
    shapes = [f"inputshape={_shapes(specs, batch_size or 2)}"]
    shapes += [f"inputshape2={_shapes(specs, 3)}"] if batch_size == ANY else []
    _run([str(program), MODEL, *shapes, f"fp16={int(target.precision == 'fp16')}"], folder, student.name)
    blobs = [f"in{graph[0].index(spec.name)}" for spec in student.inputs]
    network = Network(
        without_casts((folder / PARAM).read_text(), blobs),
        (folder / WEIGHTS).read_bytes(),
        batched_in(folder / EXAMPLE, blobs),
    )
    shutil.rmtree(folder)
    return network


def _run(command: Sequence[str], folder: Path, name: str) -> None:
    """Run pnnx, which says in its last line what it cannot do."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    log = done.stdout.decode(errors="replace")[-LOG_CHARACTERS:]
    if done.returncode < 0:
        raise RuntimeError(f"pnnx was ended by signal {-done.returncode}. {log}")
    if done.returncode or not all((folder / file).is_file() for file in (PARAM, WEIGHTS, EXAMPLE)):
        last = (log.strip().splitlines() or ["nothing"])[-1]
        raise Unsupported(
            f"pnnx cannot convert {name}; the last that it says is: {last}.",
            hint="Use another backend that reads ONNX, such as onnxruntime.",
        )


def _shapes(specs: Sequence[TensorSpec], batch_size: int) -> str:
    """Write the shapes as pnnx takes them: `[1,3,16,16]f32,[1,4]f32`."""
    sizes = [",".join(map(str, (batch_size, *spec.shape))) for spec in specs]
    return ",".join(f"[{size}]{TYPES[spec.dtype]}" for size, spec in zip(sizes, specs, strict=True))


def _graph_names(student: Student) -> tuple[Sequence[str], Sequence[str]]:
    """Give the names of inputs and outputs in the order of the graph, by which pnnx numbers them."""
    if len(student.inputs) == len(student.outputs) == 1:
        return (student.inputs[0].name,), (student.outputs[0].name,)
    try:
        import onnx
    except ImportError as error:
        raise Unsupported(
            f"{student.name} has several inputs or outputs, and what their order is only onnx tells.",
            hint="pip install onnx",
        ) from error
    graph = onnx.load(student.files["onnx"]).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in stored], [
        value.name for value in graph.output
    ]
