"""Read a distillation recipe: strict TOML, based on another where it says so, all problems told at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from kdbench.distill.tables import Recipe as Recipe
from kdbench.errors import RecipeError
from kdbench.problems import read_toml, told

DEFAULT = "digits-2x5"
DEEPEST = 8
"""So many recipes may be based on one another."""

_REPLACED = {
    "data": ("source", ("arguments", "shift")),
    "teacher": ("network", ("arguments", "features")),
    "student": ("network", ("arguments", "features")),
}
"""A recipe that names another of these starts their keywords anew instead of keeping the base's."""


def embedded_recipes() -> tuple[str, ...]:
    """Name the recipes that ship with kdbench."""
    home = Path(str(resources.files("kdbench.recipes")))
    return tuple(sorted(path.stem for path in home.glob("*.toml")))


def recipe_path(where: str | Path) -> Path:
    """Find the embedded recipe of this name; any other text is a path."""
    if where in embedded_recipes():
        return Path(str(resources.files("kdbench.recipes"))) / f"{where}.toml"
    return Path(where)


def read_recipe(where: str | Path = DEFAULT, changes: Mapping[str, object] | None = None) -> Recipe:
    """Read the embedded recipe of this name, or else the TOML file.

    changes: values by dotted key (`data.labelled`) that replace what the file says; None changes nothing.
    Raises RecipeError with every unknown, missing or wrong key.
    """
    table = _merged(where, depth=0)
    wanted = {key: value for key, value in (changes or {}).items() if value is not None}
    if "base" in wanted:
        raise RecipeError(
            "base cannot be replaced: it says what the file was laid over.",
            hint="Name that recipe instead: kdbench distill RECIPE.",
        )
    for section, (kind, dropped) in _REPLACED.items():
        if f"{section}.{kind}" in wanted and isinstance(table.get(section), dict):
            table[section] = {key: value for key, value in table[section].items() if key not in dropped}
    for key, value in wanted.items():
        _put(table, key.split("."), value)
    return parse_recipe(table, recipe_path(where).name)


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


def _merged(where: str | Path, depth: int) -> dict[str, Any]:
    """Read a recipe's table, laid over that of its base."""
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
    base = table.get("base")
    if not isinstance(base, str) or not base:
        return table
    if depth == DEEPEST:
        raise RecipeError(f"The recipe {str(where)!r} is based on itself, or on more than {DEEPEST} others.")
    return _over(_merged(base if base in embedded_recipes() else path.parent / base, depth + 1), table)


def _over(below: dict[str, Any], above: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Lay one table over another, table by table."""
    kind, dropped = _REPLACED.get(section, ("", ()))
    kept = {key: value for key, value in below.items() if not (kind in above and key in dropped)}
    for key, value in above.items():
        under = kept.get(key)
        inside = isinstance(value, Mapping) and isinstance(under, Mapping) and key != "settings"
        kept[key] = _over(dict(under or {}), value, key) if inside else value
    return kept


def _put(table: dict[str, Any], keys: list[str], value: object) -> None:
    for number, key in enumerate(keys[:-1], start=1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{'.'.join(keys)} cannot be set: {'.'.join(keys[:number])} is no table.")
    table[keys[-1]] = value


def _problems(table: Mapping[str, Any], section: type[Struct], prefix: str) -> list[str]:
    fields = {field.name: field for field in msgspec.structs.fields(section)}
    problems = []
    for key in table.keys() - fields.keys():
        near = get_close_matches(str(key), fields, n=1)
        problems.append(f"{prefix}{key}: unknown key" + (f"; did you mean {near[0]}?" if near else ""))
    for key, field in fields.items():
        if key in table:
            problems += _value_problems(table[key], field.type, f"{prefix}{key}")
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            problems.append(f"{prefix}{key}: missing")
    return sorted(problems)


def _value_problems(value: object, kind: Any, path: str) -> list[str]:
    """Tell what is wrong with one value, or with each key of a table or of a list of tables."""
    inner = next((one for one in _alternatives(kind) if _is_table(one)), None)
    if inner is not None and isinstance(value, Mapping):
        return _problems(value, inner, f"{path}.")
    listed = next((get_args(one)[0] for one in _alternatives(kind) if get_origin(one) is tuple), None)
    if isinstance(value, list) and listed is not None and _is_table(listed):
        tables = [(number, one) for number, one in enumerate(value) if isinstance(one, Mapping)]
        found = [_problems(one, listed, f"{path}[{number}].") for number, one in tables]
        if any(found):
            return [problem for problems in found for problem in problems]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as fault:
        return [f"{path}: {told(fault)}"]
    return [] if _finite(value) else [f"{path}: not a finite number"]


def _alternatives(kind: Any) -> tuple[Any, ...]:
    kind = getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _finite(value: object) -> bool:
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    if isinstance(value, Mapping):
        return all(_finite(item) for item in value.values())
    return not isinstance(value, float) or math.isfinite(value)


def _contradictions(recipe: Recipe) -> list[str]:
    problems, shift = [], recipe.data.shift
    ranges = ("contrast", "background", "texture_cycles") if shift else ()
    for name in ranges:
        low, high = getattr(shift, name)
        if not 0 <= low <= high:
            problems.append(f"data.shift.{name}: not a range from low to high, at least 0: [{low}, {high}]")
    problems += [
        f"{name}.arguments.classes: the data say how many there are; leave it out"
        for name, plan in (("teacher", recipe.teacher), ("student", recipe.student))
        if "classes" in plan.arguments
    ]
    amounts = recipe.data.calibration, recipe.data.unlabelled
    if type(amounts[0]) is type(amounts[1]) and amounts[0] > amounts[1]:
        problems.append("data.calibration: more than data.unlabelled, of which it is a part")
    if recipe.seed + recipe.seeds > 1 << 32:
        problems.append("seeds: the last one would be above 4294967295")
    if not any(term.weight is None or term.weight for term in recipe.distill.terms):
        problems.append("distill.terms: every weight is 0, so nothing would be distilled")
    return problems
