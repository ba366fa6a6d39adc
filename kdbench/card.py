"""The card of a student bundle: `card.json` as frozen structs, read strictly and written canonically.

A card comes from a stranger as often as not. Text in it is one line without control characters, names
are slugs, paths stay inside the bundle, numbers have limits; what breaks a rule is refused in a sentence.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from kdbench.errors import StudentError
from kdbench.problems import PLAIN, told
from kdbench.spec import Precision, Task, TensorSpec

MAJOR, MINOR = 1, 1
"""Schema of the card. History: 1.0 the first; 1.1 students that were imported, and the teacher's cost."""

NETWORKS = "kdbench.networks"
"""Entry-point group of network factories; a card may name nothing else."""

CARD_LIMIT_BYTES = 1 << 20
FILE_LIMIT_BYTES = (1 << 31) - 1
"""No file of a bundle is larger: protobuf, and so ONNX in one file, ends there."""

ELEMENTS_LIMIT = 1 << 29
"""No array of a bundle has more elements: 2 GiB as float32, whatever a small compressed file unpacks to."""

Slug = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Line = Annotated[str, Meta(pattern=rf"\A{PLAIN}{{0,1000}}\Z")]
Identifier = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Dtype = Literal["float32", "float16", "float64", "uint8", "int8", "int32", "int64"]
Axes = Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(max_length=8)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
# No pattern here: msgspec 0.22 frees memory twice when a string with one stands in a union with an array or
# a mapping. `_check_lines` holds these texts to the rule of a Line.
Plain = bool | int | float | str
Settings = dict[Line, Plain | tuple[Plain, ...]]


class Part(Struct, frozen=True, kw_only=True):
    """A part of a card. Unknown fields are passed over: they come from a later minor version."""


class Schema(Part, frozen=True, kw_only=True):
    """Which format this card has; another major version is refused."""

    name: Literal["kdbench.student"] = "kdbench.student"
    major: int = MAJOR
    minor: int = MINOR


class Encoding(Part, frozen=True, kw_only=True):
    """How stored images become the input: `(images / divisor - mean) / std`, in the input's dtype.

    divisor, mean, std: a caller applies them and nobody else does; what the graph itself does to its
        input is not among them. mean and std have one entry per channel, or none for no change.
    layout: where the channels of images and input stand; `any` for an input that is no image.
    low, high: the range of values that the input takes over the evaluation split.
    """

    dtype: Literal["uint8", "float32"] = "uint8"
    divisor: Annotated[float, Meta(gt=0)] = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Meta(gt=0)], ...] = ()
    layout: Literal["NCHW", "NHWC", "any"] = "NCHW"
    low: float = 0.0
    high: float = 1.0


class Network(Part, frozen=True, kw_only=True):
    """A network: its factory in the entry points, the keywords of that, and what it costs for one image.

    bytes: of its weights, as safetensors or as they stand in the ONNX file.
    """

    factory: Slug | None = None
    arguments: dict[Identifier, Plain | tuple[Plain, ...]] = {}
    parameters: Count | None = None
    macs: Count | None = None
    bytes: Count | None = None


class Teacher(Network, frozen=True, kw_only=True):
    """Where the student's knowledge came from; `sha256` is that of its weights, kept in the bundle or not."""

    name: Line
    sha256: Sha256


class LadderRow(Part, frozen=True, kw_only=True):
    """One rung of what distillation brought: a network, what it was given, and how often it was right.

    network: `teacher` or `student`, the size class.
    domain: where the images come from that it was tested on.
    labels: how many labelled images of the unfamiliar (target) domain it has seen in training.
    seeds, correct: one entry per repetition; accuracy is `correct / images`.
    """

    row: Slug
    title: Line
    network: Literal["teacher", "student"]
    domain: Slug
    labels: Count
    images: Annotated[int, Meta(ge=1)]
    seeds: tuple[int, ...]
    correct: tuple[Count, ...]

    def __post_init__(self) -> None:
        if not self.seeds or len(self.seeds) != len(self.correct):
            raise ValueError("a ladder row has one count of correct answers per seed, and at least one")
        if max(self.correct) > self.images:
            raise ValueError("a ladder row has more correct answers than images")

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy of each repetition, 0..1."""
        return tuple(correct / self.images for correct in self.correct)

    @property
    def mean(self) -> float:
        """Mean accuracy over the repetitions."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the accuracy over the repetitions; None for a single one."""
        if len(self.accuracies) == 1:
            return None
        squares = sum((accuracy - self.mean) ** 2 for accuracy in self.accuracies)
        return float((squares / (len(self.accuracies) - 1)) ** 0.5)


