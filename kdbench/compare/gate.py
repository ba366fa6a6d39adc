"""Which changes decide the exit code, and what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kdbench.compare.options import Options
from kdbench.compare.overall import overall
from kdbench.comparison import Comparison, Report
from kdbench.errors import UsageError
from kdbench.metric import METRICS, Metric
from kdbench.problems import nearest, quote

PASSED, REGRESSION, NOT_COMPARABLE, INCONCLUSIVE = 0, 1, 4, 5

_LIMIT = re.compile(r"([+-]?)(\d{1,12}(?:\.\d{1,9})?) ?(%|pp|)", re.ASCII)
_FORMS = {"ratio": ("%", "5%"), "points": ("pp", "0.5pp"), "count": ("", "3")}


def gates(fail_on: str | None, margin: float | None = None) -> Options:
    """Give the options of `--fail-on latency.p50:5%,accuracy.top1:-0.5pp` and `--margin`, a share.

    A metric without a limit keeps its margin. A sign may be written and must be that in which the metric
    becomes worse. Raises UsageError.
    """
    options = Options(margin=margin)
    limits: dict[str, float] = {}
    unlimited = set()
    for item in [] if fail_on is None else fail_on.split(","):
        name, colon, limit = item.strip().partition(":")
        metric = known(name.strip())
        if metric.name in limits:
            raise UsageError(f"--fail-on names {metric.name} twice.")
        limits[metric.name] = _limit(metric, limit.strip()) if colon else options.margin_of(metric)
        if not colon:
            unlimited.add(metric.name)
    return Options(margin=margin, gates=limits, unlimited=frozenset(unlimited))


def known(name: str) -> Metric:
    """Give a metric by its name, or raise UsageError with the nearest one."""
    if name not in METRICS:
        meant = nearest(name, METRICS)
        offer = f"Did you mean {meant}?" if meant else f"There are {', '.join(METRICS)}."
        raise UsageError(f"There is no metric {quote(name)}.", hint=offer)
    return METRICS[name]


def _limit(metric: Metric, text: str) -> float:
    unit, example = _FORMS[metric.scale]
    found = _LIMIT.fullmatch(text)
    if not found or found[3] != unit:
        what = {"ratio": "as a percentage", "points": "in percentage points", "count": "as a number"}
        raise UsageError(
            f"{metric.name} is limited {what[metric.scale]}, not by {quote(text)}.",
            hint=f"Write {metric.name}:{example}",
        )
    bad = "+" if metric.worse == "up" else "-"
    if found[1] not in ("", bad):
        raise UsageError(
            f"{metric.name}:{text} would fail where it becomes better: worse is {metric.worse}.",
            hint=f"Write {metric.name}:{bad}{found[2]}{unit}, or leave the sign out.",
        )
    limit = float(found[2])
    if metric.scale == "points" and limit > 100:
        raise UsageError(f"{metric.name}:{text} is more points than there are.", hint="There are 100.")
    return limit / 100 if metric.scale == "ratio" else limit


def report(
    comparisons: Sequence[Comparison], options: Options | None = None, *, strict: bool = False
) -> Report:
    """Put comparisons together, with the exit code that follows from them."""
    options = options or Options()
    return Report(
        comparisons=tuple(comparisons),
        gates=dict(options.gates),
        metrics=options.metrics,
        strict=strict,
        exit_code=exit_code(comparisons, options, strict=strict),
    )


def exit_code(comparisons: Iterable[Comparison], options: Options, *, strict: bool) -> int:
    """Give the gravest code of the comparisons, each by itself; 4 where there is none.

    It is 1 where what counts is worse; else 4 where nothing of it was judged, or nothing for a gate; else 0.
    With `strict` it is 5 where what counts is inconclusive, and where base measured something that is missing
    from new, or cannot be had there. A row that no longer works always counts, and in a trial one that does
    not work on either side. To be told which backend of a file is fastest is never a failure.
    """
    codes = [_code(one, options, strict=strict) for one in comparisons]
    for code in (REGRESSION, NOT_COMPARABLE, INCONCLUSIVE):
        if code in codes:
            return code
    return PASSED if codes else NOT_COMPARABLE


def _code(comparison: Comparison, options: Options, *, strict: bool) -> int:
    verdict = overall(comparison, options)
    if verdict in ("worse", "not comparable"):
        return REGRESSION if verdict == "worse" else NOT_COMPARABLE
    missing = any(one.only == "base" and one.status == "measured" for one in comparison.unmatched)
    return INCONCLUSIVE if strict and (verdict == "inconclusive" or missing) else PASSED
