"""Pictures that occur more than once, told by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdbench.distill.sources import Pictures
from kdbench.distill.sources.files import shown
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from kdbench.spec import Array


def digests(images: Array) -> Iterator[bytes]:
    """Give the sha256 of each picture's values; a colour picture that is grey has that of the grey one.

    images: (N, C, H, W), C 1 or 3.
    """
    for picture in images:
        grey = len(picture) == 3 and (picture[1:] == picture[0]).all()
        yield hashlib.sha256((picture[:1] if grey else picture).tobytes()).digest()


def distinct(pictures: Pictures, classes: Sequence[str], domain: str) -> tuple[Pictures, tuple[bytes, ...]]:
    """Keep the first of pictures that are the same, and give the digests of those kept.

    Raises RecipeError where the same picture bears two labels.
    """
    first: dict[bytes, int] = {}
    rivals = []
    for number, digest in enumerate(digests(pictures.images)):
        before = first.setdefault(digest, number)
        if pictures.labels[before] != pictures.labels[number]:
            rivals.append((before, number))
    if rivals:
        one, other = (pictures.name(number) for number in rivals[0])
        labels = " and ".join(shown(classes[pictures.labels[number]]) for number in rivals[0])
        further = f" ({len(rivals)} such pairs in all)" if len(rivals) > 1 else ""
        raise RecipeError(
            f"Two {domain} pictures are the same and bear the labels {labels}: {one} and {other}{further}.",
            hint="Remove the one that is labelled wrongly; mnist and cifar take contradictory = 'drop'.",
        )
    return taken(pictures, list(first.values())), tuple(first)


def without_contradictions(pictures: Pictures) -> Pictures:
    """Leave out every copy of a picture that bears two labels."""
    labels: dict[bytes, set[int]] = {}
    keys = tuple(digests(pictures.images))
    for key, label in zip(keys, pictures.labels.tolist(), strict=True):
        labels.setdefault(key, set()).add(label)
    return taken(pictures, [number for number, key in enumerate(keys) if len(labels[key]) == 1])


def taken(pictures: Pictures, numbers: Sequence[int]) -> Pictures:
    """Take these pictures, in this order; all of them in their own order are not copied."""
    if len(numbers) == len(pictures):
        return pictures
    kept = list(numbers)
    names = tuple(pictures.names[number] for number in kept) if pictures.names else ()
    return Pictures(pictures.images[kept], pictures.labels[kept], names)
