"""The reference: onnxruntime on the CPU, its graph optimisations off, the same for every student."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from kdbench.errors import StudentError
from kdbench.intake.walk import number
from kdbench.strict import clean

if TYPE_CHECKING:
    from kdbench.spec import Array

MOST_THREADS = 8
"""More do not pay at the small batches of a reference; the outcome does not depend on their number."""

_NO_ROOM = "Failed to allocate memory"
_LARGE = "It wants more memory than there is; for large images, see whether --shape and --images are right."
_REFERENCE = "onnxruntime computes the reference; what it cannot run, kdbench cannot verify."

CHUNK_BYTES = 16 << 20
LARGEST_CHUNK = 32

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_NODE = re.compile(
    r"Non-zero status code returned while running (\w+) node\. Name:('[^']*') Status Message: "
)
_SOURCE = re.compile(r"\S*onnxruntime_src/\S+ .*?\) (?=\w)")


class Session:
    """One graph, ready to answer; `kind` is the type of its output as onnxruntime names it."""

    def __init__(self, content: bytes) -> None:
        """Load a graph; StudentError with onnxruntime's own words if it does not take it."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
        # Fatal only: a shape that a graph declares wrongly is a warning at every call.
        options.log_severity_level = 4
        try:
            self._session: Any = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        # Its exceptions share no base but Exception.
        except Exception as fault:
            raise StudentError(
                f"onnxruntime {ort.__version__}, which computes the reference, refuses the model: "
                f"{reason(fault)}.",
                hint="Export the model anew, for opset 20 if a version is at fault; fp32 if a type is.",
            ) from fault
        self._input = self._session.get_inputs()[0].name
        self.output: str = self._session.get_outputs()[0].name
        self.kind: str = self._session.get_outputs()[0].type

    def run(self, images: Array) -> Array:
        """Answer one batch as it is. Raises StudentError with what onnxruntime says where it fails."""
        try:
            answer: Array = self._run([self.output], images)[0]
        except Exception as fault:
            told = reason(fault)
            raise StudentError(
                f"The model fails on {number(len(images), 'image')}: {told}.",
                hint=_LARGE if _NO_ROOM in told else _REFERENCE,
            ) from fault
        return answer

    def run_all(self, images: Array) -> dict[str, tuple[int, ...]]:
        """Answer one batch and give the shape of every output of the graph by name."""
        names = [output.name for output in self._session.get_outputs()]
        try:
            found = self._run(names, images)
        except Exception as fault:
            told = number(len(images), "image")
            raise StudentError(f"The model fails on {told}: {reason(fault)}.") from fault
        return {name: tuple(array.shape) for name, array in zip(names, found, strict=True)}

    def _run(self, names: list[str], images: Array) -> list[Array]:
        """Run in a thread: while native code works, Python hears no Ctrl-C, and a loop may never end."""
        import onnxruntime as ort

        options = ort.RunOptions()
        options.log_severity_level = 4
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._session.run, names, {self._input: images}, options)
            try:
                found: list[Array] = answer.result()
            except BaseException:
                # Looked at between two nodes of the graph.
                options.terminate = True
                raise
        return found


def answers(session: Session, images: Array, batch: int | None) -> Array:
    """Answer all images, (N, ...), `batch` at once; None for as many as pay, the last batch then smaller.

    A batch of a fixed size is filled up from the start.
    """
    import numpy as np

    chunk = batch or int(np.clip(CHUNK_BYTES // max(1, images[:1].nbytes), 1, LARGEST_CHUNK))
    parts = []
    for first in range(0, len(images), chunk):
        rows: Sequence[int] = range(first, min(first + chunk, len(images)))
        if batch:
            rows = [row % len(images) for row in range(first, first + chunk)]
        parts.append(session.run(np.ascontiguousarray(images[list(rows)])))
    return np.concatenate(parts)[: len(images)]


def first_of(images: Array, count: int) -> Array:
    """Take this many images from the start; over and over where there are fewer."""
    import numpy as np

    return np.ascontiguousarray(images[np.arange(count) % len(images)])


def _placed(found: re.Match[str]) -> str:
    return f"{found[1]} node: " if found[2] == "''" else f"{found[1]} node {found[2]}: "


def reason(fault: Exception) -> str:
    """Give what onnxruntime says as one line without its error codes and source files."""
    line = _NODE.sub(_placed, _PREFIX.sub("", str(fault).strip()).split("\n")[0])
    return clean(_SOURCE.sub("", line)).strip().rstrip(".")[:300] or type(fault).__name__
