"""The graph with its chosen nodes in a format of sixteen bits, and a Cast wherever two types meet.

A name of the graph always means the tensor in fp32; what is held in the format has a name of its own. So
inputs, outputs and the graphs inside control flow stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kdbench.casting.choice import EITHER, Lowered
from kdbench.casting.rounding import Format, rounded
from kdbench.walk import deep, inner

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def rewrite(
    model: ModelProto, chosen: Mapping[int, Lowered], constants: Mapping[str, TensorProto], target: Format
) -> None:
    """Rewrite the outermost graph in place."""
    graph, names = model.graph, _Names(model.graph, target)
    native = {graph.node[at].output[place] for at, one in chosen.items() for place in one.outputs}
    low = {graph.node[at].input[place] for at, one in chosen.items() for place in one.inputs}
    high = _read_as_fp32(graph, chosen)
    nodes = [names.down(port.name) for port in graph.input if port.name in low]
    for at, node in enumerate(graph.node):
        answered = list(node.output)
        _renamed(node, chosen.get(at), native, names)
        nodes.append(node)
        for name in answered:
            if name in native and name in high:
                nodes.append(names.up(name))
            elif name in low and name not in native and name not in constants:
                nodes.append(names.down(name))
    fresh = [rounded(tensor, names.low(name), target) for name, tensor in constants.items() if name in low]
    _replace(graph, nodes, fresh)


class _Names:
    """What a tensor is called in the format, and the Casts between its two names."""

    def __init__(self, graph: GraphProto, target: Format) -> None:
        self._target = target
        self._given: dict[str, str] = {}
        below = list(deep(graph.node))
        ports = (graph, *(one for node in below for one in inner(node)))
        self._taken = {name for node in below for name in (node.name, *node.input, *node.output)} | {
            one.name for part in ports for one in (*part.input, *part.output, *part.initializer)
        }

    def low(self, name: str) -> str:
        """Name the tensor that holds in the format what `name` holds in fp32."""
        if name not in self._given:
            self._given[name] = self._fresh(f"{name}_{self._target.precision}")
        return self._given[name]

    def down(self, name: str) -> NodeProto:
        """Make the Cast from fp32."""
        return self._cast(name, self.low(name), self._target.kind)

    def up(self, name: str) -> NodeProto:
        """Make the Cast to fp32."""
        from onnx import TensorProto

        return self._cast(self.low(name), name, TensorProto.FLOAT)

    def _cast(self, source: str, answer: str, kind: int) -> NodeProto:
        from onnx import helper

        return helper.make_node("Cast", [source], [answer], name=self._fresh(f"{answer}_cast"), to=kind)

    def _fresh(self, wish: str) -> str:
        name, count = wish, 1
        while name in self._taken:
            count += 1
            name = f"{wish}_{count}"
        self._taken.add(name)
        return name


def _renamed(node: NodeProto, lowered: Lowered | None, native: set[str], names: _Names) -> None:
    """Let a node read and answer the tensors in the format where it is to."""
    if lowered is not None:
        inputs, outputs = lowered.inputs, lowered.outputs
    elif node.op_type in EITHER:
        outputs = frozenset[int]()
        inputs = frozenset(at for at, name in enumerate(node.input) if name in native)
    else:
        return
    node.input[:] = [names.low(name) if at in inputs else name for at, name in enumerate(node.input)]
    node.output[:] = [names.low(name) if at in outputs else name for at, name in enumerate(node.output)]


def _read_as_fp32(graph: GraphProto, chosen: Mapping[int, Lowered]) -> set[str]:
    found = {port.name for port in graph.output}
    for at, node in enumerate(graph.node):
        lowered = chosen[at].inputs if at in chosen else frozenset()
        if node.op_type not in EITHER:
            found.update(name for place, name in enumerate(node.input) if place not in lowered)
        found |= _inside(node)
    return found


def _inside(node: NodeProto) -> set[str]:
    """Name all that the graphs inside a node read, their own tensors too."""
    found: set[str] = set()
    for one in inner(node):
        found.update(port.name for port in one.output)
        for below in one.node:
            found |= {*below.input} | _inside(below)
    return found


def _replace(graph: GraphProto, nodes: Iterable[NodeProto], fresh: Iterable[TensorProto]) -> None:
    """Put these nodes and further weights into the graph; leave out the weights that nobody reads now."""
    nodes = list(nodes)
    read = {name for node in nodes for name in (*node.input, *_inside(node))}
    read |= {port.name for port in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    nodes = [node for node in nodes if node.op_type != "Constant" or read.intersection(node.output)]
    for field, content in ((graph.node, nodes), (graph.initializer, [*kept, *fresh])):
        del field[:]
        field.extend(content)
    graph.ClearField("value_info")
