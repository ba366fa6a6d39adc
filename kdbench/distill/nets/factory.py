"""Build a network by the name of its factory: an installed one, or, if trusted, any that Python finds."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import torch  # noqa: TID253  # a network is a torch class; this package is loaded only to build one
from torch import nn  # noqa: TID253

from kdbench.card import NETWORKS
from kdbench.errors import RecipeError
from kdbench.problems import nearest
from kdbench.spec import Scalar


def build(
    factory: str,
    arguments: Mapping[str, Scalar | Sequence[Scalar]],
    *,
    seed: int = 0,
    trust_code: bool = False,
) -> nn.Module:
    """Build a network, its weights drawn from `seed`; torch's own random state stays as it was.

    factory: a name in the `kdbench.networks` entry points, or with `trust_code` a `package.module:attribute`.
        The latter is refused without, since whoever wrote a recipe could name any callable of any module.
    arguments: its keywords.

    Raises RecipeError for a factory that is not there, cannot be imported or called, refuses the arguments
    or answers anything but a torch.nn.Module.
    """
    make = _trusted(factory, trust_code) if ":" in factory else _installed(factory)
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        network = make(**arguments)
    # A factory is anybody's code: anything may come out of it.
    except Exception as fault:
        told = f"{type(fault).__name__}: {fault}".rstrip(". ")
        raise RecipeError(f"The network {factory!r} cannot be built as asked: {told}.") from fault
    finally:
        torch.random.set_rng_state(before)
    if not isinstance(network, nn.Module):
        raise RecipeError(
            f"The network {factory!r} is of type {type(network).__name__}, not a torch.nn.Module.",
            hint="Write a factory that answers the network alone.",
        )
    return network


def _installed(name: str) -> Callable[..., object]:
    found = entry_points(group=NETWORKS, name=name)
    if not found:
        names = entry_points(group=NETWORKS).names
        meant = nearest(name, names)
        raise RecipeError(
            f"The network {name!r} is not installed (known: {', '.join(sorted(names)) or 'none'}).",
            hint=f"Did you mean {meant}?"
            if meant
            else f"Install the package that provides it in the entry-point group {NETWORKS}, "
            "or name package.module:attribute with --trust-code.",
        )
    try:
        return _callable(next(iter(found)).load(), name)
    except (ImportError, AttributeError) as fault:
        raise RecipeError(
            f"The network {name!r} is installed, but cannot be imported: {fault}.",
            hint="Install the package that provides it anew.",
        ) from fault


def _trusted(path: str, trust_code: bool) -> Callable[..., object]:
    if not trust_code:
        raise RecipeError(
            f"The network {path!r} is code that is not installed as a network of kdbench, and would be run.",
            hint="If you trust whoever named it, add --trust-code.",
        )
    name, _, attribute = path.partition(":")
    parts = (*name.split("."), *attribute.split("."))
    if not all(part.isidentifier() for part in parts):
        raise RecipeError(
            f"The network {path!r} is not written as package.module:attribute.",
            hint="For example torchvision.models:resnet18.",
        )
    found = _imported(name, path)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as fault:
            meant = nearest(part, dir(found))
            raise RecipeError(
                f"The network {path!r} is not there: {name} has no {attribute}.",
                hint=f"Did you mean {meant}?" if meant else "",
            ) from fault
    return _callable(found, path)


def _imported(module: str, path: str) -> Any:
    try:
        return importlib.import_module(module)
    # Importing runs the module: anything may come out of it, also the end of a script.
    except (Exception, SystemExit) as fault:
        lacking = fault.name if isinstance(fault, ModuleNotFoundError) else None
        if lacking and f"{module}.".startswith(f"{lacking}."):
            raise RecipeError(
                f"The network {path!r} is not there: Python finds no module {lacking}.",
                hint="Install it; or, for a file of your own, put its folder into PYTHONPATH.",
            ) from fault
        told = f"{type(fault).__name__}: {fault}".rstrip(". ")
        raise RecipeError(
            f"The network {path!r} cannot be had: importing {module} ends in {told}."
        ) from fault


def _callable(found: Any, name: str) -> Callable[..., object]:
    if isinstance(found, nn.Module):
        raise RecipeError(
            f"The network {name!r} is a finished {type(found).__name__}, not a factory.",
            hint="Name the function or class that makes it.",
        )
    if not callable(found):
        raise RecipeError(
            f"The network {name!r} is something of type {type(found).__name__}, which cannot be called.",
            hint="Name a function or class that answers a torch.nn.Module.",
        )
    made: Callable[..., object] = found
    return made
