"""Everything of an import but the writing: a model made fit for a bundle, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdbench.accuracy import TOLERANCE, compare
from kdbench.card import ELEMENTS_LIMIT, Encoding
from kdbench.errors import StudentError, UsageError
from kdbench.intake.ask import Ask, Meaning, Tell
from kdbench.intake.batch import Batch, settle_batch
from kdbench.intake.choice import choose_output
from kdbench.intake.cost import count_macs, is_countable, measured, refuse_non_numbers
from kdbench.intake.encoding import draft, encoding_of, within
from kdbench.intake.evaluation import choose, name_classes, read_pictures, refuse_shared
from kdbench.intake.graph import packed
from kdbench.intake.images import how_many, random_images
from kdbench.intake.inferred import infer, observe
from kdbench.intake.module import CHUNK, Exported
from kdbench.intake.output import as_scores, binary, find_meaning
from kdbench.intake.pictures import Pictures
from kdbench.intake.ports import Input, find_input
from kdbench.intake.precision import find_precision, weighs_in_batch
from kdbench.intake.session import Session, answers, first_of
from kdbench.intake.source import read_model
from kdbench.problems import quote
from kdbench.student import decoded

if TYPE_CHECKING:
    from onnx import ModelProto

    from kdbench.spec import Array, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """All that is known of a model once it is made fit for a bundle.

    model: the graph as it is stored. reference: (N, classes) float32. exported: where it came from torch.
    evaluation: with labels numbered as `classes`, or random images. inputs: (N, *shape), made of them.
    """

    model: ModelProto
    sha256: str
    exported: Exported | None
    port: Input
    batch: Batch
    precision: Precision
    macs: int | None
    meaning: Meaning
    encoding: Encoding
    evaluation: Pictures
    calibration: Pictures | None
    inputs: Array
    reference: Array
    classes: tuple[str, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model with one input and one output. place: of the latter among the outputs that torch answers."""

    model: ModelProto
    sha256: str
    exported: Exported | None
    place: int
    port: Input
    changes: tuple[str, ...]


def prepare(ask: Ask, tell: Tell) -> Imported:
    """Do all of an import but the writing."""
    tell("read the model")
    opened = _open(ask)
    model, port, exported = opened.model, opened.port, opened.exported
    tell("read the images")
    evaluation, calibration = _pictures(ask, port)
    encoding, inputs = _inputs(ask, port, evaluation)
    tell("run it")
    shaped, meaning = as_scores(model, port, inputs, ask.meaning)
    count = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    classes, named = name_classes(evaluation if ask.evaluation else None, ask.classes, count)
    precision = find_precision(model, infer(model))
    tell("check the batch axis")
    model, batch = settle_batch(model, port, inputs, precision)
    tell("compute the reference")
    reference = _answered(model, inputs, batch)
    if exported:
        exported, reference = _by_torch(exported, opened, inputs, reference, precision, meaning)
    return Imported(
        model=model,
        sha256=opened.sha256,
        exported=exported,
        port=port,
        batch=batch,
        precision=precision,
        macs=_macs(model, first_of(inputs, batch.only or 1)),
        meaning=find_meaning(model, reference, meaning or ask.meaning, precision),
        encoding=encoding,
        evaluation=named or evaluation,
        calibration=calibration,
        inputs=inputs,
        reference=reference,
        classes=classes,
        changes=(*opened.changes, *shaped, *batch.changes),
        notes=exported.notes if exported else (),
    )


def _open(ask: Ask) -> Opened:
    """Read the model, and leave one input and one output in it."""
    graph, exported = read_model(ask)
    model, outputs = graph.model, [port.name for port in graph.model.graph.output]
    if exported and ask.output_tensor and ask.output_tensor not in outputs:
        raise UsageError(
            f"The network has no output {quote(ask.output_tensor)}; it has {', '.join(map(quote, outputs))}.",
            hint="Inside a torch network there is no tensor to choose: let its forward() answer it.",
        )
    chosen = choose_output(model, ask.output_tensor)
    name = model.graph.output[0].name
    port, renamed = find_input(model, ask.shape, ask.layout)
    refuse_non_numbers(model)
    place = outputs.index(name) if name in outputs else 0
    return Opened(model, graph.sha256, exported, place, port, (*graph.changes, *chosen, *renamed))


