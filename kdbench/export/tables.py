"""CSV: of a result one row per cell or slice, of a report one row per change.

A text from a file that a spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv as _csv
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

from msgspec.structs import asdict

from kdbench.comparison import Change, Comparison, Report
from kdbench.export import tidy
from kdbench.records import Result
from kdbench.strict import clean

FORMULA = ("=", "+", "-", "@")
_CHANGE = tuple(name for name in Change.__struct_fields__ if name != "blocks")


def csv(report: Report) -> str:
    """Give one row per change: both files, the keys of both cells (`base_` for the base's), every field."""
    return _written(row for number, one in enumerate(report.comparisons) for row in _changes(number, one))


def result_csv(result: Result) -> str:
    """Give one row per cell: its key, its status, and every figure of its summary."""
    return _written(tidy.rows(result))


def slices_csv(result: Result) -> str:
    """Give one row per slice, with the key of its cell."""
    return _written(tidy.slices(result))


def _changes(number: int, comparison: Comparison) -> Iterator[dict[str, Any]]:
    base, new = comparison.base, comparison.new
    where = {
        "comparison": number,
        "base_label": base.label,
        "base_file": base.file,
        "base_run": base.run,
        "new_label": new.label,
        "new_file": new.file,
        "new_run": new.run,
        "student": new.student,
    }
    for row in comparison.rows:
        keys = {**tidy.key(row.new), **{f"base_{name}": value for name, value in tidy.key(row.base).items()}}
        for change in row.changes:
            fields = asdict(change)
            blocks = {"base_blocks": change.blocks[0], "new_blocks": change.blocks[1]}
            yield {**where, **keys, **{name: fields[name] for name in _CHANGE}, **blocks}


def _written(rows: Iterable[dict[str, Any]]) -> str:
    """Write rows that all have the columns of the first; nothing at all where there is none."""
    text, writer = StringIO(), None
    for row in rows:
        if writer is None:
            writer = _csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return text.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        shown = clean(value)
        return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown
    return str(value).lower() if isinstance(value, bool) else value
