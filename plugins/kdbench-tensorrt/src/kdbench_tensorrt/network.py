"""The student's ONNX file as a strongly typed network of TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdbench import TensorSpec, Unsupported
from kdbench_tensorrt.editions import Edition
from kdbench_tensorrt.messages import LONGEST, failure, tidy

SHOWN = 3
"""So many of the parser's errors are told with their nodes; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes into the student and comes out of it, in the order of its card."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_plain(self) -> dict[str, list[dict[str, Any]]]:
        """Give it as JSON can hold it."""
        return {
            "inputs": [asdict(spec) for spec in self.inputs],
            "outputs": [asdict(s) for s in self.outputs],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, list[dict[str, Any]]]) -> Signature:
        """Read what `to_plain` gave."""

        def specs(side: Literal["inputs", "outputs"]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(one["name"], tuple(one["shape"]), one["dtype"]) for one in plain[side])

        return cls(specs("inputs"), specs("outputs"))


def create_network(edition: Edition, trt: Any, builder: Any) -> Any:
    """Make an empty network in which every tensor's type is what the graph says.

    TensorRT 10 needs the flag for it, and for RTX the same; 11 knows nothing else and has deprecated it
    (docs.nvidia.com/deeplearning/tensorrt/11.0.0/_static/python-api/infer/Core/Builder.html). The batch axis
    is explicit in all of them.
    """
    if not edition.just_in_time and int(trt.__version__.split(".")[0]) >= 11:
        return builder.create_network()
    return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def parse(
    edition: Edition, trt: Any, builder: Any, logger: Any, model: Path, signature: Signature
) -> tuple[Any, Any]:
    """Parse an ONNX file into a network; answer it and the parser, which must live as long.

    From the file, since weights may lie beside it. Raises Unsupported for operators and shapes that the
    parser refuses, in its own words, and for inputs or outputs that are not those of the card.
    """
    network = create_network(edition, trt, builder)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        faults = [_fault(parser.get_error(index)) for index in range(parser.num_errors)]
        if not faults:
            raise failure(f"{edition.title} cannot read {model.name}", logger.errors)
        raise Unsupported(
            f"{edition.title} cannot read the network: {_listed(faults)}.",
            hint="Use another backend that reads ONNX, such as onnxruntime, or change these nodes.",
        )
    _check(edition, trt, network, signature)
    return network, parser


def _fault(error: Any) -> str:
    """Tell one of the parser's errors: the node, its operator, and the first line of its words."""
    name, operator = error.node_name(), error.node_operator()
    lines = [
        line for line in error.desc().splitlines() if line.strip() and not line.startswith("Invalid Node")
    ]
    words = tidy(lines[0]) if lines else "invalid node"
    if error.node() < 0:
        return words[:LONGEST]
    place = f"node {name!r} ({operator})" if name else f"node {error.node()} ({operator or 'unnamed'})"
    return f"{place}: {words[:LONGEST]}"


def _listed(faults: Sequence[str]) -> str:
    shown = "; ".join(faults[:SHOWN])
    return f"{shown}; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else shown


def _check(edition: Edition, trt: Any, network: Any, signature: Signature) -> None:
    """Refuse a network whose inputs or outputs are not those of the student's card."""
    sides = (
        ("input", signature.inputs, [network.get_input(i) for i in range(network.num_inputs)]),
        ("output", signature.outputs, [network.get_output(i) for i in range(network.num_outputs)]),
    )
    for side, specs, tensors in sides:
        found = {tensor.name: _dtype(trt, tensor.dtype) for tensor in tensors}
        expected = {spec.name: spec.dtype for spec in specs}
        if found != expected:
            raise Unsupported(
                f"{edition.title} finds the {side}s {found} in the network, and the card has {expected}.",
                hint="Import the network again (`kdbench import`).",
            )


def _dtype(trt: Any, dtype: Any) -> str:
    try:
        return str(np.dtype(trt.nptype(dtype)).name)
    except TypeError:
        return str(dtype)
