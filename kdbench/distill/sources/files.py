"""Files and folders that a recipe names, and how much is read of what they hold."""

from __future__ import annotations

import math
import stat
from pathlib import Path

from kdbench.errors import RecipeError

LIMIT_BYTES = 4 << 30
"""No domain has more than this in decoded pictures, whatever a small file unpacks to."""

REASON_LIMIT = 200
NAME_LIMIT = 255

NOT_STATED = "not stated"
"""The licence of pictures whose owner was not asked; a recipe can say it."""


def shown(name: object) -> str:
    """Give the name of a file or a class as a message shows it: whole, in quotes, and printable."""
    text = str(name)
    return repr(text) if text.isprintable() else ascii(text)


def reason(fault: Exception) -> str:
    """Give a library's own account of what went wrong as one short line."""
    text = " ".join(str(fault).split()).rstrip(".")[:REASON_LIMIT] or type(fault).__name__
    return text if text.isprintable() else ascii(text)


def locate(base: Path, where: str, setting: str) -> Path:
    """Give the path that a setting of a recipe means; relative ones start at `base`."""
    if not where or "\0" in where:
        raise RecipeError(f"{setting} is {shown(where)}, expected the path of what is to be read.")
    return base / where


def check_folder(path: Path, what: str) -> None:
    """Refuse what is no folder; `what` says what it should hold."""
    mode = _mode(path)
    if not stat.S_ISDIR(mode):
        found = "is a file, not a folder" if mode else "does not exist"
        raise RecipeError(f"{shown(path)} {found}; expected a folder with {what}.")


def check_file(path: Path, what: str) -> None:
    """Refuse what is no plain file; `what` says what it should be."""
    mode = _mode(path)
    if not stat.S_ISREG(mode):
        raise RecipeError(f"{shown(path)} {'is not a file' if mode else 'does not exist'}; expected {what}.")


def check_class(name: str, path: Path) -> None:
    """Refuse the name of a class that no card could hold."""
    if not name.isprintable() or not 0 < len(name) <= NAME_LIMIT:
        raise RecipeError(
            f"{shown(path)} has a class named {shown(name[:NAME_LIMIT])}, "
            f"expected plain text in one line of at most {NAME_LIMIT} characters."
        )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as fault:
        raise RecipeError(f"{shown(path)} cannot be read: {fault.strerror}.") from fault


def check_room(what: str, *shape: int) -> None:
    """Refuse bytes of this shape if there would be more than the limit."""
    size = math.prod(shape)
    if size > LIMIT_BYTES:
        raise RecipeError(
            f"{what} would take {size} bytes of memory, more than the limit of {LIMIT_BYTES}.",
            hint="Take fewer pictures, or smaller ones.",
        )
