"""Better, worse, same, inconclusive or not comparable: the rule, applied to one finding after another.

A change is real where its probability, corrected by Holm for all that count, is below 5 %; what is only
shown beside them is a family of its own. It matters where it goes beyond the margin and beyond the absolute
floor. It is none where the whole 95 % interval lies within the margin, or that of the absolute difference
within the floor. All else is inconclusive.
A ratio of r and one of 1/r are equally far from none: a margin of 3 % reaches from 1/1.03 to 1.03.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kdbench import stats
from kdbench.compare.effect import Effect
from kdbench.compare.options import Options
from kdbench.compare.settle import Trial, settling
from kdbench.comparison import Change, Verdict
from kdbench.metric import Metric

LEVEL = 1 - stats.CONFIDENCE
_HIGHEST = 700.0
"""Beyond this logarithm a ratio is no number any more."""

_Tested = tuple[float | None, int]
"""A corrected probability, and how many were corrected together."""

_UNTESTED: _Tested = (None, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One metric of a row before it is judged.

    forced: the verdict where the data are not to be judged, for the `reason`; the figures are shown all the
    same. normalised: log effect less that of the yardstick. trial: what a trial of it would need.
    p10: the log effect by the first deciles of the slices, to be held against that by their medians.
    hypothesis: what is tested, where several findings may test the very same; None where only this one does.
    """

    metric: Metric
    margin: float
    floor: float = 0.0
    base: float | None = None
    new: float | None = None
    effect: Effect | None = None
    forced: Verdict | None = None
    reason: str = ""
    normalised: float | None = None
    trial: Trial | None = None
    p10: float | None = None
    hypothesis: Hashable = None


def judge(findings: Sequence[Finding], options: Options | None = None) -> tuple[Change, ...]:
    """Judge all findings of one comparison: what counts as one family, what is only shown as another."""
    options = options or Options()
    corrected: dict[int, _Tested] = {}
    for counting in (True, False):
        own = [k for k, one in enumerate(findings) if options.counts(one.metric.name) is counting]
        corrected.update(_corrected(findings, own))
    return tuple(_change(one, *corrected.get(k, _UNTESTED)) for k, one in enumerate(findings))


def _corrected(findings: Sequence[Finding], indices: Iterable[int]) -> Iterator[tuple[int, _Tested]]:
    """Give the corrected probability of each finding that has one, and how large its family is.

    Findings of one hypothesis are one member.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for k in indices:
        if _probability(findings[k]) is not None:
            one = findings[k]
            members[k if one.hypothesis is None else (one.metric.name, one.hypothesis)].append(k)
    plain = [max(_probability(findings[k]) or 0.0 for k in own) for own in members.values()]
    for own, p_holm in zip(members.values(), stats.holm(plain), strict=True):
        for k in own:
            yield k, (p_holm, len(members))


def _probability(finding: Finding) -> float | None:
    return None if finding.forced or finding.effect is None else finding.effect.p


def _change(finding: Finding, p_holm: float | None, family: int) -> Change:
    effect = finding.effect
    verdict, reason = _verdict(finding, p_holm, family)
    settle_s, command = None, ""
    if verdict == "inconclusive" and effect is not None and finding.trial is not None:
        estimate = effect.estimate if effect.paired else None
        settle_s, command = settling(finding.trial, estimate, effect.block_sd, math.log1p(finding.margin))
    shown = _shown(finding.metric)
    return Change(
        metric=finding.metric.name,
        unit=finding.metric.unit,
        scale=finding.metric.scale,
        base=finding.base,
        new=finding.new,
        effect=shown(effect.estimate) if effect else None,
        low=shown(effect.low) if effect and effect.low is not None else None,
        high=shown(effect.high) if effect and effect.high is not None else None,
        p=None if finding.forced or effect is None else effect.p,
        p_holm=p_holm,
        blocks=effect.blocks if effect else (0, 0),
        paired=bool(effect and effect.paired),
        margin=finding.margin,
        floor=finding.floor,
        detectable=_detectable(finding),
        run_sd=effect.run_sd if effect else None,
        run_sd_from=effect.run_sd_from if effect else "",
        normalised=None if finding.normalised is None else shown(finding.normalised),
        contended=effect.contended if effect else "",
        verdict=verdict,
        reason=reason,
        settle_s=settle_s,
        command=command,
    )


def _shown(metric: Metric) -> Callable[[float], float]:
    return ratio if metric.scale == "ratio" else float


def ratio(log: float) -> float:
    """Give the ratio of a logarithm, within what a number can hold."""
    return math.exp(max(-_HIGHEST, min(_HIGHEST, log)))


def _detectable(finding: Finding) -> float | None:
    if finding.effect is None or finding.effect.detectable is None:
        return None
    half = finding.effect.detectable
    return ratio(half) - 1 if finding.metric.scale == "ratio" else half


def _verdict(finding: Finding, p_holm: float | None, family: int) -> tuple[Verdict, str]:
    effect, metric = finding.effect, finding.metric
    if finding.forced is not None:
        return finding.forced, finding.reason
    if effect is None:
        return "not comparable", finding.reason or "nothing of it was measured on both sides"
    away: Verdict = "worse" if (effect.estimate > 0) == (metric.worse == "up") else "better"
    beyond = _size(finding, effect.estimate) > finding.margin and _beyond_floor(finding)
    if effect.p is None and effect.reason:
        return "inconclusive", effect.reason
    if effect.p is None:
        return (away if beyond else "same"), ""
    if beyond and p_holm is not None and p_holm < LEVEL:
        return away, ""
    if _within(finding, effect):
        return "same", ""
    return "inconclusive", _why(finding, effect, p_holm, family, beyond=beyond)


def _size(finding: Finding, value: float) -> float:
    """Tell how large an effect is, on the scale of the margin."""
    return ratio(abs(value)) - 1 if finding.metric.scale == "ratio" else abs(value)


def _absolute(finding: Finding, value: float) -> float:
    """Tell how large an effect is in the metric's unit; the base counts."""
    if finding.metric.scale != "ratio":
        return abs(value)
    return abs(finding.base or 0.0) * abs(ratio(value) - 1)


def _beyond_floor(finding: Finding) -> bool:
    return finding.effect is not None and _absolute(finding, finding.effect.estimate) > finding.floor


def _within(finding: Finding, effect: Effect) -> bool:
    """Tell whether the whole interval lies within the margin, or within the floor."""
    ends = (effect.low, effect.high)
    if effect.low is None or effect.high is None:
        return False
    by_margin = all(_size(finding, end) <= finding.margin for end in ends if end is not None)
    by_floor = finding.floor > 0 and all(
        _absolute(finding, end) <= finding.floor for end in ends if end is not None
    )
    return by_margin or by_floor


def _why(finding: Finding, effect: Effect, p_holm: float | None, family: int, *, beyond: bool) -> str:
    """Say what keeps a finding from being decided."""
    if p_holm is not None and p_holm < LEVEL:
        large = _size(finding, effect.estimate) > finding.margin
        if large and not beyond:
            return "there is a change, but it is less than could matter in absolute terms"
        return "there is a change, but whether it goes beyond the margin is open"
    if effect.p is not None and effect.p < LEVEL:
        return f"alone it would be a change, but it is one of {family} that were looked at"
    return "the interval holds both no change and one beyond the margin"
