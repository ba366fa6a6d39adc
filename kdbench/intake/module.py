"""A torch network, by its factory or as an exported program: built, given its weights, exported to ONNX."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.card import NETWORKS
from kdbench.errors import StudentError, UsageError
from kdbench.intake.ask import Argument, Ask
from kdbench.intake.export import export, export_program, quiet
from kdbench.intake.weights import first_line, load, pack, refuse_non_numbers
from kdbench.problems import quote

if TYPE_CHECKING:
    from torch import nn

    from kdbench.spec import Array

CHUNK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A network as ONNX, and what only torch knows of it.

    predict: from inputs (N, *shape) and a batch size to each of the network's outputs, (N, ...).
    factory, arguments, weights: of a network that is installed in the entry points, so that a bundle can
        keep it as torch takes it; None and empty otherwise.
    parameters: trained numbers. trained: whether its weights are other than random.
    """

    graph: bytes
    sha256: str
    predict: Callable[[Array, int], tuple[Array, ...]]
    parameters: int
    trained: bool = True
    factory: str | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    weights: bytes | None = None
    notes: tuple[str, ...] = ()


def is_factory(model: str) -> bool:
    """Tell the name of a network, installed or `package.module:factory`, from a path."""
    return model in metadata.entry_points(group=NETWORKS).names or (":" in model and not Path(model).exists())


def from_factory(ask: Ask, shape: tuple[int, ...]) -> Exported:
    """Build the network that was asked for, load its weights and export it for inputs (batch, *shape).

    Whoever calls this was given the factory's name by the user: it is imported and run.
    Raises KdbenchError where the factory, its arguments, the weights or the exporter will not have it.
    """
    from kdbench.distill.nets import build

    arguments = dict(ask.arguments)
    name = _registered(ask.model)
    with _working_folder_last():
        network = build(name or ask.model, arguments, seed=ask.seed, trust_code=True).eval()
        trained = ask.weights is not None or not _drawn(
            network, build(name or ask.model, arguments, seed=ask.seed + 1, trust_code=True)
        )
    if ask.weights is not None:
        with quiet():
            load(network, ask.weights, ask.model, trust_code=ask.trust_code)
    refuse_non_numbers(network)
    weights = pack(network)
    return Exported(
        graph=export(network, shape),
        sha256=hashlib.sha256(weights).hexdigest(),
        predict=_predictor(network),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        trained=trained,
        factory=name,
        arguments=arguments if name else {},
        weights=weights if name else None,
        notes=() if name else (_unregistered(ask.model),),
    )


def from_program(path: Path, *, trust_code: bool) -> Exported:
    """Load a `.pt2` that `torch.export.save` wrote and export it to ONNX; loading it can run code.

    Raises UsageError without `trust_code`, StudentError for a file that torch cannot load or export.
    """
    if not trust_code:
        raise UsageError(
            f"Loading {quote(path.name)} can run code that is in it, so it is not loaded.",
            hint="If you trust whoever made it, add --trust-code; an .onnx file needs no trust.",
        )
    import torch

    try:
        with quiet():
            program = torch.export.load(path)
    except Exception as fault:  # torch.load, zip files and graphs of any version come together here
        raise StudentError(
            f"{quote(path.name)} cannot be loaded as an exported program: {first_line(fault)}.",
            hint="Write it with torch.export.save, in the version of torch that is installed here.",
        ) from fault
    network = program.module()
    return Exported(
        graph=export_program(program, path.name),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        predict=_predictor(network),
        parameters=sum(parameter.numel() for parameter in program.parameters()),
    )


def _registered(model: str) -> str | None:
    """Give the name under which a factory is installed, if it is."""
    for entry in metadata.entry_points(group=NETWORKS):
        if model in (entry.name, entry.value):
            return entry.name
    return None


def _unregistered(model: str) -> str:
    """Say how the factory could come into the bundle; see `from_factory`."""
    return (
        f"the bundle holds the network as ONNX only, because {model} is not among kdbench's networks; for a "
        f'torch backend, register it in its package, [project.entry-points."{NETWORKS}"] '
        f'my-network = "{model}", install that, and import it by the name my-network'
    )


@contextmanager
def _working_folder_last() -> Iterator[None]:
    """Let Python find a module of the working folder, after all others, so that it can hide none."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _drawn(network: nn.Module, other: nn.Module) -> bool:
    """Tell whether weights come from the seed: then they were never trained."""
    import torch

    pairs = zip(network.parameters(), other.parameters(), strict=False)
    return any(one.shape != two.shape or not torch.equal(one, two) for one, two in pairs)


def _predictor(network: nn.Module) -> Callable[[Array, int], tuple[Array, ...]]:
    """Give the function that runs the network on arrays and flattens whatever it answers into arrays."""
    import torch
    from torch.utils import _pytree

    def predict(images: Array, batch: int) -> tuple[Array, ...]:
        import numpy as np

        parts = []
        with torch.inference_mode(), quiet():
            for first in range(0, len(images), batch):
                rows = np.arange(first, first + batch) % len(images)
                leaves = _pytree.tree_leaves(network(torch.from_numpy(images[rows])))
                parts.append([leaf.float().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)])
        return tuple(np.concatenate(column)[: len(images)] for column in zip(*parts, strict=True))

    return predict