def _pictures(ask: Ask, port: Input) -> tuple[Pictures, Pictures | None]:
    """Get the evaluation images, the user's or random ones, and those for calibration if there are any."""
    if ask.evaluation:
        evaluation = choose(read_pictures(ask.evaluation, port=port, fit=ask.fit), ask.images, ask.seed)
    else:
        evaluation = Pictures(random_images(port, how_many(port, ask.images), ask.seed), None)
    calibration = None
    if ask.calibration:
        calibration = replace(read_pictures(ask.calibration, port=port, fit=ask.fit), labels=None)
        refuse_shared(evaluation, calibration)
    for pictures in filter(None, (evaluation, calibration)):
        if pictures.images.size > ELEMENTS_LIMIT:
            raise StudentError(
                f"{len(pictures)} images are more than a bundle holds: {pictures.images.size} values, "
                f"the limit is {ELEMENTS_LIMIT}.",
                hint="Take fewer: --images N draws them from the evaluation's.",
            )
    return evaluation, calibration


def _inputs(ask: Ask, port: Input, evaluation: Pictures) -> tuple[Encoding, Array]:
    """Turn stored images into inputs as every backend will be handed them."""
    encoding = encoding_of(ask, port, str(evaluation.images.dtype))
    inputs = decoded(draft(port, encoding, len(evaluation)), evaluation.images)
    return within(encoding, inputs), inputs


def _macs(model: ModelProto, images: Array) -> int | None:
    """Count by inferred shapes, and where some are not known, by those that are seen when it runs."""
    if not is_countable(model):
        return None
    found = count_macs(model, infer(model).shapes)
    return count_macs(model, observe(model, images, measured(model))) if found is None else found


def _answered(model: ModelProto, inputs: Array, batch: Batch) -> Array:
    """Give the scores of all images, (N, classes) float32; StudentError where some are no numbers."""
    import numpy as np

    # One by one where an image's answer hangs on what stands beside it.
    together = batch.only or (1 if weighs_in_batch(model) else None)
    reference = answers(Session(packed(model)), inputs, together).astype(np.float32)
    bad = len(reference) - int(np.isfinite(reference).all(axis=1).sum())
    if bad:
        raise StudentError(
            f"The model answers {bad} of {len(reference)} images with NaN or infinity.",
            hint="See that the images are normalised as it was trained: --divisor, --mean, --std.",
        )
    return reference


def _by_torch(
    exported: Exported,
    opened: Opened,
    inputs: Array,
    found: Array,
    precision: Precision,
    meaning: Meaning | None,
) -> tuple[Exported, Array]:
    """Answer with the torch network itself, and hold the exported graph's answers, `found`, to it.

    meaning: of an output that was one number per image. A network whose output the graph changes is kept
    as ONNX alone.
    """
    only = opened.port.batch
    raw = exported.predict(inputs, only or CHUNK)
    answered = raw[opened.place]
    expected = answered.reshape(len(inputs), -1)
    if expected.shape[1] == 1 and meaning:
        expected = binary(expected, meaning)
    agreement = compare(found, expected, None, precision)
    if not agreement.deviation <= TOLERANCE[precision] or agreement.flips:
        raise StudentError(
            "The ONNX form is not the torch network: its scores differ by up to "
            f"{agreement.deviation:.2g} of their spread (allowed {TOLERANCE[precision]:g}), and "
            f"{agreement.disagreements} of {len(inputs)} answers change.",
            hint="The exporter is at fault; use the versions in constraints.txt, or export to ONNX yourself.",
        )
    if exported.factory and (len(raw) > 1 or answered.shape != found.shape or only):
        why = "takes one batch size only" if only else "answers otherwise than as a row of scores"
        note = f"the bundle holds the network as ONNX only: as a torch network it {why}"
        exported = replace(exported, factory=None, arguments={}, weights=None, notes=(*exported.notes, note))
    return exported, expected
