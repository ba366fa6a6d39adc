"""Every graph, node and tensor of an ONNX model, at any depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Give every node of a model, those inside control flow and functions too."""
    yield from deep(model.graph.node)
    for function in model.functions:
        yield from deep(function.node)


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Give the graph of a model and every graph inside its nodes and functions."""
    yield model.graph
    for node in nodes(model):
        yield from inner(node)


def deep(found: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Give these nodes and all that are inside them, each before those inside it."""
    waiting = [*found][::-1]  # no recursion: a stranger's graph may be nested as deep as it likes
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [one for graph in inner(node) for one in graph.node][::-1]


def inner(node: NodeProto) -> Iterator[GraphProto]:
    """Give the graphs of a node's own attributes: branches and bodies of control flow."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Give every tensor of a model: initializers and attributes, sparse ones in their parts."""
    for graph in graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
