"""CSV: of a result one row per cell or slice, of a report one row per change.

A text from a file that a spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv as _csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any

from msgspec.structs import asdict

from kdbench.comparison import Change, Comparison, Report
from kdbench.export import tidy
from kdbench.records import Result
from kdbench.strict import clean

FORMULA = ("=", "+", "-", "@")
_CHANGE = tuple(name for name in Change.__struct_fields__ if name != "blocks")
_WHERE = (
    *("comparison", "base_label", "base_file", "base_run"),
    *("new_label", "new_file", "new_run", "student"),
)
_COLUMNS = (*_WHERE, *tidy.KEY, *(f"base_{name}" for name in tidy.KEY), *_CHANGE, "base_blocks", "new_blocks")


def csv(report: Report) -> str:
    """Give one row per change: both files, the keys of both cells (`base_` for the base's), every field."""
    rows = (row for number, one in enumerate(report.comparisons) for row in _changes(number, one))
    return _written(rows, _COLUMNS)


def result_csv(result: Result) -> str:
    """Give one row per cell: its key, its status, and every figure of its summary."""
    return _written(tidy.rows(result), tidy.columns("cells"))


def slices_csv(result: Result) -> str:
    """Give one row per slice, with the key of its cell."""
    return _written(tidy.slices(result), tidy.columns("slices"))


def _changes(number: int, comparison: Comparison) -> Iterator[dict[str, Any]]:
    base, new = comparison.base, comparison.new
    told = (number, base.label, base.file, base.run, new.label, new.file, new.run, new.student)
    where = dict(zip(_WHERE, told, strict=True))
    for row in comparison.rows:
        keys = {**tidy.key(row.new), **{f"base_{name}": value for name, value in tidy.key(row.base).items()}}
        for change in row.changes:
            fields = asdict(change)
            blocks = {"base_blocks": change.blocks[0], "new_blocks": change.blocks[1]}
            yield {**where, **keys, **{name: fields[name] for name in _CHANGE}, **blocks}


def _written(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """Write the names of the columns, and the rows, where there are any."""
    text = StringIO()
    writer = _csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        shown = clean(value)
        return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown
    return str(value).lower() if isinstance(value, bool) else value
