"""Where pictures come from: data sources, found by name among the entry points `kdbench.data`.

A data source is a function that takes keywords, among them `base`, the folder that relative paths in a recipe
refer to, and answers an `Offer`. The keywords of a recipe are checked against its signature and its
annotations before it is called; one that has a keyword `size` is told the pixels of the recipe's images.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from kdbench.card import Line
from kdbench.distill.sources.files import reason, shown
from kdbench.errors import RecipeError
from kdbench.problems import nearest, problems, quote, sentence, told
from kdbench.spec import Scalar

if TYPE_CHECKING:
    from kdbench.spec import Array

SOURCES = "kdbench.data"
"""Entry-point group of data sources."""

CLASSES_LIMIT = 100_000
"""No data source has more classes: a card names no more."""

_GIVEN = ("base", "size")
"""Keywords that kdbench fills in and a recipe cannot."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of one domain, all of one size, and their classes.

    images: (N, C, H, W), C 1 or 3; uint8, or float64 in 0..1 for pictures smaller than what a recipe makes of
        them (the 8x8 digits), which are then enlarged and turned in one step.
    labels: (N,) int64, positions in the classes.
    names: of the pictures, to name them in a message; empty where they have none.
    """

    images: Array
    labels: Array
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        """Name one picture in a message."""
        return shown(self.names[number]) if self.names else f"number {number}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a data source has.

    unfamiliar: None where the unfamiliar domain is made from the same pictures by the recipe's shift, or
        where there is none.
    generator, origin, licence, citation: one line each for the card of a bundle.
    """

    classes: tuple[str, ...]
    familiar: Pictures
    unfamiliar: Pictures | None
    generator: str
    origin: str
    licence: str
    citation: str


def offer(
    name: str, arguments: Mapping[str, Scalar | Sequence[Scalar]], *, base: Path, size: int | None = None
) -> Offer:
    """Get the pictures that the data source of this name has.

    Raises RecipeError for a name that nobody installed, for arguments that the source does not take, for
    pictures that cannot be read, and for an answer that is not what an `Offer` promises.
    """
    entry = _find(name)
    try:
        source = entry.load()
    except (ImportError, AttributeError) as fault:
        raise RecipeError(
            f"The data source {quote(name)} ({entry.value}) cannot be loaded: {reason(fault)}."
        ) from fault
    keywords = _keywords(source)
    wrong = sorted(_argument_problems(arguments, source, keywords))
    if wrong:
        listing = "".join(f"\n  {problem}" for problem in wrong)
        raise RecipeError(f"The data source {quote(name)} cannot be used as asked:{listing}")
    given = {"base": base, "size": size}
    try:
        answer = source(**arguments, **{key: value for key, value in given.items() if key in keywords})
    except ImportError as fault:
        raise RecipeError(
            f"The data source {quote(name)} needs what is not installed here: {fault.name or fault}.",
            hint="In a checkout of kdbench: pip install -r requirements-dev.txt",
        ) from fault
    except (TypeError, ValueError, RuntimeError, OSError, MemoryError) as fault:
        raise RecipeError(f"The data source {quote(name)} failed: {reason(fault)}.") from fault
    for problem in _answer_problems(answer):
        raise RecipeError(f"The data source {quote(name)} gave what cannot be used: {problem}.")
    checked: Offer = answer
    return checked


def _find(name: str) -> EntryPoint:
    found = entry_points(group=SOURCES, name=name)
    if not found:
        known = sorted(entry_points(group=SOURCES).names)
        meant = nearest(name, known)
        offered = f"; did you mean {meant}?" if meant else f"; there is: {', '.join(known) or 'none'}"
        raise RecipeError(
            sentence(f"There is no data source {quote(name)}{offered}"),
            hint=f"Another comes with a package that has it in the entry-point group {SOURCES}.",
        )
    if len(found) > 1:
        owners = " and ".join(sorted(str(entry.dist and entry.dist.name) for entry in found))
        raise RecipeError(
            f"The data source {quote(name)} is offered by {owners}.", hint="Uninstall all of them but one."
        )
    return next(iter(found))


def _keywords(source: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(source).parameters


def _argument_problems(
    arguments: Mapping[str, object], source: Callable[..., Any], keywords: Mapping[str, inspect.Parameter]
) -> Iterator[str]:
    """Yield a sentence for each argument that the source does not take, or not with this value."""
    known = [key for key in keywords if key not in _GIVEN]
    try:
        hints = get_type_hints(source, include_extras=True)
    except NameError:
        hints = {}  # an annotation that exists for type checkers alone
    for key, value in arguments.items():
        if key not in known:
            meant = nearest(key, known)
            yield f"data.arguments.{key} is not known" + (f"; did you mean {meant}?" if meant else "")
        else:
            try:
                yield from problems(value, hints.get(key, Any), f"data.arguments.{key}")
            except TypeError:
                continue  # an annotation that msgspec does not know: left to the source
    for key in known:
        if keywords[key].default is inspect.Parameter.empty and key not in arguments:
            yield f"data.arguments.{key} is missing"


def _answer_problems(answer: object) -> Iterator[str]:
    """Yield, as a clause, all that an answer is not and an `Offer` promises."""
    if not isinstance(answer, Offer):
        yield f"it answered a {type(answer).__name__}, not an Offer"
        return
    lines = {key: getattr(answer, key) for key in ("generator", "origin", "licence", "citation")}
    classes = Annotated[tuple[Line, ...], Meta(min_length=2, max_length=CLASSES_LIMIT)]
    for key, value, kind in (
        *((key, value, Line) for key, value in lines.items()),
        ("classes", answer.classes, classes),
    ):
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as fault:
            yield f"{key} is {quote(value)}: {told(fault)}"
            return
    if len(set(answer.classes)) != len(answer.classes):
        yield f"a class stands twice among {quote(answer.classes)}"
    domains = {"familiar": answer.familiar, "unfamiliar": answer.unfamiliar}
    for domain, pictures in domains.items():
        if domain == "familiar" or pictures is not None:
            yield from (f"{domain} {text}" for text in _picture_problems(pictures, len(answer.classes)))
    if answer.unfamiliar is not None and answer.unfamiliar.images.dtype != answer.familiar.images.dtype:
        yield "the images of its domains differ in dtype"


def _picture_problems(pictures: object, classes: int) -> Iterator[str]:
    import numpy as np

    if not isinstance(pictures, Pictures):
        yield f"is a {type(pictures).__name__}, not Pictures"
        return
    images, labels = pictures.images, pictures.labels
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1] not in (1, 3):
        yield f"has images of shape {np.shape(images)}, expected (N, 1 or 3, H, W)"
    elif images.dtype not in (np.uint8, np.float64):
        yield f"has images of {images.dtype}, expected uint8, or float64 in 0..1"
    elif not images.size:
        yield f"has no pixels: its images are {images.shape}"
    elif images.dtype == np.float64 and not (images.min() >= 0 and images.max() <= 1):
        yield "has float64 images that are not all in 0..1"
    elif not isinstance(labels, np.ndarray) or labels.shape != images.shape[:1] or labels.dtype != np.int64:
        found = f"{getattr(labels, 'dtype', type(labels).__name__)} {np.shape(labels)}"
        yield f"has labels {found}, expected int64 ({len(images)},)"
    elif labels.min() < 0 or labels.max() >= classes:
        yield f"has labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
    elif pictures.names and len(pictures.names) != len(images):
        yield f"has {len(pictures.names)} names for {len(images)} images"
