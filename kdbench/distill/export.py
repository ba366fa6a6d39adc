"""Turn trained networks into files, prove that the files compute the same, and describe them in a card."""

from __future__ import annotations

import hashlib
import logging
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

import msgspec

import kdbench
from kdbench.arrays import pack_npy, pack_npz
from kdbench.card import Card, Network, Teacher
from kdbench.distill.data import describe
from kdbench.distill.ladder import Distilled, arguments, fresh
from kdbench.distill.nets import count_macs, count_parameters
from kdbench.distill.recipe import NetworkPlan, Recipe
from kdbench.distill.train import deterministic, predict
from kdbench.errors import StudentError
from kdbench.spec import TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from kdbench.spec import Array

OPSET = 20
TOLERANCE = 1e-3
"""Largest difference of a logit that an exported form may have from the trained network, in fp32."""

_RECORDED = ("numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "scikit-learn", "scipy", "torch")


def pack(distilled: Distilled) -> tuple[Card, dict[str, bytes]]:
    """Give the card and the contents of the bundle's files by role, verified against the trained student.

    Raises StudentError if an exported form answers anything else than the network that was trained.
    """
    recipe, splits = distilled.recipe, distilled.splits
    images, shape = splits.test.images, splits.test.images.shape[1:]
    with deterministic(recipe.threads):
        reference = predict(distilled.student, images)
        weights, graph = to_safetensors(distilled.student), to_onnx(distilled.student, shape)
        teacher_weights = to_safetensors(distilled.teacher)
        check_agreement("safetensors", _predict_weights(weights, recipe, images), reference)
        check_agreement("ONNX", _predict_onnx(graph, images), reference)
        kept = {}
        if recipe.bundle.teacher:
            kept = {"teacher-weights": teacher_weights, "teacher-onnx": to_onnx(distilled.teacher, shape)}
            check_agreement(
                "teacher's ONNX",
                _predict_onnx(kept["teacher-onnx"], images),
                predict(distilled.teacher, images),
            )
    files = {
        "weights": weights,
        "onnx": graph,
        "evaluation": pack_npz(images=images, labels=splits.test.labels),
        "reference": pack_npy(reference),
        "calibration": pack_npz(images=splits.unlabelled.images[: recipe.data.calibration]),
        **kept,
    }
    return _card(distilled, hashlib.sha256(teacher_weights).hexdigest()), files


def check_agreement(form: str, found: Array, reference: Array) -> None:
    """Refuse an exported form whose logits leave the tolerance or whose answers differ."""
    import numpy as np

    deviation = float(np.abs(found - reference).max())
    flips = int((found.argmax(1) != reference.argmax(1)).sum())
    if not deviation <= TOLERANCE or flips:
        raise StudentError(
            f"The {form} form is not the network that was trained: its logits differ by up to "
            f"{deviation:.2g} (allowed {TOLERANCE:g}) and {flips} of {len(reference)} answers change.",
            hint="The exporter is at fault; use the versions in constraints.txt.",
        )


def to_safetensors(network: nn.Module) -> bytes:
    """Serialise the weights, named as in `state_dict`."""
    from safetensors.torch import save

    return bytes(save(network.state_dict()))


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
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _predict_weights(weights: bytes, recipe: Recipe, images: Array) -> Array:
    from safetensors.torch import load

    network = fresh(recipe, recipe.student)
    network.load_state_dict(load(weights))
    return predict(network, images)


def _predict_onnx(graph: bytes, images: Array) -> Array:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    logits: Array = session.run(["logits"], {"images": images.astype(np.float32) / np.float32(255)})[0]
    return logits


def _network(network: nn.Module, plan: NetworkPlan, recipe: Recipe, shape: tuple[int, ...]) -> Network:
    return Network(
        factory=plan.network,
        arguments=arguments(recipe, plan),
        parameters=count_parameters(network),
        macs=count_macs(network, shape),
    )


def _card(distilled: Distilled, teacher_sha256: str) -> Card:
    recipe, splits = distilled.recipe, distilled.splits
    shape = splits.test.images.shape[1:]
    teacher = _network(distilled.teacher, recipe.teacher, recipe, shape)
    return Card(
        name=recipe.name,
        title=recipe.title,
        task="classification",
        classes=recipe.data.classes,
        trained=True,
        licence="Apache-2.0 (networks and weights); evaluation and calibration images: see data.licence",
        inputs=(TensorSpec("images", shape, "float32"),),
        outputs=(TensorSpec("logits", (len(recipe.data.classes),), "float32"),),
        network=_network(distilled.student, recipe.student, recipe, shape),
        teacher=Teacher(name="teacher-fine-tuned", sha256=teacher_sha256, **msgspec.structs.asdict(teacher)),
        ladder=distilled.ladder,
        recipe=_settings(recipe),
        data=describe(recipe.data, splits),
        versions=_versions(),
    )


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Give the recipe as plain values, tables inside tables joined by a dot."""
    settings: dict[str, Any] = {}
    for key, value in msgspec.to_builtins(recipe).items():
        settings[key] = value
        if isinstance(value, dict):
            inner = {name: value.pop(name) for name in list(value) if isinstance(value[name], dict)}
            settings |= {f"{key}.{name}": table for name, table in inner.items()}
    return settings


def _versions() -> dict[str, str]:
    import torch

    found = {name: metadata.version(name) for name in _RECORDED}
    return {
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "kdbench": kdbench.__version__,
        "python": platform.python_version(),
        **found,
    }
