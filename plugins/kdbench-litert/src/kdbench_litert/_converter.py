"""PyTorch to `.tflite` by litert-torch, one file per batch size.

The file takes and answers what the student declares, NCHW images too: a transpose that a layout needs is an
operator of the graph, and timed. With dynamic shapes there is one file, which the runtime resizes, since
litert-torch 0.10 converts no free batch axis (github.com/google-ai-edge/litert-torch/issues/870).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench import Artifact, Student, Target, Unsupported
from kdbench_litert._form import Form

if TYPE_CHECKING:
    from torch import nn

NEEDED = {"torch": "torch", "safetensors": "safetensors", "litert_torch": "litert-torch"}
"""Modules, and the distributions that bring them."""

INSTALL = "pip install torch safetensors 'litert-torch>=0.10,<0.11'"
EXAMPLE_BATCH = 2
"""Of the file that is resized: a size of 1 that is baked into a graph would fit any other by broadcasting."""


def convert(student: Student, target: Target, workdir: Path) -> Artifact:
    """Convert for every batch size, or once if the target is dynamic, and hold each file to the student."""
    lacking = [distribution for module, distribution in NEEDED.items() if find_spec(module) is None]
    if lacking:
        raise Unsupported(
            f"Converting to .tflite, unlike running it, needs what is not installed: {', '.join(lacking)}.",
            hint=f"{INSTALL}; or compile elsewhere (`kdbench compile STUDENT -b litert --output DIR`) and "
            "run that here (`kdbench run --artifact DIR --trust-code`).",
        )
    from kdbench.networks import build

    network, form = build(student), Form.of(student)
    files = {}
    for batch_size in (None,) if target.dynamic else target.batch_sizes:
        file = workdir / f"batch-{batch_size or 'any'}.tflite"
        file.write_bytes(_converted(student, network, batch_size or EXAMPLE_BATCH))
        files[batch_size] = file
        for wanted in target.batch_sizes if batch_size is None else (batch_size,):
            _hold(file, form, wanted)
    return Artifact(tuple(files.values()), {"batch_sizes": json.dumps(list(files)), **form.to_notes()})


def _converted(student: Student, network: nn.Module, batch_size: int) -> bytes:
    """Convert for one batch size; Unsupported for whatever litert-torch stumbles over."""
    import torch

    example = tuple(
        torch.zeros((batch_size, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in student.inputs
    )
    with _quiet() as litert_torch:
        try:
            converted: bytes = litert_torch.convert(network, example).model_content()
        except MemoryError:
            raise
        # Exporting runs the network's own code, lowering is a chain of tools: anything may come out of it.
        except Exception as fault:
            reason = (str(fault).splitlines() or [""])[0]
            raise Unsupported(
                f"litert-torch cannot convert {student.name}: {type(fault).__name__}: {reason}",
                hint="Use another backend for this student.",
            ) from fault
    return converted


def _hold(file: Path, form: Form, batch_size: int) -> None:
    """Open the file as `load` will; Unsupported where shapes or types are not the student's."""
    from kdbench_litert._interpreter import InterpreterRunner

    try:
        InterpreterRunner(file, form, batch_size, threads=1, xnnpack=True).close()
    except (RuntimeError, ValueError) as fault:
        raise Unsupported(
            f"LiteRT cannot open what was converted at batch size {batch_size}: {fault}",
            hint="Leave out dynamic shapes.",
        ) from fault


@contextmanager
def _quiet() -> Iterator[Any]:
    """Give litert-torch without its progress bars, and without warnings that are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litert_torch

        before = litert_torch.config.show_progress
        litert_torch.config.show_progress = False
        try:
            yield litert_torch
        finally:
            litert_torch.config.show_progress = before
