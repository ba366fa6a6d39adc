"""The tables of a recipe, as frozen structs with the limits of every value."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from kdbench.card import Identifier, Line, Plain, Slug

Positive = Annotated[int, Meta(ge=1, le=10_000_000)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Amount = Positive | Share
"""A number of pictures, or a share of those that there are."""

Fraction = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Range = tuple[float, float]
Arguments = dict[Identifier, Plain | tuple[Plain, ...]]

# No pattern: msgspec 0.22 frees memory twice when such a string stands in a union; see `kdbench.card`.
Path = Line
Factory = Line
"""A network of the entry points, or `package.module:factory`, which runs only for those who trust it."""

SEED_LIMIT = (1 << 32) - 1
Seed = Annotated[int, Meta(ge=0, le=SEED_LIMIT)]


class Section(Struct, frozen=True, kw_only=True):
    """A table of the recipe. A key without a default must be there, or in the recipe it is based on."""


class Shift(Section, frozen=True, kw_only=True):
    """What makes the target domain unfamiliar; ranges are drawn from evenly, per image and channel.

    invert: whether dark and bright change places before the colours come.
    """

    rotation_degrees: float
    contrast: Range
    background: Range
    texture: Fraction
    texture_cycles: Range
    noise: Fraction
    invert: bool = False


class DataPlan(Section, frozen=True, kw_only=True):
    """Which pictures, and how many for what: a number, or a share of their domain's pool.

    source: a data source of the entry points `kdbench.data`; arguments: its keywords.
    size: pixels; every picture is brought to size x size. unlabelled: at most so many.
    calibration: so many of the unlabelled ones are kept in the bundle.
    shift: makes the target domain out of the source's pictures; none where the data have two domains.
    """

    source: Slug
    arguments: Arguments = {}
    size: Annotated[int, Meta(ge=8, le=1024)]
    source_train: Amount
    source_test: Amount
    labelled: Amount
    unlabelled: Amount
    test: Amount
    calibration: Amount
    shift: Shift | None = None


class Augmentation(Section, frozen=True, kw_only=True):
    """How training images are varied: pixels each way, and fractions of the value range."""

    shift: Annotated[int, Meta(ge=0, le=64)]
    brightness: Fraction
    contrast: Fraction


class NetworkPlan(Section, frozen=True, kw_only=True):
    """A network's factory and its keywords, but for `classes`.

    features: module paths whose answers the methods on features compare, shallow to deep; those of
        teacher and student are paired in order.
    """

    network: Factory
    arguments: Arguments = {}
    features: tuple[Path, ...] = ()


class Training(Section, frozen=True, kw_only=True):
    """One stage of training; `learning_rate` is the top of its one cycle."""

    steps: Annotated[int, Meta(ge=2, le=10_000_000)]
    batch: Annotated[int, Meta(ge=2, le=1_000_000)]
    learning_rate: Rate


class Term(Section, frozen=True, kw_only=True):
    """One term of the distillation's loss: a method of `kdbench.distill.methods`, its weight and settings."""

    method: Slug
    weight: Weight | None = None
    settings: Arguments = {}


class Distillation(Training, frozen=True, kw_only=True):
    """The student's training: `batch` unlabelled and `labelled_batch` labelled images a step."""

    labelled_batch: Positive
    label_weight: Weight
    terms: Annotated[tuple[Term, ...], Meta(min_length=1, max_length=16)]


class Controls(Section, frozen=True, kw_only=True):
    """How the student's network is trained without the big teacher, to see what the teacher is worth.

    scratch: on the labels alone. pretrain, finetune: on the source's pictures, then on the labels.
    oracle: on all target pictures with their labels. Self-training repeats the distillation with the
    fine-tuned student as teacher, so it has no steps of its own.
    """

    scratch: Training
    pretrain: Training
    finetune: Training
    oracle: Training


class Optimiser(Section, frozen=True, kw_only=True):
    """What is the same in all stages."""

    weight_decay: Fraction


class EnginePlan(Section, frozen=True, kw_only=True):
    """What computes: `auto` takes a GPU where there is one. precision: of the forward passes in training."""

    device: Literal["cpu", "cuda", "auto"] = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


class BundlePlan(Section, frozen=True, kw_only=True):
    """What goes into the bundle beside the student, and what to expect.

    about_s: seconds that one seed without controls takes on two CPU cores, told before it is made.
    """

    teacher: bool
    about_s: Positive | None = None


class Recipe(Section, frozen=True, kw_only=True):
    """All that decides a distillation: same recipe, machine and versions, same bytes.

    seeds: how many repetitions, from `seed` on; the bundle's student is that of the first.
    base: the recipe that the file starts from, already merged.
    """

    name: Slug
    title: Line
    base: Line = ""
    seed: Seed
    seeds: Annotated[int, Meta(ge=1, le=1000)] = 1
    threads: Annotated[int, Meta(ge=1, le=4096)]
    data: DataPlan
    augmentation: Augmentation
    teacher: NetworkPlan
    student: NetworkPlan
    pretrain: Training
    finetune: Training
    distill: Distillation
    controls: Controls
    optimiser: Optimiser
    engine: EnginePlan = EnginePlan()
    bundle: BundlePlan
