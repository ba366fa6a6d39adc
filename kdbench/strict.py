"""JSON that can be trusted: strict in both directions, and nothing in its text that a terminal obeys.

msgspec checks types; it writes NaN as null, takes integers of any size and leaves control characters in
text. What a run writes and what a stranger hands over both pass through here instead.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import msgspec

from kdbench.errors import ResultError
from kdbench.problems import told

_T = TypeVar("_T")
MAX_CONTAINERS = 1_000_000
"""More lists and objects than this are refused unread: each takes some 70 bytes of memory for two of text."""

_INTEGERS = range(-(2**63), 2**63)
_SHORT = 18
"""Digits of an integer that is within 64 bits without looking."""
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
MAKE_AGAIN = "Pass what `kdbench run` wrote, unaltered; or measure again."
_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links
)
_BYTE = re.compile(r"\(byte (\d+)\)")
_NOT_JSON = re.compile(rb"-?(?:NaN|Infinity)")


def clean(text: str) -> str:
    """Give `text` as one line that is safe to show: no escape sequence, control or invisible character.

    White space of any kind becomes a blank, so that a line break cannot forge a row of a table.
    """
    if text.isprintable():
        return text
    kept = _ESCAPE_SEQUENCES.sub("", text)
    return "".join(" " if c.isspace() else c for c in kept if c.isspace() or c.isprintable())


def encode(record: msgspec.Struct) -> bytes:
    """Give `record` as one line of JSON, its text cleaned.

    Raises ResultError for what JSON cannot hold: NaN, an infinity, an integer beyond 64 bits, an object.
    """
    return msgspec.json.encode(plain(record))


def decode(data: bytes, kind: type[_T], what: str) -> _T:
    """Read `data` as `kind`; unknown keys are ignored, text is cleaned.

    what: how to name the data in a message. Raises ResultError for anything that is not JSON, not of the
    declared types, too deep, too wide, or holds a number that JSON or 64 bits cannot.
    """
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise ResultError(f"{what} cannot be read: it has more than {MAX_CONTAINERS} lists and objects.")
    try:
        # Typed first: what no field takes is then never built, so a hostile file cannot fill the memory.
        record = msgspec.json.decode(data, type=kind)
        if _harmless(data):
            return record
        tree = _tidy(msgspec.to_builtins(record, str_keys=True), "")
        return msgspec.convert(tree, kind, str_keys=True)
    except ResultError as error:
        raise ResultError(f"{what} cannot be read: {error.message}", hint=error.hint) from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise ResultError(f"{what} cannot be read: {_reason(error, data)}.", hint=MAKE_AGAIN) from error


def plain(record: msgspec.Struct) -> Any:
    """Give `record` as dicts, lists and scalars that JSON can hold, its text cleaned; raises ResultError."""
    try:
        return _tidy(msgspec.to_builtins(record, str_keys=True), "")
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultError(f"The result cannot be written as JSON: {error}.") from error


def _harmless(data: bytes) -> bool:
    """Tell at a glance that neither a text nor an integer in this JSON needs a closer look."""
    marks = (b"\\", b"\x7f")
    if not data.isascii() or any(mark in data for mark in marks):
        return False
    return b"0" * (_SHORT + 1) not in data.translate(_DIGITS_AS_ZEROS)


def _tidy(value: Any, where: str) -> Any:
    """Copy plain JSON with every text cleaned; refuse numbers that JSON or 64 bits cannot hold."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): _tidy(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        if set(map(type, value)) == {int} and min(value) in _INTEGERS and max(value) in _INTEGERS:
            return value
        return [_tidy(item, where) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultError(f"{clean(where).strip('.') or 'it'} is {value}, which JSON has no number for.")
    if isinstance(value, int) and value not in _INTEGERS:
        raise ResultError(f"{clean(where).strip('.') or 'it'} is an integer beyond 64 bits.")
    return value


def _reason(error: Exception, data: bytes) -> str:
    text = str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        claim, _, place = told(error).partition(" - at `$")
        place = clean(place.strip("`.")) or "the top"
        return f"at {place[:200]}, {clean(claim[:1].lower() + claim[1:200])}"
    byte = _BYTE.search(text)
    if byte and (number := _NOT_JSON.search(data, max(0, int(byte[1]) - 1), int(byte[1]) + 9)):
        return f"it holds {number[0].decode()}, which JSON has no number for"
    if "truncated" in text:
        return "it is no JSON or ends too early"
    return f"it is no JSON ({clean(text)})"
