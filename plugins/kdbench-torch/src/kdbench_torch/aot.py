"""mode=aot: AOTInductor packages, native code with the weights in it, one per batch size.

Loading needs neither the network's code nor a C++ compiler.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kdbench import Artifact, Student, Target, TensorSpec, Unsupported
from kdbench.errors import BackendError
from kdbench.spec import Precision
from kdbench_torch.inductor import building, first_line, variable
from kdbench_torch.network import Blueprint, empty_inputs, precision_of, prepare
from kdbench_torch.session import Network, TorchSession, placement, use_threads

if TYPE_CHECKING:
    from torch import nn

ANY = "any"
"""Stands for the batch size in the name of a package for all of them."""


def compile_student(student: Student, target: Target, workdir: Path) -> Artifact:
    """Export and compile the network for every batch size, or once if the target is dynamic."""
    # The number of threads is part of the code that Inductor writes.
    use_threads(target.threads)
    blueprint = Blueprint.of(student)
    network = prepare(blueprint, student.files["weights"], target)
    sizes: Sequence[int | str] = (ANY,) if target.dynamic else target.batch_sizes
    with tempfile.TemporaryDirectory(dir=workdir) as cache, building(Path(cache), target):
        packages = [_package(network, blueprint.inputs, size, workdir) for size in sizes]
    return Artifact(tuple(packages), blueprint.to_notes())


def load_artifact(artifact: Artifact, target: Target) -> TorchSession:
    """Open every package once; a second runner of a batch size gets its package opened again.

    An open package runs one call at a time, so that runners in several threads would wait for each other.
    """
    use_threads(target.threads)
    paths = {path.stem.rpartition("-")[2]: path for path in artifact.files}
    opened = {size: [_open(path)] for size, path in paths.items()}
    precision = next(iter(opened.values()))[0].get_metadata()["precision"]

    def network(batch_size: int) -> Network:
        size = ANY if ANY in paths else str(batch_size)
        if size not in paths:
            raise BackendError(
                f"This artifact was compiled for batch sizes {', '.join(paths)}, not for {batch_size}.",
                hint="Compile it for this batch size too.",
            )
        package = opened[size].pop() if opened[size] else _open(paths[size])
        return partial(_call, package.loader.run)

    return TorchSession(
        network,
        inputs=Blueprint.from_notes(artifact.notes).inputs,
        threads=target.threads,
        placement=placement("aot-inductor", cast(Precision, precision)),
    )


def _package(network: nn.Module, inputs: Sequence[TensorSpec], size: int | str, workdir: Path) -> Path:
    import torch

    # An example of one would fix the size to one.
    example = empty_inputs(inputs, size if isinstance(size, int) else 2)
    batch = {0: torch.export.Dim("batch", min=1)}
    shapes = None if isinstance(size, int) else tuple(batch for _ in example)
    try:
        program = torch.export.export(network, example, dynamic_shapes=shapes)
    # Exporting runs the network's own code: anything may come out of it.
    except Exception as fault:
        raise Unsupported(
            f"torch.export cannot export the network: {first_line(fault)}", hint="Use mode=eager."
        ) from fault
    path = workdir / f"batch-{size}.pt2"
    torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(path),
        inductor_configs={"aot_inductor.metadata": {"precision": precision_of(network)}},
    )
    return path


def _open(path: Path) -> Any:
    # The loader unpacks into a folder that it keeps until it is destroyed, which a killed process never does.
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="kdbench-torch-") as folder,
        variable("TMPDIR", folder),
    ):
        warnings.simplefilter("ignore")
        import torch._inductor

        return torch._inductor.aoti_load_package(str(path))


def _call(run: Callable[[list[Any]], list[Any]], *tensors: Any) -> list[Any]:
    # The package's own __call__ reads the layout of its arguments anew each time: a tenth of a small network.
    return run(list(tensors))
