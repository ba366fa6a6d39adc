"""How stored images become the input: what the user declared, what goes without saying, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.card import Card, Data, Encoding
from kdbench.errors import UsageError
from kdbench.intake.ask import Ask
from kdbench.intake.ports import Input
from kdbench.intake.walk import constants
from kdbench.problems import quote
from kdbench.spec import TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto

    from kdbench.spec import Array

MIDDLE = 128.0
"""What is taken from a stored byte for an int8 input, so that 0..255 becomes -128..127."""

_SCALING = frozenset(["Sub", "Div", "Mul", "Add", "BatchNormalization"])
_PASSING = frozenset(["Identity", "Cast", "Transpose", "QuantizeLinear", "DequantizeLinear"])


def encoding_of(ask: Ask, port: Input, stored: str) -> Encoding:
    """Declare what a caller does to stored images, uint8 or float32, before it hands them over.

    Bytes are divided by 255 for a floating input and left alone for an integer one; all else is declared.
    """
    if ask.divisor is not None and ask.divisor <= 0:
        raise UsageError(f"--divisor is {ask.divisor:g}; it must be above 0.", hint="1 leaves values alone.")
    channels = port.shape[0 if port.layout == "NCHW" else -1]
    divisor, mean = ask.divisor, _per_channel("--mean", ask.mean, channels)
    declared = divisor is not None or ask.mean or ask.std
    if divisor is None:
        divisor = 255.0 if stored == "uint8" and port.dtype.startswith("float") else 1.0
    if not declared and port.dtype == "int8" and stored == "uint8" and port.layout != "any":
        mean = (MIDDLE,) * channels
    return Encoding(
        dtype="uint8" if stored == "uint8" else "float32",
        divisor=divisor,
        mean=mean,
        std=_per_channel("--std", ask.std, channels),
        layout=port.layout,
    )


def within(encoding: Encoding, inputs: Array) -> Encoding:
    """Add the range of values that the inputs really take."""
    import msgspec

    return msgspec.structs.replace(encoding, low=float(inputs.min()), high=float(inputs.max()))


def draft(port: Input, encoding: Encoding, images: int) -> Card:
    """Give the card of a student of which only the input is known."""
    return Card(
        name="draft",
        task="classification",
        classes=("0", "1"),
        trained=True,
        licence="",
        inputs=(TensorSpec(port.name, port.shape, port.dtype),),
        outputs=(TensorSpec("scores", (2,), "float32"),),
        encoding=encoding,
        data=Data(generator="", source="", licence="", evaluation=images),
    )


def pixel(encoding: Encoding, dtype: str) -> str:
    """Say exactly what is done to a stored value."""
    told = "value" if encoding.divisor == 1 else f"value / {encoding.divisor:g}"
    if encoding.mean:
        told = f"{told} - {_listed(encoding.mean)}"
    if encoding.std:
        told = f"({told}) / {_listed(encoding.std)}" if encoding.mean else f"{told} / {_listed(encoding.std)}"
    rounded = "" if told == "value" or dtype.startswith("float") else ", rounded"
    return f"input = {told}{rounded}, as {dtype}; the value is stored as {encoding.dtype}"


def scaled_by(model: ModelProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the operators by constants that stand directly at the input, and the names of those constants."""
    known = constants(model)
    readers: dict[str, list[int]] = {}
    for number, node in enumerate(model.graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(number)
    operators, taken = [], []
    name = model.graph.input[0].name
    while len(found := readers.get(name, [])) == 1:
        node = model.graph.node[found[0]]
        others = [one for one in node.input if one and one != name]
        if node.op_type in _SCALING and all(one in known for one in others):
            operators.append(node.op_type)
            taken += others
        elif node.op_type not in _PASSING:
            break
        if not node.output:
            break
        name = node.output[0]
    return tuple(operators), tuple(taken)


def _per_channel(option: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (0, 1, channels):
        raise UsageError(
            f"{option} has {len(values)} values; the model's input has {channels} channels.",
            hint="Give one value for each channel, or one for all.",
        )
    if option == "--std" and any(value <= 0 for value in values):
        raise UsageError(f"--std is {quote(values)}; every value must be above 0.")
    return tuple(values) * channels if len(values) == 1 else tuple(values)


def _listed(values: Sequence[float]) -> str:
    alike = len(set(values)) == 1
    return f"{values[0]:g}" if alike else f"({', '.join(f'{value:g}' for value in values)})"
