"""Which nodes of a graph compute in a format of sixteen bits, and which of their tensors are in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdbench.casting.source import opset
from kdbench.walk import inner

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto
    from onnx.defs import OpSchema

    from kdbench.casting.ranges import Ranges
    from kdbench.casting.rounding import Format

EITHER = frozenset({"Cast", "Shape", "Size"})
"""Operators that answer the same whatever their input is held in: they read it as it comes."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A node that computes in the format: the places among its inputs and outputs that are in it."""

    inputs: frozenset[int]
    outputs: frozenset[int]


@dataclass(frozen=True, slots=True)
class Graph:
    """What is known of a model, the tensors of its outermost graph by name; `constants` are of any type."""

    model: ModelProto
    types: Mapping[str, int]
    constants: Mapping[str, TensorProto]
    ranges: Ranges


def choose(graph: Graph, target: Format, keep: Collection[str]) -> dict[int, Lowered]:
    """Choose the nodes that compute in the format, by their place in the graph.

    All whose operator, in the version that the graph uses, takes and answers it, but for the operators to
    `keep`, and for nodes that touch a value which it does not hold, that compute a shape, that have graphs
    inside, or whose answer has not the type of an input.
    """
    shapely, untouched = _shapely(graph), EITHER.union(keep)
    chosen = {}
    for place, node in enumerate(graph.model.graph.node):
        if node.op_type in untouched or shapely.intersection(node.output) or any(inner(node)):
            continue
        lowered = _lowered(node, graph, target)
        if lowered is not None and _holds(node, graph, target):
            chosen[place] = lowered
    return chosen


def _lowered(node: NodeProto, graph: Graph, target: Format) -> Lowered | None:
    """Tell which tensors of a node its operator lets be in the format; None if it is not to compute in it."""
    from onnx import TensorProto, defs

    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opset(graph.model, domain)
    if any(name and not graph.types.get(name) for name in (*node.input, *node.output)):
        return None
    if not defs.has(node.op_type, version, domain):
        return None
    schema = defs.get_schema(node.op_type, version, domain)
    able = {
        one.type_param_str
        for one in schema.type_constraints
        if {"tensor(float)", target.tensor} <= set(one.allowed_type_strs)
    }
    taken = _places(node.input, schema.inputs, graph.types, TensorProto.FLOAT)
    answered = _places(node.output, schema.outputs, graph.types, TensorProto.FLOAT)
    inputs = {place: kind for place, kind in taken.items() if kind in able}
    # An output's type that no input has comes from an attribute, which says fp32.
    if not inputs or not set(answered.values()) <= set(inputs.values()):
        return None
    return Lowered(frozenset(inputs), frozenset(answered))


def _places(
    names: Sequence[str], formal: Sequence[OpSchema.FormalParameter], types: Mapping[str, int], kind: int
) -> dict[int, str]:
    """Give the places whose tensors are of this element type, with the name that the schema has for it."""
    return {
        place: str(formal[min(place, len(formal) - 1)].type_str)
        for place, name in enumerate(names)
        if name and types.get(name) == kind
    }


def _holds(node: NodeProto, graph: Graph, target: Format) -> bool:
    """Tell whether the format holds all that a node touches."""
    from onnx import TensorProto, numpy_helper

    names = [name for name in (*node.input, *node.output) if graph.types.get(name) == TensorProto.FLOAT]
    if not graph.ranges.fit(names, target, node.op_type):
        return False
    if node.op_type == "BatchNormalization":
        # Its root is divided by: a variance that vanishes among larger ones changes its channel.
        known = [graph.constants[name] for name in node.input[4:5] if name in graph.constants]
        return all(bool(np.all(numpy_helper.to_array(one) >= target.smallest)) for one in known)
    return True


def _shapely(graph: Graph) -> set[str]:
    """Name what is computed from shapes alone: an fp16 counts no further than 2048, a bf16 to 256."""
    found: set[str] = set()
    fixed = {"", *graph.constants}
    for node in graph.model.graph.node:
        reads = set(node.input) - fixed
        if node.op_type in ("Shape", "Size") or (reads and reads <= found):
            found.update(node.output)
        elif not reads:
            fixed.update(node.output)
    return found