class Data(Part, frozen=True, kw_only=True):
    """Where the images come from and how they were divided; `sha256` is that of the raw source arrays.

    labelled: whether anybody knows the right answers to the evaluation split.
    """

    generator: Line
    source: Line
    licence: Line
    citation: Line = ""
    splits: dict[Line, Count] = {}
    labelled: bool = True
    evaluation: Annotated[int, Meta(ge=1, le=1_000_000)]
    calibration: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    sha256: Sha256 | None = None


class File(Part, frozen=True, kw_only=True):
    """One file of the bundle: a relative path with forward slashes, its size and its sha256."""

    path: Line
    bytes: Annotated[int, Meta(ge=0, le=FILE_LIMIT_BYTES)]
    sha256: Sha256


class Card(Part, frozen=True, kw_only=True):
    """Everything that is to be known of a student.

    meaning: what the output holds; either way, the largest is the answer.
    precision: what the stored network computes in. batch: the only batch size that it takes, None for any.
    """

    schema: Schema = Schema()
    name: Slug
    title: Line = ""
    task: Task
    classes: Annotated[tuple[Line, ...], Meta(min_length=2, max_length=100_000)]
    trained: bool
    licence: Line
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=1)]
    encoding: Encoding = Encoding()
    meaning: Literal["logits", "probabilities"] = "logits"
    precision: Precision = "fp32"
    batch: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    network: Network = Network()
    teacher: Teacher | None = None
    ladder: tuple[LadderRow, ...] = ()
    recipe: dict[Line, Plain | Settings] = {}
    data: Data
    versions: dict[Line, Line] = {}
    files: Annotated[dict[Slug, File], Meta(max_length=32)] = {}


def decode(text: bytes, where: str) -> Card:
    """Read the bytes of a `card.json`; `where` names it in the StudentError that any fault raises."""
    hint = "Get the bundle again from where it came, or make it anew with `kdbench distill`."
    try:
        schema = msgspec.json.decode(text, type=_Versioned).schema
        if schema.major != MAJOR:
            raise StudentError(
                f"{where} has schema {schema.major}.{schema.minor}; this kdbench reads {MAJOR}.x.",
                hint="Install the newest kdbench." if schema.major > MAJOR else hint,
            )
        card = msgspec.json.decode(text, type=Card)
    except msgspec.ValidationError as fault:
        raise StudentError(f"{where} is not the card of a student: {told(fault)}.", hint=hint) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise StudentError(f"{where} is not valid JSON: {fault}.", hint=hint) from fault
    for settings in (card.network.arguments, card.recipe, card.teacher.arguments if card.teacher else {}):
        _check_lines(settings, where)
    _check_tensors(card, where)
    return card


class _Versioned(Struct, frozen=True):
    schema: Schema


def _check_lines(value: object, where: str) -> None:
    """Refuse a text among settings, at any depth, that is not a Line."""
    match value:
        case str():
            try:
                msgspec.convert(value, Line)
            except msgspec.ValidationError as fault:
                raise StudentError(f"{where} holds a text that is no plain line: {told(fault)}.") from fault
        case dict():
            _check_lines(list(value.values()), where)
        case list() | tuple():
            for item in value:
                _check_lines(item, where)


def _check_tensors(card: Card, where: str) -> None:
    """Refuse what the types above cannot express: shapes, names, and a classifier without its logits."""
    for tensor in (*card.inputs, *card.outputs):
        try:
            msgspec.convert(tensor.name, Identifier)
            msgspec.convert(tensor.dtype, Dtype)
            elements = 1
            for length in msgspec.convert(tensor.shape, Axes):
                elements *= length
        except msgspec.ValidationError as fault:
            raise StudentError(f"{where} declares a tensor that cannot be: {told(fault)}.") from fault
        images = max(card.data.evaluation, card.data.calibration)
        if elements * images > ELEMENTS_LIMIT:
            raise StudentError(
                f"{where} declares {images} times {elements} elements for {tensor.name}, "
                f"more than the limit of {ELEMENTS_LIMIT}."
            )
    channels = {"NCHW": 0, "NHWC": -1, "any": -1}[card.encoding.layout]
    for name, values in (("mean", card.encoding.mean), ("std", card.encoding.std)):
        if values and len(values) != card.inputs[0].shape[channels]:
            raise StudentError(
                f"{where} gives a {name} for {len(values)} channels, but its input has the shape "
                f"{card.inputs[0].shape} in the layout {card.encoding.layout}."
            )
    if card.outputs[0].shape != (len(card.classes),):
        raise StudentError(
            f"{where} names {len(card.classes)} classes, but output {card.outputs[0].name} has the shape "
            f"{card.outputs[0].shape}."
        )


def unjudged(card: Card) -> str:
    """Say why no accuracy can be told of a student, or nothing where one can."""
    if not card.trained:
        return "untrained"
    return "" if card.data.labelled else "no labels"


def encode(card: Card) -> bytes:
    """Write a card as readable JSON; the same card gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
