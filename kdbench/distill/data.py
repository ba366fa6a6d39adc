"""Images of a familiar and an unfamiliar domain from real digits, divided into splits that share none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin
from typing import TYPE_CHECKING

from kdbench.card import Data
from kdbench.distill.recipe import DataPlan, Shift
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np

    from kdbench.spec import Array

# The test split stands before those whose size may change, so that it is the same at any number of labels.
SPLITS = ("source_train", "source_test", "test", "labelled", "unlabelled")


@dataclass(frozen=True, slots=True)
class Split:
    """Images (N, 3, size, size) uint8, their class (N,) int64, and the digest of each source picture."""

    images: Array
    labels: Array
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Splits:
    """Clean `source_*` images; `labelled`, `unlabelled` and `test` of the unfamiliar target domain.

    sha256: of the source pictures and their labels, before division.
    """

    source_train: Split
    source_test: Split
    test: Split
    labelled: Split
    unlabelled: Split
    sha256: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Grey pictures (N, h, w) float64 in 0..1, all different, and their class (N,) int64."""

    grey: Array
    labels: Array


def make_splits(plan: DataPlan, seed: int) -> Splits:
    """Draw and render the splits that the plan asks for; RecipeError if there are too few pictures."""
    import numpy as np

    pictures = _pictures(plan)
    available = len(pictures.labels)
    fixed = plan.source_train + plan.source_test + plan.labelled + plan.test
    lacking = fixed + plan.calibration - available
    if lacking > 0:
        raise RecipeError(
            f"There are {available} pictures; splits and calibration need {fixed + plan.calibration}.",
            hint=f"Lower data.labelled (or --labels), or another split, by {lacking}.",
        )
    sizes = {name: getattr(plan, name) for name in SPLITS}
    sizes["unlabelled"] = min(plan.unlabelled, available - fixed)
    order = np.random.default_rng([seed, 0]).permutation(available)
    splits, start = {}, 0
    for number, (name, size) in enumerate(sizes.items(), start=1):
        chosen, start = order[start : start + size], start + size
        rng = np.random.default_rng([seed, number])
        splits[name] = _render(pictures, chosen, plan, rng, shifted=not name.startswith("source"))
    check_disjoint(splits)
    raw = hashlib.sha256(pictures.grey.tobytes() + pictures.labels.tobytes()).hexdigest()
    return Splits(**splits, sha256=raw)


def check_disjoint(splits: dict[str, Split]) -> None:
    """Refuse splits that share a picture, by content: a leak would flatter every figure downstream."""
    home: dict[bytes, str] = {}
    for name, split in splits.items():
        for digest in split.digests:
            if home.setdefault(digest, name) != name:
                raise RecipeError(f"The splits {home[digest]} and {name} share a picture.")


def describe(plan: DataPlan, splits: Splits) -> Data:
    """Give the card's account of where the images come from."""
    import sklearn

    return Data(
        generator=f"kdbench {plan.generator}, scikit-learn {sklearn.__version__}",
        source="Optical Recognition of Handwritten Digits (UCI), test part, as sklearn.datasets.load_digits "
        "has it; enlarged, and for the target domain rotated, coloured, textured and made noisy by kdbench",
        licence="CC-BY-4.0",
        citation="E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49",
        splits={name: len(getattr(splits, name)) for name in SPLITS},
        evaluation=len(splits.test),
        calibration=plan.calibration,
        sha256=splits.sha256,
    )


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images / 16.0, digits.target >= len(set(digits.target)) // 2


_GENERATORS: dict[str, Callable[[], tuple[Array, Array]]] = {"digits": _digits}


def _pictures(plan: DataPlan) -> Pictures:
    import numpy as np

    if plan.generator not in _GENERATORS:
        raise RecipeError(
            f"data.generator {plan.generator!r} is unknown; there is: {', '.join(_GENERATORS)}."
        )
    grey, labels = _GENERATORS[plan.generator]()
    # A picture that is there twice could fall into two splits.
    _, first = np.unique(grey.reshape(len(grey), -1), axis=0, return_index=True)
    kept = np.sort(first)
    return Pictures(np.ascontiguousarray(grey[kept]), labels[kept].astype(np.int64))


def _render(
    pictures: Pictures, chosen: Array, plan: DataPlan, rng: np.random.Generator, *, shifted: bool
) -> Split:
    import numpy as np

    grey = pictures.grey[chosen]
    digests = tuple(hashlib.sha256(picture.tobytes()).digest() for picture in grey)
    if shifted:
        images = _shift(_sample(grey, plan.size, plan.shift.rotation_degrees), plan.shift, rng)
    else:
        images = np.repeat(_sample(grey, plan.size, 0.0)[:, None], 3, axis=1)
    stored = np.rint(images.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    return Split(stored, pictures.labels[chosen], digests)


def _sample(grey: Array, size: int, degrees: float) -> Array:
    """Rotate pictures (N, h, w) about their centre and resample them bilinearly to (N, size, size)."""
    import numpy as np
    from scipy.ndimage import affine_transform

    angle = radians(degrees)
    height, width = grey.shape[1:]
    turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    matrix = np.eye(3)
    matrix[1:, 1:] = turn * [height / size, width / size]
    offset = np.zeros(3)
    offset[1:] = np.array([height - 1, width - 1]) / 2 - matrix[1:, 1:] @ np.full(2, (size - 1) / 2)
    sampled: Array = affine_transform(
        grey, matrix, offset, output_shape=(len(grey), size, size), order=1, mode="grid-constant"
    )
    return sampled


def _shift(grey: Array, shift: Shift, rng: np.random.Generator) -> Array:
    """Colour strokes and background at random per channel, add a sinusoid and noise: (N, 3, h, w)."""
    import numpy as np

    count, height, width = grey.shape
    background = rng.uniform(*shift.background, size=(count, 3, 1, 1))
    contrast = rng.uniform(*shift.contrast, size=(count, 3, 1, 1))
    direction, phase = rng.uniform(0.0, 2 * np.pi, size=(2, count, 1, 1))
    cycles = rng.uniform(*shift.texture_cycles, size=(count, 1, 1))
    rows, columns = np.mgrid[:height, :width]
    along = columns / width * np.cos(direction) + rows / height * np.sin(direction)
    texture = shift.texture * np.sin(2 * np.pi * cycles * along + phase)
    noise = rng.normal(0.0, shift.noise, size=(count, 3, height, width))
    shifted: Array = background + contrast * grey[:, None] + texture[:, None] + noise
    return shifted
