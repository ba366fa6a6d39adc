"""The one input and the one output of a graph: found, named, and given sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from kdbench.card import ELEMENTS_LIMIT
from kdbench.errors import StudentError, UsageError
from kdbench.intake.ask import Layout
from kdbench.intake.walk import axis_told, reads, rename, told, unused
from kdbench.problems import quote

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

BATCH = "batch"
"""What the symbolic first axis is called in every bundle."""

CHANNELS = (1, 3)
BATCH_LIMIT = 65_536
"""The largest batch size that a card can declare as the only one."""

FEWEST = 8
"""Even of huge images, a bundle has as many."""

_NOT_IDENTIFIER = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Input:
    """What a graph takes: images of `shape`, `batch` at once, or any number where that is None."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    batch: int | None
    layout: Literal["NCHW", "NHWC", "any"]


def find_input(model: ModelProto, shape: Sequence[int], layout: Layout | None) -> tuple[Input, list[str]]:
    """Find the one input, fix its sizes, and answer it with what was changed.

    shape: what the user says of one input without the batch axis, for sizes that the graph leaves open.
    Initializers that are listed as inputs do not count. Raises StudentError for several inputs, a dtype that
    images are not fed in, open sizes, and a layout that cannot be told.
    """
    changes = _drop_listed(model)
    if len(model.graph.input) != 1:
        listed = ", ".join(map(told, model.graph.input)) or "none"
        raise StudentError(
            f"The model has {len(model.graph.input)} inputs ({listed}); kdbench feeds one: the image.",
            hint="Export it with everything but the image built in.",
        )
    port = model.graph.input[0]
    dtype = _dtype(port)
    batch, sizes = _sizes(port, tuple(shape))
    changes += _name(model, port)
    return Input(port.name, dtype, sizes, batch, layout_of(sizes, layout)), changes


def name_output(model: ModelProto) -> list[str]:
    """Give the output a name that a card can hold; answers what was changed."""
    return _name(model, model.graph.output[0])


def set_batch(model: ModelProto, batch: int | None) -> None:
    """Make the first axis of the input and the output symbolic, or fix it."""
    for port in (model.graph.input[0], model.graph.output[0]):
        axis = port.type.tensor_type.shape.dim[0]
        axis.Clear()
        if batch is None:
            axis.dim_param = BATCH
        else:
            axis.dim_value = batch


def set_output(model: ModelProto, name: str, dtype: int, shape: Sequence[int]) -> None:
    """Declare the output anew: (batch, *shape) of an ONNX element type."""
    from onnx import helper

    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, dtype, [BATCH, *shape]))


def channels_first(port: Input) -> tuple[int, ...]:
    """Give the shape of one input with its channels in front."""
    return (port.shape[-1], *port.shape[:-1]) if port.layout == "NHWC" else port.shape


def layout_of(shape: Sequence[int], asked: Layout | None) -> Literal["NCHW", "NHWC", "any"]:
    """Tell where the channels stand: the axis of 1 or 3 among others, or the one unlike two alike.

    Inputs that are no images of three axes have the layout `any`.
    """
    if len(shape) != 3:
        if asked:
            raise UsageError(
                f"--layout {asked} needs images of three axes; the model's input is {tuple(shape)}."
            )
        return "any"
    if asked:
        return asked
    first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
    if first == last:
        first, last = shape[1] == shape[2] != shape[0], shape[0] == shape[1] != shape[2]
    if first == last:
        raise StudentError(
            f"Which axis of the input {tuple(shape)} has the channels cannot be told.",
            hint="Say it with --layout NCHW or --layout NHWC.",
        )
    return "NCHW" if first else "NHWC"


def _drop_listed(model: ModelProto) -> list[str]:
    """Take initializers, and what no node reads, out of the listed inputs."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    read = {name for node in model.graph.node for name in reads(node)}
    kept = [one for one in model.graph.input if one.name not in initializers]
    idle = [one.name for one in kept if one.name not in read]
    if len(kept) > 1 and idle:
        kept = [one for one in kept if one.name in read]
    else:
        idle = []
    if len(kept) != len(model.graph.input):
        copies = [type(one).FromString(one.SerializeToString()) for one in kept]
        del model.graph.input[:]
        model.graph.input.extend(copies)
    return [f"the input {quote(name)}, which nothing reads, is left out" for name in idle]


def _dtype(port: ValueInfoProto) -> str:
    from onnx import TensorProto

    kinds = {"FLOAT": "float32", "FLOAT16": "float16", "UINT8": "uint8", "INT8": "int8"}
    found = "no tensor"
    if port.type.HasField("tensor_type"):
        known = {kind: name for name, kind in TensorProto.DataType.items()}
        found = known.get(port.type.tensor_type.elem_type, "of no known type")
    if found not in kinds:
        raise StudentError(
            f"The input {quote(port.name)} is {found.lower()}; expected {', '.join(kinds.values())}.",
            hint="Export the model for images of one of these.",
        )
    return kinds[found]


def _sizes(port: ValueInfoProto, asked: tuple[int, ...]) -> tuple[int | None, tuple[int, ...]]:
    """Fix every axis of an input but the first; answers the batch size, or None for any, and them."""
    shape = port.type.tensor_type.shape
    if not port.type.tensor_type.HasField("shape") and asked:
        for _ in range(len(asked) + 1):
            shape.dim.add()
    found = [axis.dim_value if axis.dim_value > 0 else None for axis in shape.dim]
    shown = f"({', '.join(axis_told(axis) for axis in shape.dim)})"
    if len(found) < 2:
        raise StudentError(
            f"The input {quote(port.name)} has the shape {shown}; expected a batch axis and the image's own.",
            hint="Export the model for a batch of images; --shape says what an input of no shape takes.",
        )
    if asked and (
        len(asked) != len(found) - 1 or any(f not in (None, a) for f, a in zip(found[1:], asked, strict=True))
    ):
        raise UsageError(
            f"--shape {'x'.join(map(str, asked))} does not fit the input {quote(port.name)} {shown}.",
            hint="Give one number for each axis after the first; what the graph fixes must be the same.",
        )
    if not asked and None in found[1:]:
        raise StudentError(
            f"The input {quote(port.name)} leaves sizes open: {shown}.",
            hint="Say what to benchmark it with, such as --shape 3x224x224.",
        )
    sizes = asked or tuple(size for size in found[1:] if size is not None)
    _check_room(port.name, found[0] or 1, sizes)
    for axis, size in zip(list(shape.dim)[1:], sizes, strict=True):
        axis.Clear()
        axis.dim_value = size
    return found[0], sizes


def _check_room(name: str, batch: int, sizes: tuple[int, ...]) -> None:
    """Refuse what no card can declare, or what would not fit into memory a few times."""
    if batch > BATCH_LIMIT or prod(sizes) * max(batch, FEWEST) > ELEMENTS_LIMIT:
        raise StudentError(
            f"The input {quote(name)} takes {batch} of {'x'.join(map(str, sizes))} at once, more than can be "
            f"tried: the limits are {BATCH_LIMIT} images and {ELEMENTS_LIMIT} values.",
            hint="Export the model for a smaller batch or smaller images.",
        )


def _name(model: ModelProto, port: ValueInfoProto) -> list[str]:
    old = port.name
    new = _NOT_IDENTIFIER.sub("_", old)[:60] or "tensor"
    if not (new[0].isalpha() or new[0] == "_"):
        new = f"t_{new}"
    if new == old:
        return []
    rename(model, {old: (new := unused(model, new))})
    return [f"{quote(old)} is called {new}: a name of letters, digits and _"]
