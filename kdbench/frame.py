"""Results in Python: opened from a file, and as pandas data frames where pandas is there.

pandas is no dependency: it is imported when a frame is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import UsageError
from kdbench.export.tidy import ROWS, What, columns, select
from kdbench.records import Result
from kdbench.summary import open_summarised

if TYPE_CHECKING:
    from pandas import DataFrame


def load_result(path: str | PathLike[str]) -> Result:
    """Open a finished result file, or the journal of a run that goes on, with its summaries filled in.

    Raises ResultError, in one sentence, for what is no result.
    """
    return open_summarised(Path(path))


def to_dataframe(result: Result | Sequence[Result], what: What = "cells") -> DataFrame:
    """Give a tidy data frame: one row per cell, slice, window or timed call; units stand in the names.

    result: one, or several, whose rows follow one another; the column `run` tells them apart. Rows of slices,
    windows and samples bear the key of their cell, and `cell`, its index in that run. Raises KdbenchError
    where pandas is not installed or there is no such kind of row.
    """
    if what not in ROWS:
        raise UsageError(f"There are no rows of {what!r}.", hint=f"There are {', '.join(ROWS)}.")
    try:
        from pandas import DataFrame
    except ImportError:
        raise UsageError("A data frame needs pandas.", hint="Install it: pip install pandas") from None
    results = [result] if isinstance(result, Result) else list(result)
    rows = [row for one in results for row in select(one, what)]
    frame = DataFrame(rows, columns=list(columns(what)))
    if not rows:
        return frame
    # A column that nobody filled holds objects; as numbers it can be computed with like any other.
    return frame.astype(dict.fromkeys(frame.columns[frame.isna().all()], float))
