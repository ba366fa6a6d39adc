"""What an import is asked for, and what comes of it, as inert data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdbench.spec import Scalar, Student

Meaning = Literal["logits", "probabilities"]
Layout = Literal["NCHW", "NHWC"]
Fit = Literal["stretch", "crop"]
Argument = Scalar | tuple[Scalar, ...]
Tell = Callable[[str], None]

DEFAULT_IMAGES = 128
FEWEST_IMAGES = 64
"""As many distinct inputs take turns while a backend is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A model to import and all that can be said about it; see `kdbench import --help`.

    model: a path of `.onnx` or `.pt2`, the name of an installed network, or `package.module:factory`.
    output: the folder of the bundle; None for one in the working folder, named as the student.
    weights, arguments: of a factory. output_tensor: which of several outputs is the answer.
    shape: of one input, without the batch axis, where the graph leaves it open.
    evaluation, calibration: an `.npz` or a folder of class folders; `fit` resizes pictures of those.
    divisor, mean, std, layout, meaning: as in `card.Encoding` and `card.Card`; None or empty to find out.
    images: how many random ones, or how many of the evaluation's; None for 128, or for all.
    trust_code: whether files may be loaded that can run code.
    """

    model: str
    output: Path | None = None
    overwrite: bool = False
    name: str = ""
    licence: str = "not stated"
    classes: tuple[str, ...] = ()
    weights: Path | None = None
    arguments: tuple[tuple[str, Argument], ...] = ()
    output_tensor: str = ""
    shape: tuple[int, ...] = ()
    evaluation: Path | None = None
    calibration: Path | None = None
    fit: Fit | None = None
    divisor: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout | None = None
    meaning: Meaning | None = None
    images: int | None = None
    seed: int = 0
    trust_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A finished import.

    facts: what was found, as (label, text). changes: what was done to the graph. notes: what to bear in mind.
    correct: right answers of the reference among `images`; None for the `reason` beside it.
    """

    student: Student
    facts: tuple[tuple[str, str], ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    images: int
    correct: int | None
    reason: str
