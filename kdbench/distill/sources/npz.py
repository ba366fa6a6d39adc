"""Pictures in NumPy's `.npz` files, one file a domain; nothing in them is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

from kdbench.distill.sources import CLASSES_LIMIT, Offer, Pictures
from kdbench.distill.sources.files import (
    NOT_STATED,
    check_class,
    check_file,
    check_room,
    locate,
    reason,
    shown,
)
from kdbench.distill.sources.folder import check_classes
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np

    from kdbench.spec import Array

NAMES_LIMIT_BYTES = 1 << 26
"""The names of classes take no more; NumPy stores 4 bytes a character, and all as long as the longest."""

_HINT = "Write it as numpy.savez(path, images=..., labels=...), perhaps with classes=[names]."


def npz(
    *,
    familiar: str,
    unfamiliar: str = "",
    licence: str = NOT_STATED,
    citation: str = "",
    base: Path,
) -> Offer:
    """Offer the pictures of one file, or of one for each domain, as `read_npz_pictures` reads them.

    Where only one of two files names its classes, the names hold for both; where none does, classes are named
    by their numbers, and every number up to the highest must occur.
    """
    home = locate(base, familiar, "data.arguments.familiar")
    pictures, classes = read_npz_pictures(home)
    others, origin = None, f"arrays in {shown(home.name)}"
    if unfamiliar:
        away = locate(base, unfamiliar, "data.arguments.unfamiliar")
        others, found = read_npz_pictures(away)
        if (classes is None) == (found is None):
            check_classes(classes or _numbered(pictures, home), found or _numbered(others, away))
        classes, origin = classes or found, f"arrays in {shown(home.name)} and {shown(away.name)}"
        if classes is not None:
            _check_labels(others, classes, away)
    classes = classes or _numbered(pictures, home)
    _check_labels(pictures, classes, home)
    if len(classes) < 2:
        raise RecipeError(f"{shown(home)} has one class, {shown(classes[0])}; at least two are needed.")
    return Offer(classes, pictures, others, "kdbench npz", origin, licence, citation)


def read_npz_pictures(path: Path) -> tuple[Pictures, tuple[str, ...] | None]:
    """Read `images`, `labels` and, if it is there, `classes`; None where the file does not name its classes.

    images: uint8, (N, H, W), (N, C, H, W) or (N, H, W, C), C 1 or 3; which of the last two it is must be
        plain from the shape. labels: (N,) whole numbers from 0. classes: text, a name for each label.
    Raises RecipeError for anything else, before the data of an array that is too large is unpacked.
    """
    import numpy as np

    what = shown(path)
    check_file(path, "an npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            found = sorted(name.removesuffix(".npy") for name in archive.namelist())
            if found not in (["images", "labels"], ["classes", "images", "labels"]):
                raise RecipeError(
                    f"{what} holds {', '.join(map(shown, found)) or 'nothing'}; "
                    "expected images, labels and perhaps classes.",
                    hint=_HINT,
                )
            labels = _read(archive, "labels", path)
            images = _images(_read(archive, "images", path), path)
            names = _names(_read(archive, "classes", path), path) if "classes" in found else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as fault:
        raise RecipeError(f"{what} cannot be read as npz: {reason(fault)}.", hint=_HINT) from fault
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise RecipeError(
            f"The labels in {what} are {labels.dtype} {labels.shape}, expected whole numbers (N,).",
            hint="labels.astype('int64').ravel() makes them so, if they are numbers of classes.",
        )
    if len(labels) != len(images) or not len(labels):
        raise RecipeError(
            f"{what} has {len(images)} images and {len(labels)} labels; expected as many, and some."
        )
    if labels.min() < 0 or labels.max() >= CLASSES_LIMIT:
        raise RecipeError(
            f"The labels in {what} run from {labels.min()} to {labels.max()}; "
            f"expected numbers from 0, below {CLASSES_LIMIT}."
        )
    pictures = Pictures(images, labels.astype(np.int64))
    if names is not None:
        _check_labels(pictures, names, path)
    return pictures, names


def _read(archive: zipfile.ZipFile, key: str, path: Path) -> Array:
    """Read one array, its header first: its kind and size decide whether its data are unpacked."""
    import numpy as np

    what = f"{key} in {shown(path)}"
    try:
        with archive.open(f"{key}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(stream)
            _check_header(key, what, shape, dtype)
            promised = stream.tell() + math.prod(shape) * dtype.itemsize
            if archive.getinfo(f"{key}.npy").file_size != promised:
                raise RecipeError(f"{what} has not the {promised} bytes that it promises.", hint=_HINT)
            stream.seek(0)
            array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    # NumPy reads a header as Python text: one that is no such text trips its tokeniser.
    except (ValueError, EOFError, SyntaxError, TokenError, zlib.error, zipfile.BadZipFile) as fault:
        raise RecipeError(f"{what} cannot be read: {reason(fault)}.", hint=_HINT) from fault
    return array


def _check_header(key: str, what: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    if dtype.hasobject:
        raise RecipeError(
            f"{what} holds Python objects, which are pickled; kdbench opens no pickles.",
            hint="Make it an array of numbers, or for classes of text: numpy.array(names, dtype=str).",
        )
    if min(shape, default=0) < 0:
        raise RecipeError(f"{what} has the shape {shape}, which cannot be.")
    if key == "images":
        if dtype != "uint8":
            raise RecipeError(
                f"{what} are {dtype}, expected uint8 from 0 to 255.",
                hint="Values in 0..1 become that by (images * 255).round().astype('uint8').",
            )
        check_room(what, *shape)
    elif key == "labels":
        check_room(what, *shape, dtype.itemsize)
    elif math.prod(shape) * dtype.itemsize > NAMES_LIMIT_BYTES:
        raise RecipeError(f"{what} would take more than the limit of {NAMES_LIMIT_BYTES} bytes.")


def _images(images: Array, path: Path) -> Array:
    """Bring images of any layout that is plain to (N, C, H, W)."""
    import numpy as np

    found = f"The images in {shown(path)} have the shape {images.shape}"
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise RecipeError(f"{found}; expected (N, H, W), (N, C, H, W) or (N, H, W, C), none of them 0.")
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    first, last = (images.shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        raise RecipeError(
            f"{found}, in which both the second and the last axis could be channels.",
            hint="Grey pictures can be stored as (N, H, W).",
        )
    if not first and not last:
        raise RecipeError(
            f"{found}, in which neither the second nor the last axis is 1 or 3 channels.",
            hint="Pictures are grey or RGB; leave out a fourth channel.",
        )
    return np.ascontiguousarray(images if first else images.transpose(0, 3, 1, 2))


def _names(classes: Array, path: Path) -> tuple[str, ...]:
    if classes.ndim != 1 or classes.dtype.kind != "U" or not 0 < len(classes) <= CLASSES_LIMIT:
        raise RecipeError(
            f"The classes in {shown(path)} are {classes.dtype} {classes.shape}, expected text (classes,).",
            hint="numpy.array(names, dtype=str) makes it so.",
        )
    names: tuple[str, ...] = tuple(classes.tolist())
    for name in names:
        check_class(name, path)
    if len(set(names)) != len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise RecipeError(f"The classes in {shown(path)} have {shown(twice)} more than once.")
    return names


def _numbered(pictures: Pictures, path: Path) -> tuple[str, ...]:
    """Name classes by their numbers."""
    numbers = set(pictures.labels.tolist())
    lacking = next((number for number in range(max(numbers)) if number not in numbers), None)
    if lacking is not None:
        raise RecipeError(
            f"No label in {shown(path)} is {lacking}, though the highest is {max(numbers)}.",
            hint="Number the classes from 0 without gaps, or name all of them in classes.",
        )
    return tuple(map(str, range(max(numbers) + 1)))


def _check_labels(pictures: Pictures, classes: tuple[str, ...], path: Path) -> None:
    highest = int(pictures.labels.max())
    if highest >= len(classes):
        raise RecipeError(
            f"The labels in {shown(path)} run from {pictures.labels.min()} to {highest}, "
            f"but there are {len(classes)} classes: expected 0 to {len(classes) - 1}."
        )
