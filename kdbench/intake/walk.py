"""The names that tie the graphs and nodes of an ONNX model together, at any depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdbench.problems import quote
from kdbench.walk import graphs, inner, nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto


def constants(model: ModelProto) -> dict[str, TensorProto]:
    """Give the tensors of the outermost graph that are known beforehand: initializers and constant nodes."""
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output:
            known.update((node.output[0], one.t) for one in node.attribute if one.name == "value")
    return known


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """Give the node of the outermost graph that answers each name."""
    return {name: node for node in model.graph.node for name in node.output if name}


def reads(node: NodeProto) -> set[str]:
    """Give all names that a node needs: its inputs, and what graphs inside it take from outside."""
    needed = {name for name in node.input if name}
    for graph in inner(node):
        own = {one.name for one in (*graph.input, *graph.initializer)}
        for below in graph.node:
            needed |= reads(below) - own
            own |= set(below.output)
        needed |= {one.name for one in graph.output} - own
    return needed


def rename(model: ModelProto, names: Mapping[str, str]) -> None:
    """Rename tensors throughout a model; the new names must not be taken."""
    for node in nodes(model):
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    for graph in graphs(model):
        for part in (*graph.input, *graph.output, *graph.initializer):
            part.name = names.get(part.name, part.name)


def names_of(model: ModelProto) -> set[str]:
    """Give every name of a tensor, at any depth."""
    found = {name for node in nodes(model) for name in (*node.input, *node.output)}
    for graph in graphs(model):
        found |= {part.name for part in (*graph.input, *graph.output, *graph.initializer)}
    return found


def number(count: int, noun: str) -> str:
    """Give a number with its noun: `1 node`, `2 nodes`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def unused(model: ModelProto, wish: str) -> str:
    """Give a name that nothing in the model has, as near to the wish as can be."""
    taken, count = names_of(model), 1
    name = wish
    while name in taken:
        count += 1
        name = f"{wish}_{count}"
    return name


def told(port: ValueInfoProto) -> str:
    """Name an input or output with its shape."""
    if not port.type.HasField("tensor_type"):
        return f"{quote(port.name)}, no tensor"
    return f"{quote(port.name)} ({', '.join(axis_told(axis) for axis in port.type.tensor_type.shape.dim)})"


def axis_told(axis: object) -> str:
    """Give the length of an axis, or the symbol for it."""
    value, symbol = getattr(axis, "dim_value", 0), getattr(axis, "dim_param", "")
    return str(value) if value > 0 else quote(symbol).strip("'") or "?"
