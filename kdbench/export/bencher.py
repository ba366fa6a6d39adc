"""Bencher Metric Format: a JSON object of benchmarks, each an object of measures.

Source of the format: Bencher's documentation of the `json` adapter. A measure is named by its slug; Bencher
makes those that it does not know. Latency is in nanoseconds and throughput in operations per second, as
its own measures of these names are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from kdbench.export.figure import figures
from kdbench.records import Result


def bmf(results: Sequence[Result]) -> str:
    """Give the figures of results as BMF: value, and the 95 % interval as `lower_value` and `upper_value`."""
    told: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for one in figures(results):
        values = {"value": one.value, "lower_value": one.low, "upper_value": one.high}
        told[one.benchmark][one.measure] = {key: value for key, value in values.items() if value is not None}
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
