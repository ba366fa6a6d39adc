"""Images with their labels, and how an `.npz` of somebody's own is read as such."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kdbench.card import ELEMENTS_LIMIT
from kdbench.errors import StudentError, UsageError
from kdbench.problems import quote
from kdbench.strict import clean

if TYPE_CHECKING:
    from kdbench.spec import Array

_KEYS = "expected `images`, and perhaps `labels` and `classes`"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images (N, *shape) uint8 or float32, labels (N,) int64 or None, names of classes or none.

    notes: what was done to bring them into the model's form.
    """

    images: Array
    labels: Array | None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sha256(self) -> str:
        """The digest of all images and labels."""
        digest = hashlib.sha256(self.images.tobytes())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def read_npz(path: Path) -> Pictures:
    """Read `images`, `labels` and `classes` of an `.npz`, nothing unpickled and no bomb unpacked."""
    # Not opened before: whoever opens a pipe waits for a writer, and a device has no end.
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{quote(str(path))} is not a file.", hint="Give an .npz file or a folder of images."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "images" not in names:
                listed = ", ".join(quote(name) for name in sorted(names)[:10]) or "nothing"
                raise StudentError(f"{quote(path.name)} holds {listed}; {_KEYS}.", hint="Rename its arrays.")
            arrays = {}
            for name in ("images", "labels", "classes"):
                if name in names:
                    kept = archive.getinfo(f"{name}.npy").file_size
                    with archive.open(f"{name}.npy") as stream:
                        arrays[name] = _array(stream, f"`{name}` in {quote(path.name)}", kept)
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
    ) as fault:
        raise StudentError(
            f"{quote(path.name)} cannot be read as an .npz: {clean(str(fault))[:200].rstrip('.')}.",
            hint="Write it with numpy.savez_compressed(path, images=…, labels=…).",
        ) from fault
    images = _images(arrays["images"], path.name)
    labels = _labels(arrays["labels"], len(images), path.name) if "labels" in arrays else None
    classes = _classes(arrays["classes"], path.name) if "classes" in arrays else ()
    return Pictures(images, labels, classes)


def _array(stream: IO[bytes], what: str, kept: int) -> Array:
    """Read one array whose header promises no more than the limit or the `kept` bytes, and no objects."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    elements = 1
    for length in shape:
        elements *= length
    if dtype.hasobject:
        raise StudentError(
            f"{what} holds Python objects, which are not unpickled.", hint="Save plain arrays."
        )
    if elements > ELEMENTS_LIMIT:
        raise StudentError(
            f"{what} has {elements} elements, more than the limit of {ELEMENTS_LIMIT}.",
            hint="Take fewer images: some thousands tell accuracy well enough.",
        )
    if elements * dtype.itemsize > kept:
        raise ValueError(f"{what} ends before its {elements} elements do")
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _images(images: Array, name: str) -> Array:
    import numpy as np

    if images.ndim < 2 or not images.size:
        raise StudentError(
            f"`images` in {quote(name)} has the shape {images.shape}; expected (N, …), N at least 1."
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise StudentError(f"`images` in {quote(name)} is {images.dtype}; expected uint8 or float32.")
    with np.errstate(all="ignore"):
        stored = np.ascontiguousarray(images, np.float32)
    bad = len(images) - int(np.isfinite(stored).reshape(len(images), -1).all(axis=1).sum())
    if bad:
        raise StudentError(f"{bad} of {len(images)} images in {quote(name)} hold NaN or infinity.")
    return stored


def _classes(names: Array, name: str) -> tuple[str, ...]:
    found = tuple(clean(str(one)).strip()[:200] for one in names.ravel())
    if names.ndim != 1 or names.dtype.kind != "U" or not all(found) or len(set(found)) != len(found):
        raise StudentError(
            f"`classes` in {quote(name)} must be a row of names, all different, none empty; "
            f"found {names.dtype} of the shape {names.shape}.",
            hint="Leave it out, and name the classes with --classes.",
        )
    return found


def _labels(labels: Array, count: int, name: str) -> Array:
    import numpy as np

    if labels.dtype.kind not in "iub":
        raise StudentError(
            f"`labels` in {quote(name)} is {labels.dtype}; expected whole numbers, positions of classes.",
            hint="Convert them, for example with labels.astype('int64').",
        )
    if labels.shape not in ((count,), (count, 1)):
        raise StudentError(
            f"`labels` in {quote(name)} has the shape {labels.shape}; expected ({count},), one an image.",
            hint="Of one column for each class, take labels.argmax(1)." if labels.ndim == 2 else "",
        )
    return labels.reshape(-1).astype(np.int64)
