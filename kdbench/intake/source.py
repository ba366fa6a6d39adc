"""Where a model comes from: an ONNX file, a torch factory, an exported program."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from kdbench.card import NETWORKS
from kdbench.errors import UsageError
from kdbench.intake.ask import Ask
from kdbench.intake.graph import Graph, judged, read_graph
from kdbench.intake.module import Exported, from_factory, from_program, is_factory
from kdbench.intake.pictures import read_npz
from kdbench.problems import nearest, quote

_PROGRAM = ".pt2"
_WEIGHTS = (".pt", ".pth", ".safetensors", ".bin", ".ckpt")


def read_model(ask: Ask) -> tuple[Graph, Exported | None]:
    """Read the model, whatever it is: ONNX from a file or from torch, judged alike."""
    path = Path(ask.model)
    if is_factory(ask.model):
        exported = from_factory(ask, _factory_shape(ask))
    elif not path.exists():
        installed = sorted(metadata.entry_points(group=NETWORKS).names)
        meant = nearest(ask.model, installed)
        raise UsageError(
            f"{quote(ask.model)} is neither a file nor an installed network.",
            hint=f"Did you mean {meant}?"
            if meant
            else "Give model.onnx, model.pt2, package.module:factory, or a name of these: "
            f"{', '.join(installed)}.",
        )
    elif path.suffix == _PROGRAM:
        exported = from_program(path, trust_code=ask.trust_code)
    elif path.suffix in _WEIGHTS:
        raise UsageError(
            f"{quote(path.name)} has weights and not the network that they belong to.",
            hint=f"Name the network: kdbench import package.module:factory --weights {path.name}",
        )
    elif not path.is_file():
        raise UsageError(f"{quote(ask.model)} is not a file.", hint="Give the .onnx file itself.")
    else:
        return read_graph(path), None
    from onnx import ModelProto

    return judged(ModelProto.FromString(exported.graph), exported.sha256, []), exported


def _factory_shape(ask: Ask) -> tuple[int, ...]:
    """Give the shape of one input of a torch network: what was said, or that of the images of an `.npz`."""
    if ask.shape:
        return ask.shape
    if ask.evaluation and ask.evaluation.is_file():
        shape = read_npz(ask.evaluation).images.shape[1:]
        if len(shape) == 2:
            return (1, *shape)
        if len(shape) == 3 and ask.layout != "NHWC" and shape[2] in (1, 3) and shape[0] not in (1, 3):
            return (shape[2], *shape[:2])
        return shape
    raise UsageError(
        f"{quote(ask.model)} does not say what size of images it takes.",
        hint="Say it with --shape, such as --shape 3x224x224: channels, height, width.",
    )
