"""CIFAR-10 and CIFAR-100 in their binary version, as the user has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kdbench.distill.sources import Offer, Pictures
from kdbench.distill.sources.files import check_folder, check_room, locate, reason, shown
from kdbench.distill.sources.twins import without_contradictions
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from kdbench.spec import Array

SHAPE = (3, 32, 32)
PIXEL_BYTES = 3 * 32 * 32
NAMES_LIMIT_BYTES = 1 << 16

_CITATION = "A. Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images."
_GET = "Get the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz) and unpack it."


@dataclass(frozen=True, slots=True)
class Edition:
    """One of the two sets: its files of records, and which byte before the pixels is the label."""

    title: str
    records: tuple[str, ...]
    names: str
    labels: int
    label: int


CIFAR10 = Edition("CIFAR-10", ("data_batch_*.bin", "test_batch.bin"), "batches.meta.txt", 1, 0)
COARSE = Edition("CIFAR-100, coarse labels", ("train.bin", "test.bin"), "coarse_label_names.txt", 2, 0)
FINE = Edition("CIFAR-100, fine labels", ("train.bin", "test.bin"), "fine_label_names.txt", 2, 1)


def cifar(
    *,
    folder: str,
    labels: Literal["fine", "coarse"] = "fine",
    contradictory: Literal["refuse", "drop"] = "refuse",
    base: Path,
) -> Offer:
    """Offer all records in the folder, training and test files together.

    labels: which of CIFAR-100's two; CIFAR-10 has one.
    contradictory: `drop` leaves out all copies of a picture that bears two labels.
    """
    home = locate(base, folder, "data.arguments.folder")
    check_folder(home, "the binary version of CIFAR-10 or CIFAR-100")
    editions = [one for one in (CIFAR10, FINE if labels == "fine" else COARSE) if _files(home, one)]
    if len(editions) != 1:
        raise (
            _none(home)
            if not editions
            else RecipeError(
                f"The folder {shown(home)} has records of both CIFAR-10 and CIFAR-100.",
                hint="Give each a folder of its own.",
            )
        )
    edition = editions[0]
    classes = _names(home / edition.names)
    pictures = _records(_files(home, edition), edition, classes)
    if contradictory == "drop":
        pictures = without_contradictions(pictures)
    return Offer(
        classes=classes,
        familiar=pictures,
        unfamiliar=None,
        generator="kdbench cifar",
        origin=f"{edition.title}, binary version, training and test pictures together",
        licence="not stated by its authors",
        citation=_CITATION,
    )


def _files(home: Path, edition: Edition) -> list[Path]:
    return [path for pattern in edition.records for path in sorted(home.glob(pattern)) if path.is_file()]


def _none(home: Path) -> RecipeError:
    """Say what is there instead of the records, as far as it is known."""
    found = f"The folder {shown(home)} has neither data_batch_1.bin and its like nor train.bin"
    if any(
        (home / name).is_file() for name in ("data_batch_1", "test_batch", "batches.meta", "train", "meta")
    ):
        return RecipeError(
            f"The folder {shown(home)} holds the Python version of CIFAR, which is pickled; "
            "kdbench opens no pickles.",
            hint=_GET,
        )
    for inner in sorted(path for path in home.iterdir() if path.is_dir()):
        if _files(inner, CIFAR10) or _files(inner, FINE):
            return RecipeError(f"{found}.", hint=f"The folder {shown(inner.name)} in it has.")
    return RecipeError(f"{found}.", hint=_GET)


def _names(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as stream:
            text = stream.read(NAMES_LIMIT_BYTES).decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(
            f"{shown(path)}, which names the classes, cannot be read: {reason(fault)}.", hint=_GET
        ) from fault
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _records(files: list[Path], edition: Edition, classes: tuple[str, ...]) -> Pictures:
    """Read all records: the label bytes, then 1024 bytes each of red, green and blue, row by row."""
    import numpy as np

    length = edition.labels + PIXEL_BYTES
    parts: list[Array] = []
    check_room(f"The records in {shown(files[0].parent)}", sum(path.stat().st_size for path in files))
    for path in files:
        data = path.read_bytes()
        if not data or len(data) % length:
            raise RecipeError(
                f"{shown(path)} has {len(data)} bytes, expected a multiple of {length}, the bytes of a "
                f"record of {edition.title.partition(',')[0]}.",
                hint="Get it again.",
            )
        parts.append(np.frombuffer(data, np.uint8).reshape(-1, length))
        highest = int(parts[-1][:, edition.label].max())
        if highest >= len(classes):
            raise RecipeError(
                f"A label in {shown(path)} is {highest}, but {edition.names} names {len(classes)} classes."
            )
    records = np.concatenate(parts)
    images = np.ascontiguousarray(records[:, edition.labels :]).reshape(-1, *SHAPE)
    return Pictures(images, records[:, edition.label].astype(np.int64))
