"""Make a comparison of joined cells: find, judge as one family, add means and notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

from msgspec.structs import replace

from kdbench.compare.conditions import Pairs
from kdbench.compare.findings import Setting, findings
from kdbench.compare.notes import of_changes
from kdbench.compare.options import Options
from kdbench.compare.verdict import judge
from kdbench.comparison import VERDICTS, Change, Comparison, Mean, Row, Source, Verdict
from kdbench.metric import METRICS
from kdbench.records import Result
from kdbench.strict import clean


def assemble(pairs: Pairs, setting: Setting, comparison: Comparison, notes: Iterable[str]) -> Comparison:
    """Fill a comparison's rows, means, notes and verdict; where it has mismatches, nothing is judged."""
    found = [(base, new, findings(base, new, setting)) for base, new in pairs]
    flat = [one for _, _, some in found for one in some]
    refused = bool(comparison.mismatches) and not comparison.allowed
    changes = tuple(_refused(one, comparison.mismatches) if refused else one for one in judge(flat))
    rows, judged, start = [], [], 0
    for base, new, some in found:
        own = changes[start : start + len(some)]
        start += len(some)
        rows.append(Row(base=base.record.cell, new=new.record.cell, changes=own))
        judged += [(rows[-1], finding, change) for finding, change in zip(some, own, strict=True)]
    return replace(
        comparison,
        rows=tuple(rows),
        means=means(rows),
        notes=(*notes, *(() if refused else of_changes(judged))),
        verdict="not comparable" if refused else overall(rows, setting.options),
    )


def _refused(change: Change, mismatches: Sequence[str]) -> Change:
    return replace(
        change, verdict="not comparable", reason=mismatches[0], p=None, p_holm=None, settle_s=None, command=""
    )


def overall(rows: Iterable[Row], options: Options) -> Verdict:
    """Give the first of `VERDICTS` that a judged change has; `not comparable` only where none was judged."""
    found = {change.verdict for row in rows for change in row.changes if counts(change, options)}
    return next((one for one in VERDICTS if one in found and one != "not comparable"), "not comparable")


def counts(change: Change, options: Options) -> bool:
    """Tell whether a change takes part in the verdict: what is only shown does where it was asked for."""
    metric = METRICS.get(change.metric)
    return metric is None or metric.judged or metric.name in options.gates


def means(rows: Sequence[Row]) -> tuple[Mean, ...]:
    """Give the geometric mean of each metric's ratios, where at least two rows are valid on both sides."""
    logs: dict[str, list[float]] = {name: [] for name, metric in METRICS.items() if metric.scale == "ratio"}
    for row in rows:
        for change in row.changes:
            if change.metric in logs and change.effect and change.verdict != "not comparable":
                logs[change.metric].append(math.log(change.effect))
    return tuple(
        Mean(metric=name, effect=math.exp(fmean(found)), rows=len(found))
        for name, found in logs.items()
        if len(found) > 1
    )


def source(result: Result, label: str, file: str = "", side: str = "") -> Source:
    """Say what a side is as a whole."""
    subject = result.subject
    for one in result.trial.sides if result.trial and side else ():
        if one.side == side:
            subject, label = one.subject or subject, one.label or label
    host = result.environment.get("host_hash")
    return Source(
        label=clean(label),
        file=clean(file),
        run=result.run.id,
        started_utc=result.run.started_utc,
        host_hash=host if isinstance(host, str) else "",
        student=subject.student,
        student_sha256=subject.student_sha256,
        kdbench=result.run.kdbench,
        side=side,
    )
