"""MNIST's IDX files, as they come: four files, packed by gzip or not, that the user has."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kdbench.distill.sources import Offer, Pictures
from kdbench.distill.sources.files import NOT_STATED, check_folder, check_room, locate, reason, shown
from kdbench.distill.sources.twins import without_contradictions
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from kdbench.spec import Array

PARTS = ("train", "t10k")


def mnist(
    *,
    folder: str,
    classes: tuple[str, ...] = (),
    contradictory: Literal["refuse", "drop"] = "refuse",
    licence: str = NOT_STATED,
    citation: str = "",
    base: Path,
) -> Offer:
    """Offer both parts together, or the one that is there, of MNIST or a set in its form (Fashion-MNIST).

    classes: names for the labels 0, 1, ...; without them the numbers themselves.
    contradictory: `drop` leaves out all copies of a picture that bears two labels.
    """
    home = locate(base, folder, "data.arguments.folder")
    check_folder(home, "the IDX files of MNIST, such as train-images-idx3-ubyte.gz")
    read = [_part(home, part) for part in PARTS if _find(home, f"{part}-images", 3)]
    if not read:
        inner = next((path for path in sorted(home.glob("*/")) if _find(path, "train-images", 3)), None)
        raise RecipeError(
            f"The folder {shown(home)} has neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte, "
            "packed as .gz or not.",
            hint=f"The folder {shown(inner.name)} in it has." if inner else "",
        )
    pictures = _joined(read, home)
    highest = int(pictures.labels.max())
    if classes and highest >= len(classes):
        raise RecipeError(f"A label in {shown(home)} is {highest}, but {len(classes)} classes are named.")
    if contradictory == "drop":
        pictures = without_contradictions(pictures)
    return Offer(
        classes=classes or tuple(map(str, range(highest + 1))),
        familiar=pictures,
        unfamiliar=None,
        generator="kdbench mnist",
        origin=f"IDX files (MNIST or a set in its form) in the folder {shown(home.name)}",
        licence=licence,
        citation=citation,
    )


def _part(home: Path, part: str) -> tuple[Array, Array]:
    images, labels = _find(home, f"{part}-images", 3), _find(home, f"{part}-labels", 1)
    if images is None or labels is None:
        raise RecipeError(f"The folder {shown(home)} has {part}-images-idx3-ubyte, but not its labels.")
    read = _idx(images, 3), _idx(labels, 1)
    if len(read[0]) != len(read[1]):
        raise RecipeError(
            f"{shown(images)} has {len(read[0])} pictures, {shown(labels.name)} {len(read[1])} labels."
        )
    return read


def _find(home: Path, stem: str, axes: int) -> Path | None:
    """Find `train-images-idx3-ubyte` or as some unpack it, `train-images.idx3-ubyte`; unpacked goes first."""
    names = (f"{stem}{mark}idx{axes}-ubyte{packed}" for packed in ("", ".gz") for mark in ("-", "."))
    return next((home / name for name in names if (home / name).is_file()), None)


def _idx(path: Path, axes: int) -> Array:
    """Read one IDX file of bytes: 0, 0, 8 and the number of axes, their lengths (big-endian), the data."""
    import numpy as np

    what, head_bytes = shown(path), 4 + 4 * axes
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(head_bytes)
            if len(head) < head_bytes or head[:4] != bytes((0, 0, 8, axes)):
                raise RecipeError(
                    f"{what} does not begin as an IDX file of bytes with {axes} axes.",
                    hint="Is it packed although its name does not end in .gz?"
                    if head[:2] == b"\x1f\x8b"
                    else "",
                )
            shape = struct.unpack(f">{axes}I", head[4:])
            if 0 in shape:
                raise RecipeError(f"{what} has the shape {shape}; expected none of it to be 0.")
            check_room(what, *shape)
            promised = int(np.prod(shape))
            data = stream.read(promised + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise RecipeError(f"{what} cannot be read: {reason(fault)}.", hint="Get it again.") from fault
    if len(data) != promised:
        found = "more" if len(data) > promised else str(len(data))
        raise RecipeError(
            f"{what} promises {promised} bytes after its header and has {found}.", hint="Get it again."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _joined(read: list[tuple[Array, Array]], home: Path) -> Pictures:
    import numpy as np

    sizes = {images.shape[1:] for images, _ in read}
    if len(sizes) > 1:
        raise RecipeError(f"The two parts of {shown(home)} have pictures of unequal size: {sorted(sizes)}.")
    images = np.concatenate([images for images, _ in read])[:, None]
    return Pictures(images, np.concatenate([labels for _, labels in read]).astype(np.int64))
