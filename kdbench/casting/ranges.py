"""How large the values in a graph are, measured on real inputs, and whether sixteen bits hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.casting.source import first_line
from kdbench.errors import Unsupported

if TYPE_CHECKING:
    from onnx import ModelProto

    from kdbench.casting.rounding import Format
    from kdbench.spec import Array

IMAGES = 8
"""So many inputs are looked at: enough for the order of magnitude, few enough at 224 x 224."""

HEADROOM = 4.0
"""How much larger than the largest value seen one may be that was not seen."""

SQUARING = frozenset(
    {"GlobalLpPool", "InstanceNormalization", "LRN", "LpNormalization", "LpPool", "MeanVarianceNormalization"}
    | {"ReduceL2"}
)
"""Operators that square what they are given, and say nowhere that they do so in more bits."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The largest magnitude of each tensor, by name: over some inputs, or of a constant.

    Infinities, which masks are made of, are left out: both formats have them.
    """

    largest: Mapping[str, float]
    constant: Mapping[str, float]

    def fit(self, names: Iterable[str], target: Format, operator: str) -> bool:
        """Tell whether a node of this operator may hold all these tensors in the format.

        A tensor of which every value is below the smallest that has all its digits is not held either.
        What is not known is taken to fit.
        """
        for name in names:
            value, room = self.largest.get(name, 0.0), HEADROOM
            if name in self.constant:
                value, room = self.constant[name], 1.0
            elif operator in SQUARING:
                room *= max(1.0, value)
            if value * room > target.largest or 0.0 < value < target.smallest:
                return False
        return True


def measure(
    model: ModelProto, inputs: Sequence[Array], names: Sequence[str], constants: Mapping[str, Array]
) -> Ranges:
    """Run the fp32 graph as its operators are specified, and keep the largest magnitude of each name.

    inputs: one array per input of the graph, in its order, its first axis as long as you like; none, and only
    the constants are judged. Raises Unsupported where the graph does not run on them.
    """
    known = {name: _magnitude(values) for name, values in constants.items()}
    largest: dict[str, float] = {}
    wanted = [name for name in names if name not in known]
    if inputs and wanted:
        from onnx.reference import ReferenceEvaluator

        ports = [port.name for port in model.graph.input]
        try:
            evaluator = ReferenceEvaluator(model)
            for rows in _rows(model, inputs):
                fed = {port: array[rows] for port, array in zip(ports, inputs, strict=True)}
                with np.errstate(all="ignore"):
                    for name, values in zip(wanted, evaluator.run(wanted, fed), strict=True):
                        largest[name] = max(largest.get(name, 0.0), _magnitude(values))
        # Pure Python that raises whatever a graph makes it trip over.
        except Exception as fault:
            raise Unsupported(
                f"The range of the network's values cannot be measured: {first_line(fault)}.",
                hint="Casting needs operators of ONNX itself, and inputs as the graph declares them.",
            ) from fault
    return Ranges(largest, known)


def _rows(model: ModelProto, inputs: Sequence[Array]) -> Iterator[Array]:
    """Choose images: a batch at a time where one is built in, else one by one; the last is filled up."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    batch = max(1, axes[0].dim_value) if axes else 1
    count = min(len(inputs[0]), IMAGES)
    for first in range(0, count, batch):
        yield np.arange(first, first + batch) % len(inputs[0])


def _magnitude(values: Array) -> float:
    held = np.abs(np.asarray(values, np.float32))
    return float(held.max(initial=0.0, where=np.isfinite(held)))
