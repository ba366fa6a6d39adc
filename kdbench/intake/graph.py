"""Read an ONNX file into one model without functions, foreign files and notes, and judge its operators."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.card import FILE_LIMIT_BYTES
from kdbench.errors import StudentError
from kdbench.intake.external import TOO_LARGE, inline
from kdbench.intake.walk import number
from kdbench.problems import quote
from kdbench.strict import clean
from kdbench.walk import deep, graphs, nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
DOMAINS = STANDARD | {"com.microsoft"}
"""Whose operators are not custom: ONNX's own, and those that onnxruntime's quantiser and optimiser write."""

_FOREIGN = "Export the model with ONNX's own operators: kdbench loads no foreign ones."
_OPTIMISED = "onnxruntime has optimised this file for one machine: give the one that it was made from."

NODES_LIMIT = 1_000_000
"""No graph has more nodes once its functions are written out, however small the file is."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A model that was read; `changes` say what was done to it, and `sha256` is that of the whole before."""

    model: ModelProto
    sha256: str
    changes: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Read an `.onnx` file, its external weights with it, and refuse what no backend could run.

    Raises StudentError for what is not ONNX, damaged, too large, newer than the onnx package, or has
    operators that are not ONNX's own.
    """
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise StudentError(f"{quote(path.name)} has {size} bytes, {TOO_LARGE}.")
        content = path.read_bytes()
        model = _parsed(content, path.name)
        outside = inline(model, path.parent)
    except OSError as fault:
        raise StudentError(f"{quote(path.name)} cannot be read: {fault.strerror or fault}.") from fault
    # The bytes as they are, so that any tool gives the same sum; with the weights where those lay outside.
    whole = model.SerializeToString(deterministic=True) if outside else content
    changes = [f"{number(outside, 'weight')} from other files put into this one"] if outside else []
    return judged(model, hashlib.sha256(whole).hexdigest(), changes)


def judged(model: ModelProto, sha256: str, changes: list[str]) -> Graph:
    """Refuse a model that no backend could run, write its functions out and remove its notes."""
    model.ClearField("training_info")
    check_versions(model)
    if model.functions:
        model = _written_out(model)
        changes = [*changes, "its functions are written out"]
    check_operators(model)
    _check(model)
    strip(model)
    return Graph(model, sha256, tuple(changes))


def _parsed(content: bytes, name: str) -> ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(content)
    except DecodeError as fault:
        raise _no_model(name) from fault
    if not model.graph.node or not model.opset_import:
        raise _no_model(name)
    return model


def _no_model(name: str) -> StudentError:
    return StudentError(
        f"{quote(name)} is not an ONNX model, or not a whole one.",
        hint="Export it again, or copy it again: a file that was cut short looks like this.",
    )


def check_versions(model: ModelProto) -> None:
    """Refuse a format or an operator set that is newer than the onnx package here."""
    import onnx
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise StudentError(
            f"The model has the ONNX format (IR) {model.ir_version}; "
            f"the onnx package here, {onnx.__version__}, knows {onnx.IR_VERSION} at most.",
            hint="Install a newer onnx, or export for an older one.",
        )
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise StudentError(
                f"The model uses the operators of opset {entry.version}; "
                f"the onnx package here, {onnx.__version__}, knows {newest} at most.",
                hint="Install a newer onnx, or export for an older opset; 20 runs everywhere.",
            )


def check_operators(model: ModelProto) -> None:
    """Refuse the first operator that is custom or unknown, at any depth, by name, domain and node."""
    from onnx import defs

    versions = {
        "" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import
    }
    for node in nodes(model):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in DOMAINS:
            raise StudentError(
                f"The model has the custom operator {quote(node.op_type)} of the domain {quote(domain)} "
                f"({_place(node)}); it runs only where somebody has installed that operator.",
                hint=_OPTIMISED if domain.startswith("com.microsoft.") else _FOREIGN,
            )
        if domain not in versions:
            raise StudentError(f"The model has operators of the domain {quote(domain)} and no version of it.")
        if domain in STANDARD:
            try:
                defs.get_schema(node.op_type, versions[domain], domain)
            # TypeError: a version that is no number of 32 bits.
            except (defs.SchemaError, TypeError) as fault:
                raise StudentError(
                    f"The model has the operator {quote(node.op_type)} ({_place(node)}), "
                    f"which opset {versions[domain]} of {domain or 'ai.onnx'} does not know.",
                    hint="Export the model with ONNX's own operators.",
                ) from fault


def operators(model: ModelProto) -> tuple[tuple[str, int], ...]:
    """Count the operators, those inside control flow too, the most frequent first."""
    counts = Counter(clean(node.op_type) for node in nodes(model))
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def strip(model: ModelProto) -> None:
    """Remove notes and intermediate shapes: notes hold the paths of the machine that exported."""
    for part in (model, *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for graph in graphs(model):
        graph.ClearField("value_info")
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
        graph.ClearField("quantization_annotation")
    for node in nodes(model):
        for attribute in node.attribute:
            attribute.ClearField("doc_string")


def packed(model: ModelProto) -> bytes:
    """Give the file of a model; the same model gives the same bytes."""
    from google.protobuf.message import EncodeError

    try:
        # Not asked for its size before: that takes as long as the serialising.
        content = bytes(model.SerializeToString(deterministic=True))
    except (EncodeError, ValueError) as fault:
        raise _too_large() from fault
    if len(content) > FILE_LIMIT_BYTES:
        raise _too_large()
    return content


def _too_large() -> StudentError:
    return StudentError(f"The model would be {TOO_LARGE}.", hint="It is too large for kdbench.")


def _check(model: ModelProto) -> None:
    from onnx import checker

    # The checker wants a shape where every runtime does without one.
    ports = [port for graph in graphs(model) for port in (*graph.input, *graph.output)]
    kinds = [port.type.tensor_type for port in ports if port.type.HasField("tensor_type")]
    bare = [kind for kind in kinds if not kind.HasField("shape")]
    for kind in bare:
        kind.shape.SetInParent()
    try:
        checker.check_model(model)
    # ValidationError, but also whatever a hostile file makes the checker trip over.
    except Exception as fault:
        first = clean(str(fault).strip().split("\n")[0]).rstrip(".")[:300]
        raise StudentError(f"The model breaks a rule of ONNX: {first}.", hint="Export it again.") from fault
    finally:
        for kind in bare:
            kind.ClearField("shape")


def _written_out(model: ModelProto) -> ModelProto:
    from onnx import inliner

    _check_growth(model)
    try:
        return inliner.inline_local_functions(model)
    # The inliner is native code and raises whatever it trips over.
    except Exception as fault:
        raise StudentError(
            f"The model's functions cannot be written out: {clean(str(fault))[:300].rstrip('.')}.",
            hint="Export it without functions of its own.",
        ) from fault


def _check_growth(model: ModelProto) -> None:
    """Refuse functions that call themselves, or each other so often that the graph would fill the memory."""
    bodies = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], above: tuple[tuple[str, str], ...]) -> int:
        if key in above or len(above) > 100:
            raise StudentError(f"The model's function {quote(key[1])} calls itself, which ONNX forbids.")
        if key not in sizes:
            sizes[key] = count(bodies[key].node, (*above, key))
        return sizes[key]

    def count(found: Iterable[NodeProto], above: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in deep(found):
            key = (node.domain, node.op_type)
            total += size(key, above) if key in bodies else 1
            if total > NODES_LIMIT:
                raise StudentError(f"The model's functions would become more than {NODES_LIMIT} nodes.")
        return total

    count(model.graph.node, ())


def _place(node: NodeProto) -> str:
    answers = quote(node.output[0]) if node.output else "nothing"
    return f"node {quote(node.name)}" if node.name else f"the node that answers {answers}"
