"""The batch axis: loosened where the graph fixes it, checked on real images, left fixed where it must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.accuracy import TOLERANCE
from kdbench.errors import StudentError
from kdbench.intake.graph import packed
from kdbench.intake.inferred import infer
from kdbench.intake.ports import Input, set_batch
from kdbench.intake.session import Session, answers, first_of
from kdbench.intake.walk import constants, number

if TYPE_CHECKING:
    from onnx import ModelProto

    from kdbench.spec import Array, Precision

TRIED = (1, 2, 5)
"""Batch sizes that a graph must answer alike to count as one of any batch size."""

CHECKED = 10
"""Images that are answered alone and among others."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of the batch axis: the only size that the graph takes, or None for any, and in words."""

    only: int | None
    told: str
    changes: tuple[str, ...] = ()


def settle_batch(
    model: ModelProto, port: Input, images: Array, precision: Precision
) -> tuple[ModelProto, Batch]:
    """Make the batch axis symbolic if the graph then still answers each image as it does alone.

    images: inputs (N, *shape). Where it does not, the batch size stays what it was, 1 if it was symbolic.
    Raises StudentError for a graph whose answers differ from call to call, or depend on the neighbours.
    """
    tolerance = TOLERANCE[precision]
    fixed = None
    if port.batch:
        set_batch(model, port.batch)
        fixed = Session(packed(model))
    faults = []
    for attempt in (_symbolic, _reshaped) if port.batch else (_symbolic,):
        changes = attempt(model := _copy(model), port)
        try:
            session = Session(packed(model))
            deviation = _any_batch(session, images, tolerance)
            if fixed is not None:
                _refuse_other(session, fixed, images, port.batch or 1, tolerance)
        except StudentError as fault:
            faults.append(fault)
            continue
        sizes = ", ".join(map(str, TRIED))
        close = f"within {deviation:.1g} of the scores' spread" if deviation else "exactly"
        told = f"any; {sizes} at once answer as one by one, {close}"
        return model, Batch(None, told, tuple(changes))
    only = port.batch or 1
    set_batch(model := _copy(model), only)
    _one_batch(Session(packed(model)), images, only, tolerance)
    was = "is built in" if port.batch else "alone works, though the graph promises any"
    return model, Batch(
        only, f"{only} only: it {was}", (f"the batch size stays {only}: {faults[0].message}",)
    )


def _symbolic(model: ModelProto, port: Input) -> list[str]:
    set_batch(model, None)
    return [f"its batch size of {port.batch} is any now"] if port.batch else []


def _reshaped(model: ModelProto, port: Input) -> list[str]:
    """Let each Reshape whose target begins with the batch size keep the first axis of what it gets."""
    from onnx import numpy_helper

    set_batch(model, port.batch)
    shapes, known = infer(model).shapes, constants(model)
    count = 0
    for node in model.graph.node:
        # The one attribute of opsets that take a target, `allowzero`, gives 0 another meaning unless it is 0.
        plain = (
            node.op_type == "Reshape" and len(node.input) == 2 and not any(one.i for one in node.attribute)
        )
        target = known.get(node.input[1]) if plain else None
        if target is None or shapes.get(node.input[0], (0,))[:1] != (port.batch,):
            continue
        sizes = numpy_helper.to_array(target).copy()
        if sizes.ndim == 1 and len(sizes) and sizes[0] == port.batch:
            # 0 means: as long as this axis of the input.
            sizes[0] = 0
            name = f"kdbench_shape_{count}"
            model.graph.initializer.append(numpy_helper.from_array(sizes, name))
            node.input[1] = name
            count += 1
    changes = _symbolic(model, port)
    return [
        *changes,
        f"the batch axis is kept, whatever its size, by {number(count, 'reshape')} that named it",
    ]


def _copy(model: ModelProto) -> ModelProto:
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _any_batch(session: Session, images: Array, tolerance: float) -> float:
    """Answer images alone, twice, and among others; gives the largest difference over the scores' spread."""
    images = first_of(images, CHECKED)
    alone, again = answers(session, images, 1), answers(session, images, 1)
    _refuse_fickle(alone, again, tolerance)
    largest = 0.0
    for size in TRIED[1:]:
        together = answers(session, images, size)
        if together.shape != alone.shape:
            raise StudentError(f"The model answers {size} images with {together.shape[1:]}")
        largest = max(largest, _difference(together, alone))
        if not largest <= tolerance:
            raise StudentError(f"{size} images at once are answered otherwise than one by one")
    return largest


def _refuse_other(session: Session, fixed: Session, images: Array, batch: int, tolerance: float) -> None:
    """Refuse a loosened graph that answers a batch of the fixed size otherwise than the graph did before."""
    images = first_of(images, batch)
    found, expected = session.run(images), fixed.run(images)
    if found.shape != expected.shape or not _difference(found, expected) <= tolerance:
        raise StudentError(f"{batch} images are answered otherwise once the batch axis is loosened")


def _one_batch(session: Session, images: Array, only: int, tolerance: float) -> None:
    """Refuse a graph of a fixed batch size that answers an image by what stands beside it."""
    import numpy as np

    images = first_of(images, max(2 * only, 2))
    there, again = answers(session, images, only), answers(session, images, only)
    _refuse_fickle(there, again, tolerance)
    if only > 1:
        elsewhere = np.roll(answers(session, np.roll(images, 1, axis=0), only), -1, axis=0)
        if not _difference(elsewhere, there) <= tolerance:
            raise StudentError(
                f"The model takes {only} images at once and answers each by what stands beside it.",
                hint="Export it for inference (model.eval()), so that an image has one answer.",
            )


def _refuse_fickle(one: Array, other: Array, tolerance: float) -> None:
    if not _difference(one, other) <= tolerance:
        raise StudentError(
            "The model answers the same image differently from call to call.",
            hint="Export it for inference (model.eval()): dropout or other chance is still in it.",
        )


def _difference(found: Array, expected: Array) -> float:
    """Give the largest difference in units of the spread of what was expected, or absolute without one."""
    import numpy as np

    found, expected = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        # Where both are infinite or NaN there is no difference; that is refused elsewhere, by its name.
        apart = np.where(
            (found == expected) | (np.isnan(found) & np.isnan(expected)), 0.0, np.abs(found - expected)
        )
        spread = float(np.nanstd(expected[np.isfinite(expected)])) if np.isfinite(expected).any() else 0.0
    return float(apart.max()) / (spread or 1.0)
