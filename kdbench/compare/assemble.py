"""Make a comparison of joined cells: find, judge as one family, add means and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from kdbench.compare.conditions import Pairs
from kdbench.compare.findings import Setting, findings
from kdbench.compare.means import means
from kdbench.compare.notes import of_changes
from kdbench.compare.overall import overall
from kdbench.compare.verdict import judge
from kdbench.comparison import Change, Comparison, Row, Source
from kdbench.records import Result
from kdbench.strict import clean


def assemble(pairs: Pairs, setting: Setting, comparison: Comparison, notes: Iterable[str]) -> Comparison:
    """Fill a comparison's rows, means, notes and verdict; where it has mismatches, nothing is judged."""
    found = [(base, new, findings(base, new, setting)) for base, new in pairs]
    flat = [one for _, _, some in found for one in some]
    refused = bool(comparison.mismatches) and not comparison.allowed
    changes = judge(flat, setting.options)
    if refused:
        changes = tuple(_refused(one, comparison.mismatches) for one in changes)
    rows, judged, start = [], [], 0
    for base, new, some in found:
        own = changes[start : start + len(some)]
        start += len(some)
        rows.append(Row(base=base.record.cell, new=new.record.cell, changes=own))
        judged += [(rows[-1], finding, change) for finding, change in zip(some, own, strict=True)]
    filled = replace(
        comparison,
        rows=tuple(rows),
        means=means(rows),
        notes=(*notes, *(() if refused else of_changes(judged))),
    )
    return replace(filled, verdict=overall(filled, setting.options))


def _refused(change: Change, mismatches: Sequence[str]) -> Change:
    return replace(
        change, verdict="not comparable", reason=mismatches[0], p=None, p_holm=None, settle_s=None, command=""
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
