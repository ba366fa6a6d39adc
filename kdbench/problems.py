"""Every problem of plain data (TOML, JSON, a word of a command line) at once, told by declared types.

The types are frozen msgspec structs, tuples, dicts and annotated scalars; msgspec decides what fits,
but stops at the first misfit, and this module walks on.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import date, time
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

import msgspec
from msgspec import Struct, inspect, structs

LONGEST_QUOTE = 60
FAR = 1e9
TOML_LIMIT_BYTES = 1 << 20

PLAIN = r"[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
"""A character of plain text: no control character, line separator, or mark that reorders text on a screen."""

_REGEX = re.compile(r"`str` matching regex '(.*?)'(?= - at |$)")
_FORMS = (
    ("[0-9a-f]{64}", "64 hexadecimal digits"),
    ("[a-z0-9]", "a name of lower-case letters, digits, '.', '_' and '-'"),
    ("[A-Za-z_]", "a name of letters, digits and '_'"),
)
"""What a pattern has in it, and how its form is told; any other is plain text."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a small TOML file. Raises OSError, or ValueError with what is wrong with it as a predicate."""
    if path.exists() and not path.is_file():
        raise ValueError("is not a file")
    with path.open("rb") as file:
        raw = file.read(TOML_LIMIT_BYTES + 1)
    if len(raw) > TOML_LIMIT_BYTES:
        raise ValueError(f"is larger than {TOML_LIMIT_BYTES} bytes")
    try:
        return tomllib.loads(raw.decode())
    except tomllib.TOMLDecodeError as fault:
        raise ValueError(f"is not TOML: {fault}") from fault
    except UnicodeDecodeError as fault:
        raise ValueError(f"is not TOML: byte {fault.start} is not UTF-8 text") from fault
    except RecursionError as fault:
        raise ValueError("is not TOML that can be read: it is nested too deeply") from fault
    except ValueError as fault:
        # Python refuses to read an integer of thousands of digits.
        raise ValueError("is not TOML that can be read: a number in it is too long") from fault


def problems(data: object, kind: Any, path: str = "") -> Iterator[str]:
    """Yield a sentence, beginning with the key path, for every place where `data` is not a `kind`."""
    shape = _shape(kind)
    if _is_struct(shape):
        yield from _table_problems(data, shape, path)
    elif get_origin(shape) is dict:
        name, value = get_args(shape)
        yield from _mapping_problems(data, name, value, path)
    elif get_origin(shape) is tuple:
        yield from _list_problems(data, kind, path)
    else:
        try:
            msgspec.convert(data, kind)
        except msgspec.ValidationError:
            yield f"{path or 'it'} must be {describe(kind)}, not {quote(data)}{_meant(data, kind)}"


def parse(text: str, kind: Any) -> Any:
    """Read one word of a command line as a scalar type. Raises ValueError with a sentence."""
    try:
        return msgspec.convert(text.strip(), kind, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"{quote(text)} is not {describe(kind)}{_meant(text, kind)}") from None


def describe(kind: Any) -> str:
    """Say in words what a scalar type allows: `a whole number from 1 to 65536`."""
    *phrases, last = (phrase for one in _alternatives(kind) for phrase in _phrases(one))
    return f"{', '.join(phrases)} or {last}" if phrases else last


def told(fault: Exception) -> str:
    """Give msgspec's sentence with words where it has a regular expression."""
    return _REGEX.sub(_form, str(fault))


def sentence(text: str) -> str:
    """End a sentence that may end with a question already."""
    return text if text.endswith("?") else f"{text}."


def nearest(word: str, known: Collection[str]) -> str:
    """Give the known word that was probably meant, or an empty text."""
    return next(iter(difflib.get_close_matches(word, known, n=1)), "")


def quote(value: object) -> str:
    """Give a short, printable form of what was found: `'fp31'`, `0`, `a table`."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):
        return value.isoformat()
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def _table_problems(data: object, kind: type[Struct], path: str) -> Iterator[str]:
    if not isinstance(data, Mapping):
        yield f"{path or 'it'} must be a table, not {quote(data)}"
        return
    fields = {field.encode_name: field for field in structs.fields(kind)}
    for key in data:
        if key not in fields:
            meant = nearest(str(key), fields)
            offer = f"; did you mean {_join(path, meant)}?" if meant else f"; known are {', '.join(fields)}"
            yield f"{_join(path, key)} is not a known key{offer}"
    for name, field in fields.items():
        if name in data:
            yield from problems(data[name], field.type, _join(path, name))
        elif field.required:
            yield f"{_join(path, name)} is missing; it must be {describe(field.type)}"


def _mapping_problems(data: object, name: Any, kind: Any, path: str) -> Iterator[str]:
    if not isinstance(data, Mapping):
        yield f"{path} must be a table, not {quote(data)}"
        return
    for key, value in data.items():
        yield from problems(key, name, f"{path}: a name in it")
        yield from problems(value, kind, _join(path, key))


def _list_problems(data: object, kind: Any, path: str) -> Iterator[str]:
    if not isinstance(data, list | tuple):
        yield f"{path} must be a list, not {quote(data)}"
        return
    for position, item in enumerate(data):
        yield from problems(item, get_args(_shape(kind))[0], f"{path}[{position}]")
    counts = Counter(map(repr, data))
    for value in {repr(item): item for item in data if counts[repr(item)] > 1}.values():
        yield f"{path} has {quote(value)} more than once"
    if len(data) < (inspect.type_info(kind).min_length or 0):  # type: ignore[attr-defined]  # a tuple's
        yield f"{path} is empty; it must name at least one"


def _phrases(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(str(word) for word in get_args(kind))
    match inspect.type_info(kind):
        case inspect.IntType() as info:
            return (f"a whole number{_range(info)}",)
        case inspect.FloatType() as info:
            return (f"a number{_range(info)}",)
        case inspect.BoolType():
            return ("true", "false")
        case _:
            return ("plain text",)


def _form(found: re.Match[str]) -> str:
    return next((words for mark, words in _FORMS if mark in found[1]), "plain text in one line")


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    low, high = info.ge, info.le
    if info.gt is not None:
        return f" above {info.gt:g}" + ("" if high is None else f" and at most {high:g}")
    if low is None or high is None or -low > FAR:
        return ""  # nobody needs to hear of limits that far away
    return f" from {low:.12g} to {high:.12g}"


def _meant(data: object, kind: Any) -> str:
    """Offer the nearest of the words that a type allows."""
    words = [word for one in _alternatives(kind) if get_origin(one) is Literal for word in get_args(one)]
    meant = nearest(data, [str(word) for word in words]) if isinstance(data, str) else ""
    return f"; did you mean {meant}?" if meant else ""


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _shape(kind: Any) -> Any:
    """Give the type below its annotations."""
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind


def _is_struct(kind: Any) -> TypeGuard[type[Struct]]:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _join(path: str, key: object) -> str:
    shown = str(key) if str(key).isprintable() else ascii(key)
    return f"{path}.{shown}" if path else shown
