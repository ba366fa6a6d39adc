"""Backends in a folder or file that is not installed: what its pyproject says, or the module alone.

Nothing is imported and nothing is installed here. A Source and the folders that its modules are in are what
a process needs that imports the plugin.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.discovery import GROUP, Source, nearest
from kdbench.errors import UsageError
from kdbench.problems import read_toml
from kdbench.strict import clean

PROJECT = "pyproject.toml"
TABLE = f"[project.entry-points.{GROUP}]"
UNKNOWN = "unversioned"
"""The version of what does not tell one without being built."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The backends of one distribution that is not installed, by name, and where their modules are."""

    sources: Mapping[str, Source]
    paths: tuple[str, ...]


def is_path(word: str) -> bool:
    """Tell whether a word is a path and can be no backend's name."""
    return os.sep in word or word in (".", "..") or word.endswith(".py")


def open_checkout(path: Path) -> Checkout:
    """Find the backends of a folder with a pyproject.toml, of a package, or of a module.

    Modules are looked for in `src`, in the folder itself, and where setuptools is told that they are. Raises
    UsageError for what is no plugin, with what is missing.
    """
    what = clean(str(path))
    if os.pathsep in str(path.absolute()):
        raise UsageError(f"{what} has {os.pathsep!r} in its path, which Python cannot search.")
    try:
        if path.is_dir():
            return _distribution(path, what) if (path / PROJECT).exists() else _package(path, what)
        if not path.exists():
            raise UsageError(f"There is no {what}.", hint=_offer(path))
    except OSError as fault:
        raise UsageError(f"{what} cannot be read: {fault.strerror or fault}.") from fault
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(
            f"{what} is neither a folder nor a Python module.",
            hint=f"Name the folder that has the plugin's {PROJECT}, or a .py file with the five hooks.",
        )
    return _module(path)


def _package(path: Path, what: str) -> Checkout:
    """Take a folder that is a package; its parent is what Python searches."""
    if not (path / "__init__.py").is_file():
        raise UsageError(
            f"{what} has no {PROJECT}, and is no package either.",
            hint="Name the folder of a plugin's distribution; `kdbench plugin new` writes one.",
        )
    return _module(path)


def _module(path: Path) -> Checkout:
    name = path.resolve().stem
    if not name.isidentifier():
        raise UsageError(f"No module can be called {clean(name)!r}.", hint="Rename the file.")
    return Checkout({name: Source(name, name, path.name, UNKNOWN, "")}, (str(path.resolve().parent),))


def _distribution(path: Path, what: str) -> Checkout:
    try:
        facts = read_toml(path / PROJECT)
    except ValueError as fault:
        raise UsageError(f"{what}/{PROJECT} {clean(str(fault))}.") from fault
    project = _table(facts, "project")
    entries = _table(_table(project, "entry-points"), GROUP)
    if not entries:
        hint = f'It must have a table {TABLE} with a line such as: mine = "kdbench_mine"'
        raise UsageError(f"{what}/{PROJECT} declares no backend.", hint=hint)
    name, version = project.get("name", path.resolve().name), project.get("version", UNKNOWN)
    sources = {
        str(backend): Source(str(backend), str(value), str(name), str(version), "")
        for backend, value in entries.items()
    }
    return Checkout(sources, tuple(_homes(path.resolve(), what, facts, sources)))


def _homes(path: Path, what: str, facts: Mapping[str, Any], sources: Mapping[str, Source]) -> list[str]:
    """List the folders that have the modules of all backends; raises UsageError for one that is in none."""
    found: dict[str, None] = {}
    searched = dict.fromkeys(_layouts(facts))
    for source in sources.values():
        module = re.split(r"[.:\[\s]", source.value, maxsplit=1)[0]
        folders = [path / folder for folder in searched if _has(path / folder, module)]
        if not module.isidentifier() or not folders:
            places = " or ".join(f"{what}/{folder}".removesuffix("/.") for folder in searched)
            raise UsageError(
                f"The module {clean(module)!r} of the backend {clean(source.name)!r} is not in {places}.",
                hint=f"{TABLE} says where a backend is, as module or module:attribute.",
            )
        found[str(folders[0])] = None
    return list(found)


def _layouts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Give the folders, relative to the distribution's, that may have its modules, the likeliest first."""
    yield "src"
    yield "."
    setuptools = _table(_table(facts, "tool"), "setuptools")
    where = _table(_table(setuptools, "packages"), "find").get("where", ())
    yield from (folder for folder in where if isinstance(folder, str))
    if isinstance(root := _table(setuptools, "package-dir").get(""), str):
        yield root


def _has(folder: Path, module: str) -> bool:
    return (folder / module).is_dir() or (folder / f"{module}.py").is_file()


def _table(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give a table, an empty one for anything else."""
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


def _offer(path: Path) -> str:
    """Offer the nearest name beside a path that does not exist."""
    parent = path.parent
    meant = nearest(path.name, [one.name for one in parent.iterdir()]) if parent.is_dir() else None
    return f"Did you mean {clean(str(parent / meant))}?" if meant else ""
