"""The student as a module of torch, for plugins that compile from its weights and not from its ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.errors import Unsupported
from kdbench.spec import Student

if TYPE_CHECKING:
    from torch import nn

GROUP = "kdbench.networks"
"""The entry-point group in which distributions register network factories."""


def build(student: Student) -> nn.Module:
    """Build the network of a student for evaluation, in the precision of its weights, without gradients.

    Imports torch and safetensors. Raises Unsupported for a student without factory or weights, for a factory
    that is not installed, and for weights that do not fit it.
    """
    return assemble(factory_of(student), student.arguments, student.files["weights"])


def factory_of(student: Student) -> str:
    """Give the name of a student's factory; Unsupported for a student without one, or without weights."""
    if student.factory is None or "weights" not in student.files:
        lack = "names no network factory" if student.factory is None else "holds no safetensors weights"
        raise Unsupported(
            f"PyTorch cannot build the student {student.name}: its bundle {lack}.",
            hint="Use a backend that reads ONNX, such as onnxruntime or openvino.",
        )
    return student.factory


def assemble(factory: str, arguments: Mapping[str, Any], weights: Path) -> nn.Module:
    """Build what `build` builds from the parts of a card, where a plugin kept these in its artifact.

    Raises Unsupported for a factory that is not installed, and for weights that do not fit it.
    """
    from safetensors.torch import load_file

    found = entry_points(group=GROUP, name=factory)
    if not found:
        raise Unsupported(
            f"The network factory {factory!r} is not installed.",
            hint=f"Install the package that registers it in the entry-point group {GROUP}.",
        )
    network: nn.Module = next(iter(found)).load()(**arguments)
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as fault:
        raise Unsupported(
            f"The weights of the student do not fit its network factory {factory!r}.",
            hint="Install the version of the factory's package with which the student was made.",
        ) from fault
    return network.eval().requires_grad_(False)
