"""From somebody's own model to a bundle: every step of an import in its order."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from kdbench.card import Slug, unjudged
from kdbench.errors import StudentError, UsageError
from kdbench.intake.ask import FEWEST_IMAGES, Ask, Taken, Tell
from kdbench.intake.bundle import account, make_card, make_files, notes_on
from kdbench.intake.module import is_factory
from kdbench.intake.prepare import prepare
from kdbench.problems import parse
from kdbench.student import check_writable, write_bundle

_NEEDS = {"onnx": "onnx", "onnxruntime": "onnxruntime"}
_TORCH_NEEDS = {**_NEEDS, "onnxscript": "onnxscript", "safetensors": "safetensors", "torch": "torch"}


def take(ask: Ask, tell: Tell = lambda step: None) -> Taken:
    """Import a model as it was asked for, and write its bundle all at once or not at all.

    tell: is called with the name of each step that may take a while.
    Raises KdbenchError, with how to mend it, for whatever is not a classifier that a backend could run.
    """
    require_libraries(ask.model)
    check_ask(ask)
    name = student_name(ask)
    directory = ask.output or Path(name)
    check_writable(directory, overwrite=ask.overwrite)
    try:
        imported = prepare(ask, tell)
    except MemoryError as fault:
        raise StudentError(
            "The import needs more memory than there is.",
            hint="Take fewer images (--images), or smaller ones.",
        ) from fault
    card = make_card(ask, imported, name)
    tell("write the bundle")
    student = write_bundle(directory, card, make_files(imported), overwrite=ask.overwrite)
    labels, reason = imported.evaluation.labels, unjudged(card)
    correct = None
    if labels is not None and not reason:
        correct = int((imported.reference.argmax(axis=1) == labels).sum())
    return Taken(
        student=student,
        facts=account(card, imported),
        changes=imported.changes,
        notes=notes_on(ask, imported),
        images=len(imported.evaluation),
        correct=correct,
        reason=reason,
    )


def require_libraries(model: str) -> None:
    """Raise one UsageError that names every library that importing this model needs and that is not here."""
    needs = _NEEDS if model.lower().endswith(".onnx") else _TORCH_NEEDS
    lacking = [distribution for module, distribution in needs.items() if find_spec(module) is None]
    if lacking:
        raise UsageError(
            f"This import needs what is not installed here: {', '.join(lacking)}.",
            hint="In a checkout of kdbench: pip install -r requirements-dev.txt",
        )


def check_ask(ask: Ask) -> None:
    """Refuse options that make no sense together, before anything is read."""
    torch = is_factory(ask.model)
    if (ask.weights or ask.arguments) and not torch:
        raise UsageError(
            "--weights and --argument go with the name of a network, not with a file that has weights in it.",
            hint="Name the network as package.module:factory.",
        )
    if ask.evaluation is None and ask.images is not None and ask.images < FEWEST_IMAGES:
        raise UsageError(
            f"--images is {ask.images}; at least {FEWEST_IMAGES} random images are needed, so that no input "
            "is timed again and again.",
        )
    if ask.fit and not any(path and path.is_dir() for path in (ask.evaluation, ask.calibration)):
        raise UsageError("--fit resizes the images of a folder; neither --eval nor --calibration is one.")
    if ask.calibration is not None and ask.calibration == ask.evaluation:
        raise UsageError(
            "--calibration and --eval are the same; nothing may be calibrated with what it is tested on."
        )


def student_name(ask: Ask) -> str:
    """Give the name that was asked for, or one made from that of the model."""
    if ask.name:
        try:
            return str(parse(ask.name, Slug))
        except ValueError as fault:
            raise UsageError(f"--name {fault}.") from fault
    stem = ask.model.rpartition(":")[2] if is_factory(ask.model) else Path(ask.model).stem
    slug = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64]
    return slug or "model"
