"""The custom JSON of github-action-benchmark: a list of named values, all better in the same direction."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kdbench.export.figure import Figure, figures
from kdbench.figures import significant
from kdbench.records import Result


def github_action_benchmark(results: Sequence[Result], *, bigger: bool = False) -> str:
    """Give figures for `customBiggerIsBetter` (throughput, accuracy) or `customSmallerIsBetter` (the rest).

    range: the larger half of the 95 % interval, where there is one.
    """
    told = [_entry(one) for one in figures(results) if one.bigger == bigger]
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(figure: Figure) -> dict[str, str | float]:
    entry: dict[str, str | float] = {
        "name": f"{figure.benchmark} / {figure.measure}",
        "unit": figure.unit,
        "value": figure.value,
    }
    if figure.low is not None and figure.high is not None:
        half = max(figure.high - figure.value, figure.value - figure.low)
        entry["range"] = f"± {significant(half, 0.1)}"
        entry["extra"] = f"95 % interval {figure.low:g} to {figure.high:g}"
    return entry
