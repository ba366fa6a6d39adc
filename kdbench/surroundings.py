"""The folders that kdbench writes to, and the distributions that stand in each other's way.

What is not told is None. Nothing is written but an unnamed file, which is gone at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kdbench import cache, results
from kdbench.errors import KdbenchError
from kdbench.strict import clean


@dataclass(frozen=True, slots=True)
class Place:
    """A folder. fault: why nothing can be written to it. used_bytes: what it holds."""

    path: str
    fault: str = ""
    free_bytes: int | None = None
    used_bytes: int | None = None


def results_place() -> Place:
    """Look at the folder that results go to when nobody says where."""
    return _place(results.default_path(None, "run", datetime.now(UTC)).parent)


def cache_place() -> Place:
    """Look at the user's cache folder, and how much it holds."""
    try:
        folder = cache.user_folder()
    except KdbenchError as fault:
        return Place("", fault.message)
    place = _place(folder)
    return Place(place.path, place.fault, place.free_bytes, _held(folder))


def rivals(relevant: Collection[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """List import packages that several distributions have installed over each other.

    relevant: of each, at least one distribution must be among these. The last one installed has won, file by
    file, and removing either breaks the other.
    """
    from importlib import metadata

    owners: dict[str, set[str]] = defaultdict(set)
    for distribution in metadata.distributions():
        # Whatever importlib.metadata trips over in one damaged installation must not hide the others.
        with contextlib.suppress(Exception):
            name = distribution.metadata["Name"]
            for file in distribution.files or ():
                if name and len(file.parts) == 2 and file.parts[1] == "__init__.py":
                    owners[file.parts[0]].add(name)
    return tuple(
        (clean(package), tuple(sorted(clean(name) for name in names)))
        for package, names in sorted(owners.items())
        if len(names) > 1 and names & set(relevant)
    )


def _place(folder: Path) -> Place:
    shown = clean(str(folder))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        return Place(shown, free_bytes=shutil.disk_usage(folder).free)
    except OSError as fault:
        return Place(shown, fault=fault.strerror or type(fault).__name__)


def _held(folder: Path) -> int:
    """Add up what lies below a folder; a file that has just gone counts as none."""
    held = 0
    for home, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                held += os.lstat(os.path.join(home, name)).st_size  # noqa: PTH118  # walked by the hundred thousand
    return held
