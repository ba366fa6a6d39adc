"""Findings that rest on no block: accuracy, label flips, and what was observed once or is exact."""

from __future__ import annotations

import math
from dataclasses import replace

from kdbench.compare import accuracy
from kdbench.compare.effect import Effect
from kdbench.compare.evidence import Evidence, once as observed
from kdbench.compare.options import Options
from kdbench.compare.verdict import Finding
from kdbench.metric import Metric
from kdbench.records import AccuracyRecord, CellRecord
from kdbench.strict import clean


def spoiled(base: CellRecord, new: CellRecord) -> str:
    """Say why what two cells cost is not judged; empty where it is."""
    for side, record in (("base", base), ("new", new)):
        if record.status == "invalid":
            return f"its answers are wrong in {side}"
        if record.placement is not None and record.placement.fallback:
            return f"it fell back to {clean(record.placement.device)} in {side}"
        if record.eligible is False:
            return f"its answers are wrong in {side}: less accurate than is allowed"
    return ""


def top1(metric: Metric, base: Evidence, new: Evidence, options: Options) -> Finding | None:
    """Compare the accuracy, by the predictions; None where neither side has any and nobody asked."""
    ours, theirs = base.record.accuracy, new.record.accuracy
    if ours is None and theirs is None and not options.asks_for(metric):
        return None
    finding = Finding(metric=metric, margin=options.margin_of(metric), base=_share(ours), new=_share(theirs))
    found = accuracy.top1(base, new)
    if isinstance(found, str) or ours is None or theirs is None:
        return replace(finding, forced="not comparable", reason=found if isinstance(found, str) else "")
    if accuracy.alike(base, new):
        return replace(finding, effect=found, forced="same", reason=accuracy.ALIKE)
    return replace(finding, effect=found, hypothesis=(ours.predictions, theirs.predictions))


def _share(found: AccuracyRecord | None) -> float | None:
    known = found is not None and found.correct is not None and found.images
    return 100 * found.correct / found.images if known else None  # type: ignore[union-attr,operator]


def flips(metric: Metric, base: Evidence, new: Evidence, options: Options) -> Finding | None:
    """Compare how many labels differ from the reference; half a percent more of the images is still none."""
    ours, theirs = base.record.accuracy, new.record.accuracy
    why = accuracy.unlike_data(base, new)
    margin = options.margin_of(metric)
    if ours is None or theirs is None:
        if not options.asks_for(metric):
            return None
        return Finding(metric=metric, margin=margin, forced="not comparable", reason=why)
    if not options.limits(metric):
        margin = max(margin, accuracy.FLIPS_SHARE * ours.images)
    return Finding(
        metric=metric,
        margin=margin,
        base=float(ours.flips),
        new=float(theirs.flips),
        effect=Effect(estimate=float(theirs.flips - ours.flips)),
        forced="not comparable" if why else None,
        reason=why,
    )


def once(metric: Metric, base: Evidence, new: Evidence, options: Options) -> Finding | None:
    """Compare two observations by the margin alone; what is shown and not judged says so."""
    ours, theirs = observed(metric, base.record), observed(metric, new.record)
    finding = Finding(
        metric=metric, margin=options.margin_of(metric), floor=metric.floor, base=ours, new=theirs
    )
    if ours is None or theirs is None:
        why = "it was not measured on both sides"
        return replace(finding, forced="not comparable", reason=why) if options.asks_for(metric) else None
    known = ours > 0 and theirs > 0
    if known:
        finding = replace(finding, effect=Effect(estimate=math.log(theirs) - math.log(ours), blocks=(1, 1)))
    if why := spoiled(base.record, new.record):
        return replace(finding, forced="not comparable", reason=why)
    if not metric.judged and not options.asks_for(metric):
        why = "one observation, which is shown and not judged"
        return replace(finding, forced="inconclusive", reason=why)
    return finding if known else _of_nothing(finding, ours, theirs)


def _of_nothing(finding: Finding, base: float, new: float) -> Finding:
    """Judge values of which one is 0 or less, so that there is no ratio, by their difference alone."""
    if abs(new - base) <= finding.floor:
        return replace(finding, forced="same")
    why = f"there is no ratio to {min(base, new):g} {finding.metric.unit}"
    return replace(finding, forced="worse" if new > base else "better", reason=why)
