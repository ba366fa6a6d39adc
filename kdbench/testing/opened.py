"""A backend with a student compiled and loaded, as the checks use it, and how its answers are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.accuracy import TOLERANCE
from kdbench.backends import Backend
from kdbench.spec import PRECISIONS, Artifact, Available, BackendInfo, Runner, Session, Student, Target
from kdbench.student import Evaluation
from kdbench.testing.finding import Broken

if TYPE_CHECKING:
    from kdbench.spec import Array, Precision

    Arrays = tuple[Array, ...]

BATCH_SIZES = (1, 8)
AGREEMENT_MIN = 0.95
"""Least share of labels that are the reference's, in any precision but fp32."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend with the student compiled and loaded."""

    backend: Backend
    student: Student
    evaluation: Evaluation
    target: Target
    workdir: Path
    artifact: Artifact
    session: Session

    def runner(self, batch_size: int, depth: int = 1) -> Runner:
        """Get a new runner of the session."""
        return self.backend.run(self.session, batch_size, depth)

    def resident(self, batch_size: int, depth: int = 1) -> Any:
        """Get a new runner of a session at the boundary `device`, which can do what that asks of it."""
        runner = self.runner(batch_size, depth)
        for name in ("upload", "download"):
            if not callable(getattr(runner, name, None)):
                raise Broken(f"The runner at the boundary device has no {name}().")
        return runner

    def batch(self, start: int, count: int) -> Arrays:
        """Copy `count` images of the evaluation split, from `start` on."""
        return tuple(array[start : start + count].copy() for array in self.evaluation.inputs)

    def deviation(self, some: Arrays, others: Arrays) -> float:
        """Give the largest difference, in units of the spread of the reference's logits; infinity for NaN."""
        spread = float(self.evaluation.logits.std()) or 1.0
        largest = max(
            float(np.abs(one.astype("float64") - other).max()) / spread
            for one, other in zip(some, others, strict=True)
        )
        return largest if np.isfinite(largest) else float("inf")

    def hold_close(self, some: Arrays, others: Arrays, what: str) -> None:
        """Raise Broken where two answers to the same images differ by more than rounding."""
        found, limit = self.deviation(some, others), TOLERANCE[self.target.precision]
        if found > limit:
            raise Broken(
                f"{what} differ by {found:.2g} of the spread of the reference's logits; rounding in "
                f"{self.target.precision} explains {limit:g}."
            )

    def hold_declared(self, outputs: Any, batch_size: int) -> None:
        """Raise Broken for outputs that are not arrays as the student declares them."""
        if not isinstance(outputs, tuple) or len(outputs) != len(self.student.outputs):
            number = f" of {len(outputs)}" if isinstance(outputs, tuple) else ""
            raise Broken(
                f"At batch size {batch_size} the runner answered {_a(outputs)}{number}, and a tuple of "
                f"{len(self.student.outputs)} is expected."
            )
        for spec, array in zip(self.student.outputs, outputs, strict=True):
            shape = (batch_size, *spec.shape)
            if not isinstance(array, np.ndarray):
                raise Broken(f"Output {spec.name!r} is {_a(array)}, and no NumPy array.")
            if array.shape != shape or array.dtype.name != spec.dtype:
                raise Broken(
                    f"Output {spec.name!r} is {array.dtype.name} {list(array.shape)}, and the student "
                    f"declares {spec.dtype} {list(shape)}."
                )
            if not array.flags.c_contiguous:
                raise Broken(f"Output {spec.name!r} is not C-contiguous: its strides are {array.strides}.")


def precisions(info: BackendInfo, available: Available, device: str) -> list[Precision]:
    """List what the device computes in, fp32 first where it has it."""
    known = [one.precisions for one in available.devices if one.id == device and one.precisions]
    return sorted(known[0] if known else info.precisions, key=PRECISIONS.index)


def agreement_fault(opened: Opened, logits: Array, precision: Precision) -> str:
    """Say in a sentence why logits are not the reference's within a precision; empty where they are."""
    reference = opened.evaluation.logits[: len(logits)]
    if lost := int((~np.isfinite(logits)).any(axis=1).sum()):
        return f"{lost} of {len(logits)} answers hold NaN or infinity."
    if precision == "fp32":
        found, limit = opened.deviation((logits,), (reference,)), TOLERANCE[precision]
        return (
            f"fp32 logits deviate from the reference by {found:.2g} of their spread; {limit:g} is allowed."
            if found > limit
            else ""
        )
    same = float(np.mean(logits.argmax(1) == reference.argmax(1)))
    return (
        f"In {precision}, {same:.1%} of the labels are the reference's; {AGREEMENT_MIN:.0%} are expected."
        if same < AGREEMENT_MIN
        else ""
    )


def logits_of(opened: Opened, session: Session) -> Array:
    """Run the evaluation split in batches of 8, a rest left out, and give the first output."""
    runner = opened.backend.run(session, 8)
    starts = range(0, len(opened.evaluation) // 8 * 8, 8)
    return np.concatenate([runner(opened.batch(start, 8))[0].copy() for start in starts])


def copied(arrays: Arrays) -> Arrays:
    """Copy what may be overwritten by the next call."""
    return tuple(array.copy() for array in arrays)


def equal(some: Arrays, others: Arrays) -> bool:
    """Tell whether arrays are the same to the last bit."""
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def _a(thing: object) -> str:
    return "nothing" if thing is None else f"a {type(thing).__name__}"
