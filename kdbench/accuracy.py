"""Correct before fast: what a runner answers to the whole evaluation split, against the reference.

`logits` and `reference` are `(N, classes)` float32; `labels` is `(N,)` integers. The tolerance of a
precision is relative to the spread of the reference's logits, their standard deviation over the split:
a deviation of 1e-3 means nothing beside logits of 10 and everything beside logits of 0.01.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.errors import ContractError
from kdbench.transfer import HOST, Transfer

if TYPE_CHECKING:
    from kdbench.spec import Array, Pipelined, Precision, Runner, TensorSpec

TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 1e-1, "int8": 5e-1}
"""Largest deviation of a logit, in units of the spread, that rounding in a precision explains.

Twice it is the margin below which a changed label is put down to rounding. Only for fp32 is exceeding it
an error: there, the computation is wrong; in fewer bits it is a loss that accuracy and flips show.
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the answers compare with the reference; see `records.AccuracyRecord` for the fields."""

    images: int
    correct: int | None
    reference_correct: int | None
    lost: int
    gained: int
    disagreements: int
    flips: int
    deviation: float
    tolerance: float
    non_finite: int
    constant: bool
    predictions: tuple[int, ...]


def compare(logits: Array, reference: Array, labels: Array | None, precision: Precision) -> Agreement:
    """Compare answers with the reference and, unless the student is untrained, with the labels."""
    spread = float(reference.std())
    tolerance = TOLERANCE[precision]
    finite: Array = np.logical_and.reduce(np.isfinite(logits), axis=1)
    predicted, expected = logits.argmax(axis=1), reference.argmax(axis=1)
    # A reference without spread tells no image from another: there, the deviation is absolute.
    deviation = np.abs(np.where(finite[:, None], logits - reference, 0.0)).max() / (spread or 1.0)
    ordered = np.sort(reference, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    differs = predicted != expected
    right = None if labels is None else (predicted == labels) & finite
    was_right = None if labels is None else expected == labels
    return Agreement(
        images=len(logits),
        correct=None if right is None else int(right.sum()),
        reference_correct=None if was_right is None else int(was_right.sum()),
        lost=0 if right is None or was_right is None else int((was_right & ~right).sum()),
        gained=0 if right is None or was_right is None else int((right & ~was_right).sum()),
        disagreements=int(differs.sum()),
        flips=int((differs & (margin > 2 * tolerance * spread)).sum()),
        deviation=float(deviation),
        tolerance=tolerance,
        non_finite=int((~finite).sum()),
        constant=len(logits) > 1 and float(np.ptp(reference, axis=0).max()) > 0 and is_constant(logits),
        predictions=tuple(int(label) for label in predicted),
    )


def is_constant(logits: Array) -> bool:
    """Tell whether every image got the very same answer."""
    return bool((logits == logits[0]).all())


def fault(agreement: Agreement, precision: Precision) -> str:
    """Say in one sentence why these answers make a cell invalid, or nothing where they do not."""
    if agreement.non_finite:
        return f"{agreement.non_finite} of {agreement.images} answers hold NaN or infinity."
    if agreement.constant:
        return f"All {agreement.images} images get the very same answer; the reference tells them apart."
    if precision == "fp32" and agreement.deviation > agreement.tolerance:
        return (
            f"fp32 logits deviate from the reference by {agreement.deviation:.2g} of their spread, "
            f"beyond the tolerance of {agreement.tolerance:g}; {agreement.disagreements} of "
            f"{agreement.images} labels differ."
        )
    return ""


def batches(inputs: Sequence[Array], batch: int) -> Iterator[tuple[int, tuple[Array, ...]]]:
    """Cut a split into full batches, as (first index, arrays); the last is filled up from the start."""
    count = len(inputs[0])
    for first in range(0, count, batch):
        index = np.arange(first, first + batch) % count
        yield first, tuple(np.ascontiguousarray(array[index]) for array in inputs)


def check_outputs(outputs: object, specs: Sequence[TensorSpec], batch: int) -> tuple[Array, ...]:
    """Refuse outputs that are not a tuple of host arrays of the declared shapes and dtypes."""
    if not isinstance(outputs, tuple):
        raise ContractError(
            f"The runner answered {type(outputs).__name__}, not a tuple of arrays.", phase="run"
        )
    if len(outputs) != len(specs):
        raise ContractError(f"The runner answered {len(outputs)} outputs, not {len(specs)}.", phase="run")
    for output, spec in zip(outputs, specs, strict=True):
        if not isinstance(output, np.ndarray):
            found = type(output).__name__
            raise ContractError(
                f"Output {spec.name!r} is {found}, not a NumPy array on the host.", phase="run"
            )
        shape = (batch, *spec.shape)
        if output.shape != shape or output.dtype != np.dtype(spec.dtype):
            raise ContractError(
                f"Output {spec.name!r} is {output.dtype} {list(output.shape)}; "
                f"the student declares {spec.dtype} {list(shape)}.",
                phase="run",
            )
    return outputs


def infer(
    runner: Runner,
    inputs: Sequence[Array],
    specs: Sequence[TensorSpec],
    batch: int,
    images: int,
    transfer: Transfer = HOST,
) -> Array:
    """Run the first `images` of a split and collect the first output, `(images, classes)`, copied.

    transfer: how each batch gets to the runner, and its answer back.
    Raises `ContractError` for outputs of another shape or dtype and for a runner that writes to its input.
    """
    subset = [array[:images] for array in inputs]
    logits = np.empty((images, *specs[0].shape), dtype=specs[0].dtype)
    for first, arrays in batches(subset, batch):
        before = tuple(array.copy() for array in arrays)
        answer = transfer.download(runner(transfer.upload(arrays)))
        _collect(logits, first, check_outputs(answer, specs, batch)[0])
        _unwritten(before, arrays)
    return logits


def infer_pipelined(
    runner: Pipelined,
    inputs: Sequence[Array],
    specs: Sequence[TensorSpec],
    batch: int,
    images: int,
    depth: int,
    transfer: Transfer = HOST,
) -> Array:
    """Do what `infer` does through `submit` and `wait`, with `depth` requests in flight."""
    subset = [array[:images] for array in inputs]
    logits = np.full((images, *specs[0].shape), np.nan, dtype=specs[0].dtype)
    pending: dict[int, tuple[tuple[Array, ...], tuple[Array, ...], Any]] = {}

    def complete() -> None:
        completed = runner.wait()
        if not completed:
            raise ContractError("wait() came back empty while requests were in flight.", phase="run")
        for tag, outputs in completed:
            if tag not in pending:
                raise ContractError(f"wait() gave back tag {tag}, which was not in flight.", phase="run")
            _collect(logits, tag, check_outputs(transfer.download(outputs), specs, batch)[0])
            before, arrays, _ = pending.pop(tag)
            _unwritten(before, arrays)

    for first, arrays in batches(subset, batch):
        if len(pending) == depth:
            complete()
        before, entry = tuple(array.copy() for array in arrays), transfer.upload(arrays)
        pending[first] = before, arrays, entry
        runner.submit(entry, first)
    while pending:
        complete()
    return logits


def _collect(logits: Array, first: int, output: Array) -> None:
    room = logits[first : first + len(output)]
    room[:] = output[: len(room)]


def _unwritten(before: Sequence[Array], after: Sequence[Array]) -> None:
    for old, new in zip(before, after, strict=True):
        if not np.array_equal(old, new, equal_nan=True):
            raise ContractError("The runner wrote to its input, which is not its own.", phase="run")
