"""From the student to programs: export, lower to a delegate, and count what the delegate took.

Needs torch and all of executorch. Nothing of it is needed where the programs run.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import Artifact, Student, Target, TensorSpec, Unsupported
from kdbench.networks import build
from kdbench_executorch.delegates import driven
from kdbench_executorch.session import PORTABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

PRODUCTS = ("convolution", "linear", "addmm", "mm", "bmm", "matmul")
"""Operators in which nearly all of a network's arithmetic is."""

INERT = ("getitem", "alloc")
"""Nodes of the graph that compute nothing."""


def compile_student(student: Student, target: Target, workdir: Path) -> Artifact:
    """Write one program per batch size; for a dynamic target one, for every size up to the largest.

    Raises Unsupported for a network that cannot be exported or lowered, in the words of what refused it.
    """
    backend, partition = driven(str(target.options["delegate"]))
    largest = max(target.batch_sizes)
    dynamic = target.dynamic and largest > 1
    sizes = (largest,) if dynamic else target.batch_sizes
    with _quiet():
        network = build(student)
        programs = {size: _lower(network, student, size, partition(), dynamic) for size in sizes}
        paths = [_write(program, workdir / f"batch-{size}.pte") for size, (program, _) in programs.items()]
    counts = programs[sizes[0]][1]
    notes = {
        "batch_sizes": json.dumps(list(sizes)),
        "dynamic": json.dumps(dynamic),
        "inputs": json.dumps([asdict(spec) for spec in student.inputs]),
        "outputs": json.dumps([asdict(spec) for spec in student.outputs]),
        "delegate": backend,
        "nodes": json.dumps(_by_runner(counts, backend)),
        "products": json.dumps(_by_runner(counts, backend, PRODUCTS)),
        "executorch": version("executorch"),
    }
    return Artifact(tuple(paths), notes)


def _lower(
    network: nn.Module, student: Student, size: int, partitioners: Sequence[Any], dynamic: bool
) -> tuple[Any, Mapping[str, tuple[int, int]]]:
    """Answer the program, and of each operator how often the delegate took it and how often not."""
    import torch
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower

    # The example has the largest batch: the XNNPACK partitioner narrows the declared range to what it guesses
    # from the example (15 from one of 8), and the program then refuses larger ones.
    example = _examples(student.inputs, size)
    # Made for a dynamic program only: torch.export refuses a range of 1 to 1.
    batch = {0: torch.export.Dim("batch", min=1, max=size)} if dynamic else {}
    shapes = tuple(batch for _ in example) if dynamic else None
    try:
        exported = torch.export.export(network, example, dynamic_shapes=shapes)
        edge = to_edge_transform_and_lower(exported, partitioner=list(partitioners))
        # Before to_executorch, which puts memory operations among the operators.
        info = get_delegation_info(edge.exported_program().graph_module)
        program = edge.to_executorch()
    # Exporting runs the network's own code: anything may come out of it.
    except Exception as fault:
        line = (str(fault) or type(fault).__name__).strip().splitlines()[0]
        raise Unsupported(
            f"ExecuTorch cannot lower the network of {student.name}: {line[:200]}",
            hint="Use a backend that reads ONNX, such as onnxruntime or openvino.",
        ) from fault
    if (capacity := _capacity(program)) < size:
        raise Unsupported(
            f"ExecuTorch made a program for batches up to {capacity}, and {size} was asked for.",
            hint="Leave out --dynamic.",
        )
    counts = {
        name: (found.delegated, found.non_delegated) for name, found in info.delegation_by_operator.items()
    }
    return program, counts


def _capacity(program: Any) -> int:
    """Read from the program itself for how many images its inputs have room."""
    plan = program.executorch_program.execution_plan[0]
    return min(int(plan.values[index].val.sizes[0]) for index in plan.inputs)


def _by_runner(
    counts: Mapping[str, tuple[int, int]], backend: str, wanted: Sequence[str] = ()
) -> dict[str, int]:
    """Sum operators by who runs them; of the `wanted` kinds only, if any are named."""
    total: Counter[str] = Counter()
    for name, (delegated, own) in counts.items():
        kind = name.split("_", 1)[-1].rsplit("_", 1)[0]
        if name not in INERT and (not wanted or kind in wanted):
            total[backend] += delegated
            total[PORTABLE] += own
    return {runner: count for runner, count in total.items() if count}


def _write(program: Any, path: Path) -> Path:
    with path.open("wb") as stream:
        program.write_to_file(stream)
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings about torch's and executorch's own insides to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _examples(inputs: Sequence[TensorSpec], batch_size: int) -> tuple[Tensor, ...]:
    """Make one tensor of zeros (batch_size, *shape) per input."""
    import torch

    return tuple(torch.zeros((batch_size, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in inputs)
