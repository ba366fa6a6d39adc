"""Read and write the result file: one JSON object a run, strict in both directions.

`kdbench.records` says what is in it. `read` takes a finished file; `kdbench.journal.open_result`, one level
up, takes that or the journal of a run that is not finished. A file may come from a stranger: its size, its
depth, its numbers, its indices and its text are checked here, so that nobody behind has to.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import Any

import msgspec

from kdbench import __version__
from kdbench.errors import ResultError
from kdbench.records import MAJOR, MINOR, Result, Samples
from kdbench.strict import MAKE_AGAIN, clean as clean, decode, plain

MAX_BYTES = 64 * 2**20
"""A larger file is refused unread: it is no result, or one that would fill the memory."""

JOURNAL_SUFFIX = ".journal"
_BITS = 63
SCHEMA_NAME = "kdbench.result"

_json = msgspec.json.encode

Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: Mapping[int, Migration] = MappingProxyType({})
"""By the major version that a file comes from: what makes the next major of its plain JSON."""


class Format(msgspec.Struct, frozen=True):
    """Name and version that a file claims for itself, read before anything else of it."""

    name: str
    major: int
    minor: int = 0


class Head(msgspec.Struct, frozen=True):
    """The part of a result that says how to read the rest."""

    schema: Format | None = None


def admit(found: Format | None, name: str, major: int, what: str) -> None:
    """Refuse a file that is not a `name`, or of a newer major version than `major`."""
    if found is None or found.name != name:
        claim = "does not say what it is" if found is None else f"says that it is {clean(found.name)[:80]!r}"
        raise ResultError(f"{what} is no {name} file: it {claim}.", hint="Pass what `kdbench run` wrote.")
    if found.major > major:
        raise ResultError(
            f"{what} has version {found.major}.{found.minor} of {name}, newer than the {major} that "
            f"kdbench {__version__} reads.",
            hint="Upgrade kdbench: pip install --upgrade kdbench",
        )


def read(path: Path) -> Result:
    """Read a finished result file of this or an older version. Raises ResultError, in one sentence."""
    what = clean(str(path))
    data = load(path)
    head = decode(data, Head, what)
    admit(head.schema, SCHEMA_NAME, MAJOR, what)
    if head.schema is not None and head.schema.major < MAJOR:
        data = _migrated(data, head.schema.major, what)
    result = decode(data, Result, what)
    check(result, what)
    return result


def write(result: Result, path: Path, *, overwrite: bool = False) -> None:
    """Write `result` whole or not at all; an existing file is replaced only with `overwrite`.

    Raises ResultError when the folder cannot be written, the disk is full, or `result` is not sound.
    """
    check(result, "The result")
    data = _layout(plain(result))
    if len(data) > MAX_BYTES:
        raise ResultError(
            f"The result takes {len(data)} bytes, more than the {MAX_BYTES} that can be read again.",
            hint="Measure fewer cells or blocks in one run.",
        )
    try:
        if not overwrite and path.exists():
            raise ResultError(f"{clean(str(path))} exists.", hint="Choose another name with --output.")
        put(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, in the place of one that is there. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        _discard(temporary)


def load(path: Path) -> bytes:
    """Give the bytes of a regular file of at most `MAX_BYTES`. Raises ResultError."""
    what = clean(str(path))
    try:
        if path.exists() and not path.is_file():
            raise ResultError(f"{what} is not a file.", hint="Pass what `kdbench run` wrote.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ResultError(f"There is no file {what}.", hint="Its name stood at the end of the run.") from None
    except OSError as error:
        raise ResultError(f"{what} cannot be read: {_strerror(error)}.") from error
    if not data:
        raise ResultError(f"{what} is empty.", hint=MAKE_AGAIN)
    if len(data) > MAX_BYTES:
        raise ResultError(f"{what} has more than {MAX_BYTES} bytes; no result is that large.")
    return data


def check(result: Result, what: str) -> None:
    """Refuse indices that point nowhere and histograms whose parts do not fit; raises ResultError."""
    cells = range(len(result.cells))
    indices: list[tuple[str, int | None]] = []
    for name in ("slices", "windows", "samples", "stretches"):
        indices += [(f"{name}[{k}].cell", part.cell) for k, part in enumerate(getattr(result, name))]
    for k, lead in enumerate(result.leads):
        indices += [(f"leads[{k}].leader", lead.leader), (f"leads[{k}].runner_up", lead.runner_up)]
    for k, gain in enumerate(result.gains):
        indices += [(f"gains[{k}].student", gain.student), (f"gains[{k}].teacher", gain.teacher)]
    for k, crossing in enumerate(result.crossings):
        for name, end in (("low", crossing.low), ("high", crossing.high)):
            indices += [(f"crossings[{k}].{name}.first", end.first)]
            indices += [(f"crossings[{k}].{name}.second", end.second)]
    for where, index in indices:
        if index is not None and index not in cells:
            raise ResultError(
                f"{what} is inconsistent: {where} is {index}, and there are {len(cells)} cells."
            )
    for k, samples in enumerate(result.samples):
        if fault := _misfit(samples):
            raise ResultError(f"{what} is inconsistent: samples[{k}] {fault}.")


def _misfit(samples: Samples) -> str:
    """Say what does not fit in raw samples or a histogram; empty if nothing."""
    bins, counts, growth = samples.bins, samples.counts, samples.growth
    if len(bins) != len(counts) or (bins and growth is None):
        return f"has {len(bins)} bins, {len(counts)} counts and growth {growth}"
    if growth is not None and not 1 < growth <= 2:
        return f"has the growth {growth:g}, which is not above 1 and at most 2"
    if growth is not None and any(not 0 <= k * math.log2(growth) <= _BITS for k in bins):
        return "has a bin that no time in 64 bits falls into"
    held = len(samples.values_ns) if growth is None else sum(counts)
    if held != samples.calls or min(counts, default=0) < 0:
        return f"has {samples.calls} calls and holds {held}"
    return ""


def default_path(folder: Path | None, profile: str, now: datetime) -> Path:
    """Choose a name that neither a result nor a journal has: UTC time and profile.

    folder: None means `results/` where the current folder has one, else the current folder.
    now: an aware time. profile: a name, or the path of a plan.
    """
    if folder is None:
        folder = Path("results") if Path("results").is_dir() else Path()
    plan = re.sub(r"[^A-Za-z0-9._]+", "-", Path(profile).stem).strip("-.") or "run"
    stem = f"{now.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}-{plan[:60]}"
    path, number = folder / f"{stem}.json", 1
    while path.exists() or path.with_name(path.name + JOURNAL_SUFFIX).exists():
        number += 1
        path = folder / f"{stem}-{number}.json"
    return path


def json_schema() -> dict[str, Any]:
    """Derive the JSON Schema (draft 2020-12) of the result file from `kdbench.records`."""
    schema = msgspec.json.schema(Result)
    # A constructed Result has its schema by default; a file has to say it.
    schema["$defs"]["Result"]["required"].insert(0, "schema")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{SCHEMA_NAME} {MAJOR}.{MINOR}",
    }
    plain: dict[str, Any] = json.loads(json.dumps({**head, **schema}))
    return plain


def schema_text() -> str:
    """Give the text of `result.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def unwritable(path: Path, error: OSError) -> ResultError:
    """Say that `path` cannot be written, and what to do about it."""
    return ResultError(
        f"{clean(str(path))} cannot be written: {_strerror(error)}.",
        hint="Give a file in an existing folder that you may write to, on a disk with room, by --output.",
    )


def _layout(tree: dict[str, Any]) -> bytes:
    """Put each section on a line, and each record of a list: differences of two files stay readable."""
    sections = []
    for key, value in tree.items():
        if isinstance(value, list) and value:
            body = b"[\n" + b",\n".join(map(_json, value)) + b"\n]"
        else:
            body = _json(value)
        sections.append(_json(key) + b":" + body)
    return b"{\n" + b",\n".join(sections) + b"\n}\n"


def _migrated(data: bytes, major: int, what: str) -> bytes:
    tree = decode(data, dict[str, Any], what)
    for step in range(major, MAJOR):
        if step not in MIGRATIONS:
            raise ResultError(
                f"{what} has version {major} of {SCHEMA_NAME}, older than kdbench {__version__} reads."
            )
        try:
            tree = MIGRATIONS[step](tree)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ResultError(f"{what} is not a sound file of version {step} of {SCHEMA_NAME}.") from error
    return _json({**tree, "schema": {"name": SCHEMA_NAME, "major": MAJOR, "minor": 0}})


def _strerror(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
