"""What an import writes and says: the card, the files, and the account of what was found and done."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import kdbench
from kdbench.accuracy import is_constant
from kdbench.arrays import pack_npy, pack_npz
from kdbench.card import Card, Data, Network, Plain
from kdbench.intake.ask import Ask
from kdbench.intake.cost import count_bytes, count_parameters
from kdbench.intake.encoding import draft, pixel, scaled_by
from kdbench.intake.graph import operators, packed
from kdbench.intake.module import is_factory
from kdbench.intake.precision import weighs_in_batch
from kdbench.spec import TensorSpec
from kdbench.strict import clean

if TYPE_CHECKING:
    from kdbench.intake.prepare import Imported

LINE = 1000
"""Characters that a text in a card may have."""


def make_card(ask: Ask, imported: Imported, name: str) -> Card:
    """Describe the student. The same model, images and versions give the same card."""
    import msgspec

    output = imported.model.graph.output[0]
    exported = imported.exported
    return msgspec.structs.replace(
        draft(imported.port, imported.encoding, len(imported.evaluation)),
        name=name,
        title=_line(f"imported from {_origin(ask)}"),
        classes=imported.classes,
        trained=exported is None or exported.trained,
        licence=_line(ask.licence),
        outputs=(
            TensorSpec(output.name, (len(imported.classes),), _dtype(output.type.tensor_type.elem_type)),
        ),
        meaning=imported.meaning,
        precision=imported.precision,
        batch=imported.batch.only,
        network=_network(imported),
        recipe={"import": _settings(ask, imported)},
        data=_data(ask, imported),
        versions=_versions(imported),
    )


def make_files(imported: Imported) -> dict[str, bytes]:
    """Give the contents of the bundle's files by role."""
    labels = imported.evaluation.labels
    known = {} if labels is None else {"labels": labels}
    files = {
        "onnx": packed(imported.model),
        "evaluation": pack_npz(images=imported.evaluation.images, **known),
        "reference": pack_npy(imported.reference),
    }
    if imported.exported and imported.exported.weights is not None:
        files["weights"] = imported.exported.weights
    if imported.calibration is not None:
        files["calibration"] = pack_npz(images=imported.calibration.images)
    return files


def account(card: Card, imported: Imported) -> tuple[tuple[str, str], ...]:
    """Say what was found, as (label, text)."""
    model, port, network, output = imported.model, imported.port, card.network, card.outputs[0]
    sets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    maker = clean(f"{model.producer_name} {model.producer_version}").strip()
    axis = imported.batch.only or "N"
    names = ", ".join(card.classes[:6]) + (f", … ({len(card.classes)})" if len(card.classes) > 6 else "")
    forms = "safetensors and ONNX" if network.factory else "ONNX"
    return (
        ("model", f"{forms}, opset {sets}" + (f", made by {maker}" if maker else "")),
        ("input", f"{port.name} {port.dtype} {_shape(axis, port.shape)}, layout {port.layout}"),
        (
            "output",
            f"{output.name} {output.dtype} {_shape(axis, output.shape)}, {card.meaning}",
        ),
        ("classes", names),
        ("batch", imported.batch.told),
        ("precision", f"{card.precision}: what its products compute in"),
        ("operators", ", ".join(f"{count} {name}" for name, count in operators(model))),
        ("parameters", "unknown" if network.parameters is None else f"{network.parameters:,}"),
        (
            "MACs",
            f"{network.macs:,} an image"
            if network.macs is not None
            else "unknown: not all of its operators are counted",
        ),
        ("images", f"{len(imported.evaluation)}: {card.data.generator}; {card.data.source}"),
        ("a pixel", f"{pixel(card.encoding, port.dtype)}; what the graph itself does is not repeated"),
    )


