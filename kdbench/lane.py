"""What a worker times: the runners of one batch size, their inputs, and whether their answers still hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench import accuracy, measure
from kdbench.errors import BackendError, ContractError
from kdbench.inputs import image_rows, ring_of
from kdbench.spec import Pipelined, Runner, Session, Student, Target
from kdbench.student import Evaluation

if TYPE_CHECKING:
    from kdbench.spec import Array


@dataclass
class Lane:
    """The runners of one batch size with their inputs, samples and expected outputs."""

    batch: int
    depth: int
    plan: measure.SlicePlan
    runners: list[Runner]
    rings: list[measure.Ring]
    samples: measure.Samples = field(default_factory=measure.Samples)
    call_ns: float = 1e6
    expected: Array | None = None

    @property
    def runner(self) -> Runner:
        """The runner of the blocking loop."""
        return self.runners[0]


@dataclass
class Loaded:
    """An open session with the data that it is checked and timed with, and a lane per batch size.

    base_bytes: resident memory before the runtime was loaded, the data included.
    """

    student: Student
    target: Target
    session: Session
    evaluation: Evaluation
    base_bytes: int | None
    lanes: dict[int, Lane] = field(default_factory=dict)


class phase:  # noqa: N801  # reads as a statement
    """Turn whatever a plugin's runner or session raises into a BackendError of this phase."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> None:
        if fault is None:
            return
        if isinstance(fault, BackendError):
            fault.phase = fault.phase or self.name
            return
        if isinstance(fault, MemoryError):
            raise BackendError(f"Out of memory. {fault}", phase=self.name) from fault
        told = f"{type(fault).__name__}: {fault}".removesuffix(": ")
        raise BackendError(told, phase=self.name) from fault


def ring_for(loaded: Loaded, runner: Runner, batch: int) -> measure.Ring:
    """Fill a ring for a runner with images of the evaluation split."""
    with phase("run"):
        return ring_of(runner, loaded.evaluation.inputs, loaded.student.inputs, batch)


def infer(lane: Lane, evaluation: Evaluation, outputs: Sequence[Any], images: int) -> Array:
    """Run the first `images` of the split as the lane is timed: blocking, or with its depth in flight."""
    runner = lane.runner
    if lane.depth > 1 and isinstance(runner, Pipelined):
        return accuracy.infer_pipelined(runner, evaluation.inputs, outputs, lane.batch, images, lane.depth)
    return accuracy.infer(runner, evaluation.inputs, outputs, lane.batch, images)


def compare_last(loaded: Loaded, lane: Lane, outputs: tuple[Array, ...]) -> None:
    """Compare the last outputs of a timed loop with what the same images gave when they were checked.

    Raises ContractError for a buffer that was not ready, or holds another answer.
    """
    _compare(loaded, lane, outputs, image_rows(lane.rings[0].last, lane.batch, len(loaded.evaluation)))


def refuse_cache(loaded: Loaded, lane: Lane) -> None:
    """Ask once more with other images in memory that was just timed.

    Raises ContractError when the answer is the one for the images that were there before: inputs take
    turns, so a runner that remembers them would seem fast and right.
    """
    ring = lane.rings[0]
    entry, other = ring.entries[ring.last or 1], ring.entries[0]
    before = [array.copy() for array in entry]
    try:
        _fill(entry, other)
        with phase("run"):
            outputs = lane.runner(entry)
        _compare(loaded, lane, outputs, image_rows(0, lane.batch, len(loaded.evaluation)))
    finally:
        _fill(entry, before)


def _fill(entry: Sequence[Array], images: Sequence[Array]) -> None:
    for array, source in zip(entry, images, strict=True):
        array[...] = source


def _compare(loaded: Loaded, lane: Lane, outputs: object, rows: Array) -> None:
    if lane.expected is None:
        return
    known = rows < len(lane.expected)
    answer = accuracy.check_outputs(outputs, loaded.student.outputs, lane.batch)[0][known]
    limit = accuracy.TOLERANCE[loaded.target.precision] * float(loaded.evaluation.logits.std())
    same = np.isclose(answer, lane.expected[rows[known]], rtol=0.0, atol=limit, equal_nan=True)
    if not bool(same.all()):
        raise ContractError(
            "Outputs of the timed loop are not those that the same images gave before it: "
            "a stale buffer, or an answer from a cache.",
            phase="run",
        )
