"""Write the distribution of a new plugin, whole, from the templates beside this module.

What is written keeps the contract at once: a small evaluator in NumPy stands in for the runtime. A template
has `@NAME@`, `@MODULE@`, `@KDBENCH@` and the like where the new plugin's own words go.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

from kdbench import __version__
from kdbench.catalogue import KNOWN
from kdbench.discovery import installed
from kdbench.errors import UsageError
from kdbench.problems import quote
from kdbench.spec import API
from kdbench.strict import clean

LONGEST = 40
"""Characters of a name: longer ones would not fit the lines of the templates."""

PREFIX = "kdbench-"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FORM = "lower-case letters and digits, in words joined by '-'"

FILES = {
    "gitignore": ".gitignore",
    "workflow": ".github/workflows/contract.yml",
    "licence": "LICENSE",
    "readme": "README.md",
    "pyproject": "pyproject.toml",
    "hooks": "src/@MODULE@/__init__.py",
    "runtime": "src/@MODULE@/_runtime.py",
    "stand_in": "src/@MODULE@/_stand_in.py",
    "typed": "src/@MODULE@/py.typed",
    "contract": "tests/test_contract.py",
}
"""Where each template goes."""


@dataclass(frozen=True, slots=True)
class Written:
    """The folder of a new distribution, and its files by path in it."""

    folder: Path
    files: tuple[str, ...]


def write(name: str, folder: Path) -> Written:
    """Write the plugin of a backend that does not exist yet; all of it or nothing.

    folder: where its distribution goes: a new folder, or an empty one. Raises UsageError for a name that
    cannot be had, and for a folder that holds something or cannot be written.
    """
    refuse_name(name)
    _refuse_taken(folder)
    texts = rendered(name)
    try:
        _put(folder.absolute(), texts)
    except OSError as fault:
        reason = fault.strerror or fault
        hint = "Choose another --directory."
        raise UsageError(f"{clean(str(folder))} cannot be written: {reason}.", hint=hint) from fault
    return Written(folder, tuple(texts))


def rendered(name: str) -> dict[str, str]:
    """Give the files of a new plugin by path."""
    words = _words(name)
    templates = files(__name__)

    def filled(text: str) -> str:
        for mark, word in words.items():
            text = text.replace(f"@{mark}@", word)
        return text

    return {
        filled(path): filled((templates / f"{template}.in").read_text(encoding="utf-8"))
        for template, path in FILES.items()
    }


def refuse_name(name: str) -> None:
    """Raise UsageError unless a new backend can be called so, and its distribution `kdbench-` and that."""
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        fit = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].strip("-")
        offer = f" Did you mean {fit}?" if NAME.fullmatch(fit) else ""
        raise UsageError(
            f"{quote(name)} cannot be the name of a backend.",
            hint=f"A name is at most {LONGEST} {FORM}.{offer}",
        )
    if name.startswith(PREFIX) or name == PREFIX.rstrip("-"):
        bare = name.removeprefix(PREFIX)
        hint = f"Its distribution is called {PREFIX}{bare} then." if bare != name else ""
        raise UsageError(f"The name of a backend does not begin with kdbench: {bare}.", hint=hint)
    if reason := _claimed(name):
        raise UsageError(
            f"{reason}.", hint="Choose another name: two backends of one name exclude each other."
        )


def _claimed(name: str) -> str:
    """Say who has this name already, as a backend or as a distribution; empty where nobody has."""
    found, _ = installed(only=name)
    if name in found:
        return f"The backend {name!r} is installed already, by {clean(str(found[name]))}"
    if name in KNOWN:
        return f"The name {name!r} is that of a backend which kdbench knows, for {KNOWN[name].title}"
    own = {Path(one.checkout.partition("[")[0]).name for one in KNOWN.values() if one.checkout}
    try:
        there = bool(distribution(PREFIX + name))
    except PackageNotFoundError:
        there = False
    return f"There is a distribution {PREFIX}{name} already" if there or PREFIX + name in own else ""


def _words(name: str) -> dict[str, str]:
    major, minor, *_ = __version__.split(".")
    following = f"{major}.{int(minor) + 1}" if major == "0" else str(int(major) + 1)
    return {
        "NAME": name,
        "MODULE": f"kdbench_{name.replace('-', '_')}",
        "DISTRIBUTION": PREFIX + name,
        "TITLE": name.replace("-", " ").capitalize(),
        "KDBENCH": f">={major}.{minor},<{following}",
        "API": str(API),
    }


def _put(home: Path, texts: Mapping[str, str]) -> None:
    """Write the files beside their place, then move them there; an empty folder stays the same folder."""
    there = home.is_dir()
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kdbench-new-", dir=home if there else home.parent) as draft:
        fresh = Path(draft) / "fresh"
        for path, text in texts.items():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_text(text, encoding="utf-8")
        if there:
            for entry in sorted(fresh.iterdir()):
                entry.rename(home / entry.name)
        else:
            fresh.rename(home)


def _refuse_taken(folder: Path) -> None:
    what = clean(str(folder))
    if os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink()):
        raise UsageError(f"{what} exists, and is no folder.", hint="Choose another --directory.")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{what} is not empty, and nothing is overwritten.", hint="Choose another --directory."
            )
    except OSError as fault:
        raise UsageError(f"{what} cannot be read: {fault.strerror or fault}.") from fault
