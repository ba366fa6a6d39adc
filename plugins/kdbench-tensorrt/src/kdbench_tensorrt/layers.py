"""The layers of an engine: what they are, what they compute in, and by which kernel.

The engine inspector tells them, as JSON whose form differs: TensorRT 10 has one field `Format/Datatype` for a
tensor, and 11 `Format` and `DataType` beside each other
(docs.nvidia.com/deeplearning/tensorrt/11.4.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html). Where
there is no device, the network tells them instead, without kernels; its types hold, for it is strongly typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kdbench.spec import Precision

_TYPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"bf16|bfloat16", "bf16"),
        (r"fp16|half|float16", "fp16"),
        (r"int8(?!\d)", "int8"),
        (r"fp8|float8|fp4|float4|int4", "other"),
        (r"fp32|float", "fp32"),
    )
)
"""How a type is written in either form, the narrower names first: `float` is in most of them."""

_FIELDS = ("Format/Datatype", "DataType", "Datatype")
_MOVES = re.compile(r"reformat|cast|constant|noop|shuffle|shape|identity|signal|wait", re.IGNORECASE)
"""Layers that move or convert, and compute nothing."""

_TF32 = re.compile(r"tf32", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: `precision` is the narrowest type of its tensors, `tactic` the kernel; empty if not told."""

    name: str
    type: str
    precision: str
    tactic: str = ""


def layers_of_engine(trt: Any, engine: Any) -> tuple[Layer, ...]:
    """Ask the inspector of an engine; empty where it does not answer in JSON."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_layers(text)


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Read the inspector's JSON of either major; a layer that is a mere name has nothing else."""
    try:
        told = json.loads(text, strict=False)
    except ValueError:
        return ()
    layers = told.get("Layers", []) if isinstance(told, dict) else []
    return tuple(_layer(one) for one in layers if isinstance(one, (str, dict)))


def _layer(told: str | Mapping[str, Any]) -> Layer:
    if isinstance(told, str):
        return Layer(told, "", "")
    tensors = [*_tensors(told.get("Inputs")), *_tensors(told.get("Outputs"))]
    types = [_type(" ".join(str(tensor.get(field, "")) for field in _FIELDS)) for tensor in tensors]
    return Layer(
        name=str(told.get("Name", "")),
        type=str(told.get("LayerType", "")),
        precision=_narrowest(types),
        tactic=str(told.get("TacticName", "")),
    )


def _tensors(told: object) -> list[Mapping[str, Any]]:
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []


def layers_of_network(network: Any) -> tuple[Layer, ...]:
    """List the layers of a network before it is built."""
    return tuple(_network_layer(network.get_layer(index)) for index in range(network.num_layers))


def _network_layer(layer: Any) -> Layer:
    tensors = [layer.get_input(index) for index in range(layer.num_inputs)]
    tensors += [layer.get_output(index) for index in range(layer.num_outputs)]
    types = [_type(tensor.dtype.name) for tensor in tensors if tensor is not None]
    return Layer(str(layer.name), str(layer.type.name), _narrowest(types))


def computed_in(told: Sequence[Layer], network: Sequence[Layer], asked: Precision) -> Precision:
    """Tell what the products are computed in: the type of at least half of the layers that compute.

    told: as the inspector tells, network: as it was built. A network fused into one layer, or told by names
    only, shows no types but those of its inputs, which stay fp32; then the network's own decide, which
    TensorRT must keep. TF32 is no type but a leave: `tf32` is what was allowed, unless fp32 was asked for and
    the name of a kernel says otherwise.
    """
    narrow = _narrow_half(_computing(told))
    if narrow is None and len(_computing(told)) < 2:
        narrow = _narrow_half(_computing(network))
    if narrow:
        return narrow
    if asked == "tf32" or any(_TF32.search(layer.tactic) for layer in told):
        return "tf32"
    return "fp32"


def _computing(layers: Sequence[Layer]) -> list[str]:
    """List the types of the layers that compute, where they are told."""
    return [one.precision for one in layers if one.precision and not _MOVES.search(one.type or one.name)]


def _narrow_half(kinds: Sequence[str]) -> Precision | None:
    """Give the type below fp32 that at least half of them are, if there is one."""
    narrow: tuple[Precision, ...] = ("int8", "fp16", "bf16")
    return next((kind for kind in narrow if kinds and 2 * kinds.count(kind) >= len(kinds)), None)


def to_json(engines: Mapping[str, tuple[Iterable[Layer], Iterable[Layer]]]) -> str:
    """Write what an artifact keeps of its engines' layers: as the inspector tells them, and as they went in.

    The first is empty where the engine was built without a device to open it on.
    """
    plain = {
        name: {"engine": [asdict(layer) for layer in told], "network": [asdict(layer) for layer in network]}
        for name, (told, network) in engines.items()
    }
    return json.dumps(plain, indent=1)


def networks_from_json(text: str) -> dict[str, tuple[Layer, ...]]:
    """Read back the layers of each network, by the engine's name."""
    return {name: tuple(Layer(**one) for one in kept["network"]) for name, kept in json.loads(text).items()}


def _type(text: str) -> str:
    return next((name for pattern, name in _TYPES if pattern.search(text)), "")


def _narrowest(types: Iterable[str]) -> str:
    order = ("int8", "other", "fp16", "bf16", "fp32", "")
    return min(types, key=order.index, default="")
