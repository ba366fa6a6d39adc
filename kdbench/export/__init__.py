"""Results and comparisons for other tools: Markdown, CSV, JSON, Bencher, github-action-benchmark.

Nothing here draws on a terminal, and every text that comes from a file is made harmless for where it goes.
"""

from __future__ import annotations

from kdbench.export.action import github_action_benchmark as github_action_benchmark
from kdbench.export.bencher import bmf as bmf
from kdbench.export.markdown import markdown as markdown
from kdbench.export.tables import csv as csv, result_csv as result_csv, slices_csv as slices_csv
from kdbench.export.tidy import rows as rows, select as select
from kdbench.strict import encode as report_json

__all__ = [
    "bmf",
    "csv",
    "github_action_benchmark",
    "markdown",
    "report_json",
    "result_csv",
    "rows",
    "select",
    "slices_csv",
]
