"""Read a distillation recipe: TOML, complete and strict, all its problems told at once."""

from __future__ import annotations

import math
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from kdbench.card import Identifier, Line, Plain, Slug
from kdbench.errors import RecipeError
from kdbench.problems import read_toml, told

Positive = Annotated[int, Meta(ge=1, le=10_000_000)]
Amount = Annotated[int, Meta(ge=0, le=10_000_000)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Range = tuple[float, float]

DEFAULT = "digits-2x5"
SEED_LIMIT = (1 << 32) - 1
Seed = Annotated[int, Meta(ge=0, le=SEED_LIMIT)]


class Section(Struct, frozen=True, kw_only=True):
    """A table of the recipe; every key of it must be there."""


class Shift(Section, frozen=True, kw_only=True):
    """What makes the target domain unfamiliar; ranges are drawn from evenly, per image and channel."""

    rotation_degrees: float
    contrast: Range
    background: Range
    texture: Fraction
    texture_cycles: Range
    noise: Fraction


class DataPlan(Section, frozen=True, kw_only=True):
    """Which images, and how many for what."""

    generator: Slug
    classes: Annotated[tuple[Line, ...], Meta(min_length=2, max_length=2)]
    size: Annotated[int, Meta(ge=8, le=512)]
    source_train: Positive
    source_test: Positive
    labelled: Positive
    unlabelled: Positive
    test: Positive
    calibration: Positive
    shift: Shift


class Augmentation(Section, frozen=True, kw_only=True):
    """How training images are varied: pixels each way, and fractions of the value range."""

    shift: Annotated[int, Meta(ge=0, le=64)]
    brightness: Fraction
    contrast: Fraction


class NetworkPlan(Section, frozen=True, kw_only=True):
    """A network factory of the `kdbench.networks` entry points and its keywords, but for `classes`."""

    network: Slug
    arguments: dict[Identifier, Plain | tuple[Plain, ...]]


class Training(Section, frozen=True, kw_only=True):
    """One stage of training; `learning_rate` is the top of its one cycle."""

    steps: Annotated[int, Meta(ge=2, le=10_000_000)]
    batch: Annotated[int, Meta(ge=2, le=1_000_000)]
    learning_rate: Rate


class Distillation(Training, frozen=True, kw_only=True):
    """The student's training: `batch` unlabelled and `labelled_batch` labelled images a step."""

    labelled_batch: Positive
    temperature: Annotated[float, Meta(gt=0, le=1000)]
    label_weight: Annotated[float, Meta(ge=0, le=1000)]


class Optimiser(Section, frozen=True, kw_only=True):
    """What is the same in all stages."""

    weight_decay: Fraction


class BundlePlan(Section, frozen=True, kw_only=True):
    """What goes into the bundle beside the student."""

    teacher: bool


class Recipe(Section, frozen=True, kw_only=True):
    """All that decides a distillation: same recipe, machine and versions, same bytes."""

    name: Slug
    title: Line
    seed: Seed
    threads: Annotated[int, Meta(ge=1, le=4096)]
    data: DataPlan
    augmentation: Augmentation
    teacher: NetworkPlan
    student: NetworkPlan
    pretrain: Training
    finetune: Training
    distill: Distillation
    optimiser: Optimiser
    bundle: BundlePlan


def embedded_recipes() -> tuple[str, ...]:
    """Name the recipes that ship with kdbench."""
    home = Path(str(resources.files("kdbench.recipes")))
    return tuple(sorted(path.stem for path in home.glob("*.toml")))


def recipe_path(where: str | Path) -> Path:
    """Find the embedded recipe of this name; any other text is a path."""
    if where in embedded_recipes():
        return Path(str(resources.files("kdbench.recipes"))) / f"{where}.toml"
    return Path(where)


def read_recipe(
    where: str | Path = DEFAULT,
    *,
    seed: int | None = None,
    labels: int | None = None,
    threads: int | None = None,
) -> Recipe:
    """Read the embedded recipe of this name, or else the TOML file; the keywords replace what it says.

    Raises RecipeError with every unknown, missing or wrong key of the file.
    """
    path = recipe_path(where)
    try:
        table = read_toml(path)
    except OSError as fault:
        raise RecipeError(
            f"There is no recipe {str(where)!r}: {fault.strerror}.",
            hint=f"Embedded recipes: {', '.join(embedded_recipes())}; or give the path of a TOML file.",
        ) from fault
    except ValueError as fault:
        raise RecipeError(f"The recipe {str(where)!r} {fault}.") from fault
    _replace(table, ("seed",), seed)
    _replace(table, ("threads",), threads)
    _replace(table, ("data", "labelled"), labels)
    return parse_recipe(table, path.name)


def parse_recipe(table: dict[str, Any], name: str) -> Recipe:
    """Turn a parsed table into a Recipe; RecipeError lists all that is wrong in it."""
    problems = list(_problems(table, Recipe, ""))
    if not problems:
        recipe = msgspec.convert(table, Recipe)
        problems = list(_contradictions(recipe))
    if problems:
        listing = "".join(f"\n  {problem}" for problem in problems)
        raise RecipeError(
            f"The recipe {name} cannot be used:{listing}",
            hint="`kdbench distill --list` shows where the embedded recipes are, to start from.",
        )
    return recipe


def _replace(table: dict[str, Any], keys: tuple[str, ...], value: int | None) -> None:
    for key in keys[:-1]:
        inner = table.get(key)
        if not isinstance(inner, dict):
            return
        table = inner
    if value is not None:
        table[keys[-1]] = value


def _problems(table: dict[str, Any], section: type[Struct], prefix: str) -> list[str]:
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    problems = []
    for key in table.keys() - fields.keys():
        near = get_close_matches(key, fields, n=1)
        problems.append(f"{prefix}{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
    for key, kind in fields.items():
        if key not in table:
            problems.append(f"{prefix}{key}: missing")
        elif isinstance(kind, type) and issubclass(kind, Struct) and isinstance(table[key], dict):
            problems += _problems(table[key], kind, f"{prefix}{key}.")
        else:
            try:
                msgspec.convert(table[key], kind)
                if not _finite(table[key]):
                    problems.append(f"{prefix}{key}: not a finite number")
            except msgspec.ValidationError as fault:
                problems.append(f"{prefix}{key}: {told(fault)}")
    return sorted(problems)


def _finite(value: object) -> bool:
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _contradictions(recipe: Recipe) -> list[str]:
    problems = []
    for name, (low, high) in (
        ("contrast", recipe.data.shift.contrast),
        ("background", recipe.data.shift.background),
        ("texture_cycles", recipe.data.shift.texture_cycles),
    ):
        if not 0 <= low <= high:
            problems.append(f"data.shift.{name}: not a range from low to high, at least 0: [{low}, {high}]")
    if recipe.data.calibration > recipe.data.unlabelled:
        problems.append("data.calibration: more than data.unlabelled, of which it is a part")
    if len(set(recipe.data.classes)) != len(recipe.data.classes):
        problems.append("data.classes: a name stands there twice")
    return problems
