"""Which of several outputs is the answer, and what of the graph goes with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.errors import StudentError, UsageError
from kdbench.intake.inferred import infer
from kdbench.intake.walk import number, producers, reads, told
from kdbench.problems import nearest, quote

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


def choose_output(model: ModelProto, wanted: str) -> list[str]:
    """Leave one output in the graph, the wanted one or the only one, and only the nodes that it needs.

    Answers what was changed. Raises StudentError where there are several and none was wanted.
    """
    found = [one.name for one in model.graph.output]
    if not wanted and len(found) != 1:
        raise StudentError(
            f"The model has {len(found)} outputs ({', '.join(map(told, model.graph.output))}); "
            "a classifier answers one tensor, a score for each class.",
            hint="Say which one that is with --output-tensor NAME: the graph is then cut down to it.",
        )
    if not wanted or found == [wanted]:
        return []
    known = [*found, *producers(model)]
    if wanted not in known:
        meant = nearest(wanted, known)
        offer = f"Did you mean {meant}?" if meant else f"Its outputs are: {', '.join(map(quote, found))}."
        raise UsageError(f"The model has no tensor {quote(wanted)} to take as its output.", hint=offer)
    chosen = next((one for one in model.graph.output if one.name == wanted), None) or _inferred(model, wanted)
    del model.graph.output[:]
    model.graph.output.append(chosen)
    dropped = _prune(model)
    rest = f", which leaves out {number(dropped, 'node')}" if dropped else ""
    return [f"cut down to the output {quote(wanted)}{rest}"]


def _prune(model: ModelProto) -> int:
    """Remove what the output does not need; answers how many nodes that were."""
    needed = {one.name for one in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            kept.append(type(node).FromString(node.SerializeToString()))
            needed |= reads(node)
    dropped = len(model.graph.node) - len(kept)
    for field in (model.graph.initializer, model.graph.input):
        idle = [place for place, one in enumerate(field) if one.name not in needed]
        for place in reversed(idle):
            del field[place]
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    return dropped


def _inferred(model: ModelProto, name: str) -> ValueInfoProto:
    """Declare a tensor inside the graph as an output."""
    from onnx import TensorProto, helper

    known = infer(model).types.get(name, TensorProto.FLOAT)
    return helper.make_tensor_value_info(name, known, None)
