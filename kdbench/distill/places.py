"""Where a distillation writes: the bundle, the picture beside it, and the work that is kept meanwhile."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import StudentError, UsageError
from kdbench.student import check_writable

if TYPE_CHECKING:
    from kdbench.distill.tables import DataPlan

PARTIAL = ".partial"
"""Work in progress stands beside the bundle, in a folder of its name with this at the end."""

_WORK = re.compile("seed[0-9]+-[0-9a-f]{12}")


def partial_folder(directory: Path) -> Path:
    """Give the folder in which unfinished work on a bundle is kept."""
    directory = directory.absolute()
    return directory.with_name(directory.name + PARTIAL)


def picture_path(directory: Path) -> Path:
    """Give the place of the picture of the bundle in `directory`."""
    directory = directory.absolute()
    return directory.with_name(directory.name + ".png")


def check_places(directory: Path, *, overwrite: bool, pictured: bool, data: DataPlan, base: Path) -> None:
    """Refuse a bundle, a picture or kept work that could not be put where they belong, before training.

    pictured: whether a picture of the ladder is drawn. base: what relative paths of the data refer to.
    """
    check_writable(directory, overwrite=overwrite)
    work, picture = partial_folder(directory), picture_path(directory)
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise StudentError(
            f"{work} is in the way: unfinished work is kept in a folder of that name.",
            hint="Move it away, or choose another --output.",
        )
    if pictured and (picture.is_dir() or (_there(picture) and not overwrite)):
        raise StudentError(
            f"{picture} exists already; the picture of the ladder goes there.",
            hint="Choose another --output, or add --overwrite." if picture.is_file() else "Move it away.",
        )
    output = directory.absolute().resolve()
    for value in data.arguments.values() if data.source == "folder" else ():
        place = base / value if isinstance(value, str) and value else None
        if place is not None and place.is_dir() and output.is_relative_to(place.resolve()):
            raise UsageError(
                f"The bundle would be written to {directory}, among the pictures of {value}.",
                hint="Choose an --output outside that folder.",
            )


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def remove_work(work: Path) -> None:
    """Remove the work that kdbench keeps in this folder, and the folder if nothing else is in it."""
    for folder in work.glob("seed*"):
        if _WORK.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
    remove_if_empty(work)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that nothing is in, and leave any other."""
    with suppress(OSError):
        folder.rmdir()
