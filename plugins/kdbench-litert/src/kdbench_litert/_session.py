"""A session: the file of each batch size, opened, and what the runtime tells of the first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Artifact, Placement, Target
from kdbench.errors import BackendError
from kdbench.spec import Precision
from kdbench_litert._compiled import CompiledRunner
from kdbench_litert._form import Form
from kdbench_litert._interpreter import InterpreterRunner, refuse

Model = InterpreterRunner | CompiledRunner

APIS: Mapping[str, type[Model]] = {"interpreter": InterpreterRunner, "compiled": CompiledRunner}

TASKS = Path("/proc/self/task")
"""Where Linux lists the threads of this process."""


class LitertSession:
    """Opens a file for each batch size at once, and again for each further runner of that size.

    A model has one memory and runs one call at a time, so that runners share nothing but the file.
    """

    def __init__(self, artifact: Artifact, target: Target) -> None:
        sizes: list[int | None] = json.loads(artifact.notes["batch_sizes"])
        self._files: Mapping[int | None, Path] = dict(zip(sizes, artifact.files, strict=True))
        self._open = partial(
            APIS[str(target.options["api"])],
            form=Form.from_notes(artifact.notes),
            threads=target.threads,
            xnnpack=bool(target.options["xnnpack"]),
        )
        self._runners: list[Model] = []
        self._ready: dict[int, Model] = {}
        self._closed = False
        before = _tasks()
        first = self._ready[target.batch_sizes[0]] = self._opened(target.batch_sizes[0])
        started = _tasks() - before
        self.placement = Placement(
            device="cpu",
            precision=_precision(artifact.files[0]),
            provider=first.provider(),
            # XNNPACK starts its pool when a model is opened; LiteRT's own kernels start theirs when they run.
            threads=1 + len(started) if before and first.provider() == "XNNPACK" else None,
            nodes=first.nodes(),
        )
        for batch_size in target.batch_sizes[1:]:
            self._ready[batch_size] = self._opened(batch_size)

    def runner(self, batch_size: int) -> Model:
        """Give a runner of its own; BackendError if the session is closed."""
        if self._closed:
            refuse()
        return self._ready.pop(batch_size, None) or self._opened(batch_size)

    def close(self) -> None:
        """Close all models."""
        self._closed = True
        for runner in self._runners:
            runner.close()
        self._runners.clear()
        self._ready.clear()

    def _opened(self, batch_size: int) -> Model:
        file = self._files.get(None) or self._files.get(batch_size)
        if file is None:
            sizes = ", ".join(map(str, self._files))
            raise BackendError(
                f"This artifact was compiled for batch sizes {sizes}, not for {batch_size}.",
                hint="Compile it for this batch size too.",
            )
        runner = self._open(file=file, batch_size=batch_size)
        self._runners.append(runner)
        return runner


def _tasks() -> frozenset[str]:
    """List the threads of this process; none where the system is not Linux."""
    return frozenset(task.name for task in TASKS.iterdir()) if TASKS.is_dir() else frozenset()


def _precision(file: Path) -> Precision:
    """Read back what a file computes in: on the CPU neither API makes anything else of a tensor's type."""
    kinds = {np.dtype(tensor["dtype"]).name for tensor in Interpreter(str(file)).get_tensor_details()}
    return "int8" if "int8" in kinds else "fp32"
