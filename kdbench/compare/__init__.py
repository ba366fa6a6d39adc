"""Say what changed between results: a verdict with its interval, and an exit code for whoever automates.

`compare` takes two results, `compare_trial` the two sides of one, `across` the cells of one; `gates` reads
what decides the exit code, and `report` puts it all together.
"""

from __future__ import annotations

from kdbench.compare.across import KEYS as KEYS, across as across
from kdbench.compare.asked import compare_named as compare_named
from kdbench.compare.files import compare as compare, compare_trial as compare_trial
from kdbench.compare.gate import gates as gates, known as known, report as report
from kdbench.compare.options import Options as Options
from kdbench.compare.sources import Loaded as Loaded, load as load, named as named

__all__ = [
    "KEYS",
    "Loaded",
    "Options",
    "across",
    "compare",
    "compare_named",
    "compare_trial",
    "gates",
    "known",
    "load",
    "named",
    "report",
]
