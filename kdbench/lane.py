"""What a worker times: the runners of one batch size, their inputs, and whether their answers still hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench import accuracy, measure
from kdbench.errors import BackendError, ContractError
from kdbench.gpuwatch import GpuWatch
from kdbench.inputs import fill, image_rows, ring_of
from kdbench.spec import (
    Boundary,
    Concurrency,
    DeviceTimed,
    Pipelined,
    Resident,
    Runner,
    Session,
    Student,
    Target,
)
from kdbench.student import Evaluation
from kdbench.transfer import HOST, Transfer

if TYPE_CHECKING:
    from kdbench.spec import Array

DEVICE_CALLS = 5
DEVICE_SHARE = 0.25
"""Device time is the median of so many calls, or of as many as fit in this share of a slice, at least one."""

LONGEST_NS = 1 << 60


@dataclass
class Lane:
    """The runners of one batch size with their inputs, samples and expected outputs.

    transfer: how inputs get to the first runner and its outputs back, for all that is not timed.
    """

    batch: int
    depth: int
    plan: measure.SlicePlan
    runners: list[Runner]
    rings: list[measure.Ring]
    transfer: Transfer = HOST
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

    runner_of: makes a runner of the session, for a batch size and a depth. concurrency: what its backend
    declares. base_bytes: resident memory before the runtime was loaded, the data included. gpu: looks at the
    GPU that it computes on, or at none.
    """

    student: Student
    target: Target
    session: Session
    runner_of: Callable[[int, int], Runner]
    concurrency: Concurrency
    evaluation: Evaluation
    base_bytes: int | None
    lanes: dict[int, Lane] = field(default_factory=dict)
    gpu: GpuWatch = field(default_factory=GpuWatch)


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


def transfer_of(runner: Runner, boundary: Boundary) -> Transfer:
    """Tell how inputs get to a runner, and its outputs back.

    Raises ContractError for a runner without that at the boundary `device`, which its backend declares.
    """
    if boundary == "host":
        return HOST
    lacking = [name for name in ("upload", "download") if not callable(getattr(runner, name, None))]
    if not isinstance(runner, Resident) or lacking:
        raise ContractError(
            f"The backend declares the boundary {boundary}, and its runner lacks "
            f"{'() and '.join(lacking)}().",
            phase="run",
        )
    return Transfer(boundary, runner.upload, runner.download)


def ring_for(loaded: Loaded, runner: Runner, batch: int) -> measure.Ring:
    """Fill a ring for a runner with images of the evaluation split, where its calls begin."""
    transfer = transfer_of(runner, loaded.target.boundary)
    with phase("run"):
        return ring_of(runner, loaded.evaluation.inputs, loaded.student.inputs, batch, transfer)


def infer(lane: Lane, evaluation: Evaluation, outputs: Sequence[Any], images: int) -> Array:
    """Run the first `images` of the split as the lane is timed: blocking, or with its depth in flight."""
    runner, inputs, transfer = lane.runner, evaluation.inputs, lane.transfer
    if lane.depth > 1 and isinstance(runner, Pipelined):
        return accuracy.infer_pipelined(runner, inputs, outputs, lane.batch, images, lane.depth, transfer)
    return accuracy.infer(runner, inputs, outputs, lane.batch, images, transfer)


def device_time(lane: Lane) -> float | None:
    """Make a few calls of their own and give the median device time that the runner tells of them, in ns.

    None where it tells none. The ring stays where it is. Raises ContractError for what is no time.
    """
    runner = lane.runner
    if not isinstance(runner, DeviceTimed):
        return None
    told: list[int] = []
    deadline = perf_counter_ns() + DEVICE_SHARE * lane.plan.slice_s * 1e9
    for inputs in islice(cycle(lane.rings[0].entries), DEVICE_CALLS):
        with phase("run"):
            found = runner.device_ns(inputs)
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < LONGEST_NS:
            raise ContractError(
                f"device_ns() answered {found!r}; whole nanoseconds above 0, or None, are promised.",
                phase="run",
            )
        told.append(found)
        if perf_counter_ns() >= deadline:
            break
    return median(told)


def compare_last(loaded: Loaded, lane: Lane, outputs: Any) -> None:
    """Compare the last outputs of a timed loop with what the same images gave when they were checked.

    Raises ContractError for a buffer that was not ready, or holds another answer.
    """
    _compare(loaded, lane, outputs, image_rows(lane.rings[0].last, lane.batch, len(loaded.evaluation)))


def refuse_cache(loaded: Loaded, lane: Lane) -> None:
    """Ask once more with other images in memory that was just timed.

    Raises ContractError when the answer is the one for the images that were there before: inputs take
    turns, so a runner that remembers them would seem fast and right.
    """
    with phase("run"), _other_images(loaded, lane, lane.rings[0].last or 1) as entry:
        outputs = lane.runner(entry)
        _compare(loaded, lane, outputs, image_rows(0, lane.batch, len(loaded.evaluation)))


@contextmanager
def _other_images(loaded: Loaded, lane: Lane, index: int) -> Iterator[Any]:
    """Give an entry of the ring that has the images of entry 0 meanwhile.

    Memory of a device cannot be written from here. There, the entry is given up and another uploaded: an
    allocator hands out what it got back, and what a runner knew by its address is another's.
    """
    ring, split = lane.rings[0], loaded.evaluation.inputs
    if lane.transfer.boundary == "host":
        try:
            fill(ring.entries[index], split, 0)
            yield ring.entries[index]
        finally:
            fill(ring.entries[index], split, index)
        return
    for images in (0, index):
        staged = tuple(array[image_rows(images, lane.batch, len(array))] for array in split)
        ring.put(index, None)
        ring.put(index, lane.transfer.upload(staged))
        if images == 0:
            yield ring.entries[index]


def _compare(loaded: Loaded, lane: Lane, outputs: Any, rows: Array) -> None:
    if lane.expected is None:
        return
    known = rows < len(lane.expected)
    with phase("run"):
        arrays = lane.transfer.download(outputs)
    answer = accuracy.check_outputs(arrays, loaded.student.outputs, lane.batch)[0][known]
    limit = accuracy.TOLERANCE[loaded.target.precision] * float(loaded.evaluation.logits.std())
    same = np.isclose(answer, lane.expected[rows[known]], rtol=0.0, atol=limit, equal_nan=True)
    if not bool(same.all()):
        raise ContractError(
            "Outputs of the timed loop are not those that the same images gave before it: "
            "a stale buffer, or an answer from a cache.",
            phase="run",
        )
