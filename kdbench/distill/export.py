"""Turn trained networks into files, prove that the files compute the same, and describe them in a card."""

from __future__ import annotations

import copy
import hashlib
import logging
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

import kdbench
from kdbench.arrays import pack_npy, pack_npz
from kdbench.card import Card, LadderRow, Network, Teacher
from kdbench.distill.checkpoint import owned
from kdbench.distill.nets import count_macs, count_parameters
from kdbench.distill.splits import describe
from kdbench.distill.train import predict
from kdbench.distill.untrained import arguments
from kdbench.errors import RecipeError, StudentError
from kdbench.spec import TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from kdbench.distill.sources import Offer
    from kdbench.distill.splits import Splits
    from kdbench.distill.tables import NetworkPlan, Recipe
    from kdbench.spec import Array

OPSET = 20
TOLERANCE = 1e-3
"""Largest difference of a logit that an exported form may have from the trained network, in fp32.

In units of the logits' spread, their standard deviation over the evaluation split.
"""

_RECORDED = ("numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "scikit-learn", "scipy", "torch")


def pack(
    recipe: Recipe,
    offer: Offer,
    splits: Splits,
    teacher: nn.Module,
    student: nn.Module,
    ladder: tuple[LadderRow, ...],
) -> tuple[Card, dict[str, bytes]]:
    """Give the card and the contents of the bundle's files by role, verified against the networks.

    No ladder makes an untrained student. Raises StudentError if an exported form answers anything else
    than the network that was trained.
    """
    images = splits.test.images
    own, weights = _forms(student, recipe.student, images), to_safetensors(teacher)
    files = {
        **own,
        "evaluation": pack_npz(images=images, labels=splits.test.labels),
        "calibration": pack_npz(images=splits.unlabelled.images[: splits.calibration]),
    }
    if recipe.bundle.teacher:
        kept = _forms(teacher, recipe.teacher, images)
        files |= {f"teacher-{role}": content for role, content in kept.items()}
    shape = images.shape[1:]
    described = _network(teacher, recipe.teacher, splits, len(weights), shape)
    card = Card(
        name=recipe.name,
        title=recipe.title,
        task="classification",
        classes=splits.classes,
        trained=bool(ladder),
        licence="Apache-2.0 (networks and weights); evaluation and calibration images: see data.licence",
        inputs=(TensorSpec("images", shape, "float32"),),
        outputs=(TensorSpec("logits", (len(splits.classes),), "float32"),),
        network=_network(student, recipe.student, splits, len(own["weights"]), shape),
        teacher=Teacher(
            name="teacher-fine-tuned" if ladder else "teacher-untrained",
            sha256=hashlib.sha256(weights).hexdigest(),
            **msgspec.structs.asdict(described),
        ),
        ladder=ladder,
        recipe=_settings(recipe),
        data=describe(offer, recipe.data, splits),
        versions=_versions(),
    )
    return card, files


def _forms(network: nn.Module, plan: NetworkPlan, images: Array) -> dict[str, bytes]:
    """Give weights, ONNX and reference logits of a network, both forms held to the logits."""
    reference, what = predict(network, images), plan.network
    if not _finite(reference):
        raise StudentError(
            f"The network {what} answers with NaN or infinity after training.",
            hint="Lower the learning rates of the recipe.",
        )
    weights, graph = to_safetensors(network), to_onnx(network, images.shape[1:])
    again = copy.deepcopy(network)
    load_weights(again, weights)
    check_agreement(f"safetensors ({what})", predict(again, images), reference)
    check_agreement(f"ONNX ({what})", _predict_onnx(graph, images), reference)
    return {"weights": weights, "onnx": graph, "reference": pack_npy(reference)}


def check_exportable(network: nn.Module, what: str, images: Array) -> None:
    """Refuse, before it is trained, a network that could not be exported or answers by chance.

    Networks of strangers only: those of kdbench are known to pass. Three images, so that a batch that was
    taken for a constant shows.
    """
    import numpy as np

    few = images[np.arange(3) % len(images)]
    if not np.array_equal(predict(network, few), predict(network, few), equal_nan=True):
        raise RecipeError(
            f"The network {what!r} answers the same images differently each time, in inference mode too.",
            hint="Let it draw random numbers only while `self.training` is true.",
        )
    try:
        # What torch prints of a network that it cannot trace goes on for pages.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            _predict_onnx(to_onnx(network, images.shape[1:]), few)
    # The exporter runs the network's own code: anything may come out of it.
    except Exception as fault:
        raise RecipeError(
            f"The network {what!r} cannot be exported to ONNX for batches of any size: {_first_line(fault)}.",
            hint="Its forward must not decide by the values or the number of the images.",
        ) from fault


def _first_line(fault: Exception) -> str:
    """Give the exporter's own reason in one line; the rest of it goes on for pages."""
    while fault.__cause__ is not None and isinstance(fault.__cause__, Exception):
        fault = fault.__cause__
    line = next((line.strip() for line in str(fault).splitlines() if line.strip()), "")
    return f"{type(fault).__name__}: {line}"[:300].rstrip(". ")


def load_weights(network: nn.Module, weights: bytes) -> None:
    """Put safetensors into a network."""
    from safetensors.torch import load

    network.load_state_dict(load(weights))


def _finite(logits: Array) -> bool:
    import numpy as np

    return bool(np.isfinite(logits).all())


def check_agreement(form: str, found: Array, reference: Array) -> None:
    """Refuse an exported form whose logits leave the tolerance."""
    import numpy as np

    spread = float(reference.std()) or 1.0
    deviation = float(np.abs(found - reference).max()) / spread
    if not deviation <= TOLERANCE:
        changed = int((found.argmax(1) != reference.argmax(1)).sum())
        raise StudentError(
            f"The {form} form is not the network that was trained: its logits differ by up to "
            f"{deviation:.2g} of their spread (allowed {TOLERANCE:g}), and {changed} of {len(reference)} "
            "answers change.",
            hint="The exporter is at fault; use the versions in constraints.txt.",
        )


def to_safetensors(network: nn.Module) -> bytes:
    """Serialise the weights, named as in `state_dict`."""
    from safetensors.torch import save

    return bytes(save(owned(network.state_dict())))


def to_onnx(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """Export to one ONNX file: `images` (batch, *shape) to `logits`, batch dynamic, normalisation folded.

    The exporter's notes are removed: they hold the paths of the machine that exported.
    """
    import torch

    # Two images, because a batch of one would be taken for a constant.
    example = torch.zeros(2, *shape)
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    model = cast("torch.onnx.ONNXProgram", program).model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
    graph.ClearField("value_info")
    return bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about its own deprecations and absent packages off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _predict_onnx(graph: bytes, images: Array, batch: int = 64) -> Array:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answers = [
        session.run(["logits"], {"images": images[at : at + batch].astype(np.float32) / np.float32(255)})[0]
        for at in range(0, len(images), batch)
    ]
    return np.concatenate(answers)


def _network(
    network: nn.Module, plan: NetworkPlan, splits: Splits, size: int, shape: tuple[int, ...]
) -> Network:
    # A card names factories of the entry points and nothing else, see `kdbench.card`.
    known = ":" not in plan.network
    return Network(
        factory=plan.network if known else None,
        arguments=arguments(plan, splits.classes) if known else {},
        parameters=count_parameters(network),
        macs=count_macs(network, shape),
        bytes=size,
    )


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Give the recipe as plain values, tables inside tables joined by a dot.

    Of the places where the user's own pictures lie, their names alone.
    """
    places = {key: _named(value) for key, value in recipe.data.arguments.items()}
    data = msgspec.structs.replace(recipe.data, arguments=places)
    recipe = msgspec.structs.replace(recipe, data=data)
    plain = {key: value for key, value in msgspec.to_builtins(recipe).items() if value not in ("", None)}
    top = {key: value for key, value in plain.items() if not isinstance(value, dict)}
    tables: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            _flatten(value, key, tables)
    return {**top, **tables}


def _named(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _flatten(table: dict[str, Any], name: str, tables: dict[str, Any]) -> None:
    """Add a table to the others, what is inside it as tables of their own."""
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            inner[f"{name}.{key}"] = value
        elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
            inner |= {f"{name}.{key}.{number}": item for number, item in enumerate(value)}
        elif value is not None:
            own[key] = value
    tables[name] = own
    for key, value in inner.items():
        if value:
            _flatten(value, key, tables)


def _versions() -> dict[str, str]:
    import torch

    found = {name: metadata.version(name) for name in _RECORDED}
    return {
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "kdbench": kdbench.__version__,
        "python": platform.python_version(),
        **found,
    }