def notes_on(ask: Ask, imported: Imported) -> tuple[str, ...]:
    """Say what the user should bear in mind."""
    notes = [*imported.notes, *imported.evaluation.notes]
    operators_there, _ = scaled_by(imported.model)
    scaling, labels = ", ".join(operators_there), imported.evaluation.labels
    if operators_there and (ask.mean or ask.std):
        notes.append(
            f"the graph begins with {scaling} by constants, and --mean or --std is given too: if that is the "
            "same normalisation it is done twice, and accuracy suffers"
        )
    elif not operators_there and not (ask.mean or ask.std) and imported.port.layout != "any":
        notes.append(
            "nothing is subtracted from a pixel, and the graph does not begin with that either: if the model "
            "was trained on normalised images, say so with --mean and --std"
        )
    if imported.port.dtype in ("uint8", "int8") and imported.encoding.high <= 1:
        notes.append("the input takes whole numbers, and no value of these images is above 1: see --divisor")
    if len(imported.reference) > 1 and is_constant(imported.reference):
        notes.append("the model gives every image the very same answer: agreement then shows nothing")
    elif ask.evaluation is None and len(set(imported.reference.argmax(axis=1).tolist())) == 1:
        notes.append(
            "all random images fall into one class: agreement rests on the scores, not on the labels"
        )
    if weighs_in_batch(imported.model):
        notes.append(
            "its activations are quantised by what is in the batch: an image's answer hangs on the others"
        )
    if labels is None and (imported.exported is None or imported.exported.trained):
        notes.append("without labels no accuracy can be told; give images that have some with --eval")
    return tuple(notes)


def _network(imported: Imported) -> Network:
    exported = imported.exported
    _, scaling = scaled_by(imported.model)
    counted = count_parameters(imported.model, scaling)
    return Network(
        factory=exported.factory if exported else None,
        arguments=dict(exported.arguments) if exported else {},
        parameters=exported.parameters if exported else counted,
        macs=imported.macs,
        bytes=len(exported.weights) if exported and exported.weights else count_bytes(imported.model),
    )


def _settings(ask: Ask, imported: Imported) -> dict[str, Plain | tuple[Plain, ...]]:
    """Give what was asked for and done, as far as the card does not have it elsewhere."""
    settings: dict[str, Plain | tuple[Plain, ...]] = {"model": _origin(ask), "model-sha256": imported.sha256}
    if ask.weights:
        settings["weights"] = _line(ask.weights.name)
    if ask.output_tensor:
        settings["output-tensor"] = _line(ask.output_tensor)
    if ask.fit:
        settings["fit"] = ask.fit
    if imported.changes:
        settings["changes"] = tuple(_line(change) for change in imported.changes)
    return {**settings, "seed": ask.seed}


def _data(ask: Ask, imported: Imported) -> Data:
    evaluation, calibration = imported.evaluation, imported.calibration
    splits = {"evaluation": len(evaluation)}
    if calibration is not None:
        splits["calibration"] = len(calibration)
    drawn = "gradients and noise of low frequency" if imported.port.layout != "any" else "independent numbers"
    if ask.evaluation:
        generator, source = "the user's images", _line(ask.evaluation.name)
    else:
        generator = f"random images ({drawn}), seed {ask.seed}"
        source = "kdbench made them at import; they show nothing and have no labels"
    return Data(
        generator=generator,
        source=source,
        licence="not stated" if ask.evaluation else "CC0-1.0",
        splits=splits,
        labelled=evaluation.labels is not None,
        evaluation=len(evaluation),
        calibration=0 if calibration is None else len(calibration),
        sha256=evaluation.sha256,
    )


def _versions(imported: Imported) -> dict[str, str]:
    import onnxruntime

    names = ["numpy", "onnx", *(["onnxscript", "safetensors", "torch"] if imported.exported else [])]
    return {
        "cpu": platform.machine(),
        "kdbench": kdbench.__version__,
        # One of several distributions provides it.
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def _origin(ask: Ask) -> str:
    """Name the model without its folder: a card tells nothing of the machine."""
    return _line(ask.model if is_factory(ask.model) else Path(ask.model).name)


def _dtype(element: int) -> str:
    from onnx import helper

    return str(helper.tensor_dtype_to_np_dtype(element))


def _shape(axis: int | str, shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, (axis, *shape)))})"


def _line(text: str) -> str:
    return clean(text)[:LINE]
