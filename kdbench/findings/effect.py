"""One change as text: what it is called, what it was and is, by how much, and how surely.

Shared by all that people read, on a terminal or in a pull request. Every text is short, one line, and claims
no more digits than the interval leaves.
"""

from __future__ import annotations

import math

from kdbench.comparison import Change
from kdbench.figures import percent, plain, significant, time_unit
from kdbench.metric import METRICS

LABELS = {
    "latency.p50": "median",
    "throughput": "images",
    "accuracy.top1": "accuracy",
    "artifact.bytes": "artifact",
    "memory.peak": "memory",
    "load.time": "load",
    "compile.time": "compile",
}
"""What a table calls a metric; the others go by the last part of their name."""

TIMES = "\N{MULTIPLICATION SIGN}"
_FOLD = 3.0
"""From here on a ratio is written as a multiple: 14 times is read at once, +1300 % is not."""

_ENDLESS, _NOTHING = 1e6, 1e-6
"""Beyond these a ratio is no measurement any more, and its digits say nothing."""

_MOST_DECIMALS, _LARGEST = 9, 600.0

_SIZES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9))
_UNITS = {"per_s": "/s", "images": "", "%": "%"}


def label(metric: str) -> str:
    """Give the word that a table has for a metric."""
    return plain(LABELS.get(metric) or metric.rpartition(".")[2] or metric)


def phrase(metric: str) -> str:
    """Give the words that a sentence has for a metric."""
    known = METRICS.get(metric)
    return known.title if known else plain(metric)


def timed(change: Change) -> bool:
    """Tell whether it is about speed: these come first, and stay in the table even where nothing changed."""
    return fast(change.metric)


def fast(metric: str) -> bool:
    """Tell whether a metric is about speed."""
    return metric.partition(".")[0] in ("latency", "throughput")


def with_unit(value: str, unit: str) -> str:
    """Put a unit after a number or a name: a blank between, but for a rate."""
    return f"{value}{unit}" if unit.startswith("/") else f"{value} {unit}".strip()


def values(change: Change) -> tuple[str, str, str]:
    """Give the unit, and base and new in it with as many digits as show the change; empty for no value."""
    found = [value for value in (change.base, change.new) if value is not None]
    unit, size = change.unit, 1.0
    if unit in ("ns", "s"):
        scale = 1e9 if unit == "s" else 1.0
        unit, nanoseconds = time_unit([value * scale for value in found])
        size = nanoseconds / scale
    elif unit == "bytes":
        smallest = min((value for value in found if value > 0), default=1.0)
        unit, size = next(pair for pair in reversed(_SIZES) if smallest >= pair[1] or pair[1] == 1.0)
    decimals = min(_MOST_DECIMALS, _places([value / size for value in found], change))
    base, new = (
        "" if value is None else _number(value / size, decimals) for value in (change.base, change.new)
    )
    return _UNITS.get(unit, unit), base, new


def _number(value: float, decimals: int) -> str:
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    return f"{round(value, decimals):,.{max(0, decimals)}f}"


def _places(values: list[float], change: Change) -> int:
    """Count the decimals of base and new: three digits, four where they are within a percent.

    Of an accuracy, as many as show one image; of whole numbers none.
    """
    if change.unit == "%":
        return 1 if abs(change.effect or 1.0) >= 0.5 else 2
    largest = max(map(abs, values), default=0.0)
    if change.unit in ("images", "") or not largest:
        return 0
    digits = 4 if abs((change.effect or math.inf) - 1) < 0.01 else 3
    smallest = min(map(abs, values)) or largest
    # Far apart, the smaller one would lose its digits.
    known = largest if largest < _FOLD * smallest else smallest
    return digits - 1 - math.floor(math.log10(known))


def size(change: Change, effect: float | None = None) -> str:
    """Write a change: `+5.1 %`, `-0.22 pp`, `+3`, or as a multiple; empty where none is known.

    A ratio whose digits would say nothing, as against next to no time, is told by the bound that it passes.

    effect: another one on the same scale, in the place of the change's own.
    """
    effect = change.effect if effect is None else effect
    if effect is None:
        return ""
    if change.scale == "ratio" and effect > _ENDLESS:
        return "over 1,000,000 times"
    if change.scale == "ratio" and effect < _NOTHING:
        return "under a millionth"
    if change.scale == "ratio" and effect >= _FOLD:
        return _times(effect)
    return f"{_signed(effect, change)}{unit(change)}"


def _times(ratio: float) -> str:
    """Write a ratio as a multiple; far away, by the bound that it passes."""
    if ratio > _ENDLESS:
        return f">{TIMES}1,000,000"
    return f"<{TIMES}0.000001" if ratio < _NOTHING else f"{TIMES}{significant(ratio, 0.01)}"


def unit(change: Change) -> str:
    """Give the unit of a change, with the blank before it."""
    return {"ratio": " %", "points": " pp", "count": ""}[change.scale]


def interval(change: Change) -> str:
    """Write its 95 % interval in the unit of the change: `[+4.2, +6.0]`; empty where there is none."""
    if change.low is None or change.high is None:
        return ""
    multiple = (change.effect or 1.0) >= _FOLD or change.high > _ENDLESS
    if change.scale == "ratio" and multiple:
        return f"[{_times(change.low)}, {_times(change.high)}]"
    return f"[{_signed(change.low, change)}, {_signed(change.high, change)}]"


def span(change: Change) -> str:
    """Write the interval as a sentence has it: `+4.2 to +6.0 %`; empty where there is none."""
    text = interval(change).strip("[]").replace(", ", " to ")
    return text and text + ("" if TIMES in text else unit(change))


def _signed(effect: float, change: Change) -> str:
    if change.scale == "count":
        return f"{effect:+,.0f}"
    share = 100 * (effect - 1) if change.scale == "ratio" else effect
    written = f"{share:+,.{_decimals(share, change)}f}"
    return written if written.strip("+-0.,") else written.lstrip("+-")


def _decimals(share: float, change: Change) -> int:
    """Count the decimals that say something: two where the interval is narrow, none where it is far away."""
    if change.scale == "points":
        return 1 if abs(share) >= 10 else 2
    if change.low is not None and change.high is not None and change.high - change.low < 0.004:
        return 2
    return 1 if abs(share) < 99.95 else 0


def visible(change: Change) -> str:
    """Write the smallest change that these data could have shown: `±0.9 %`; empty where nobody knows."""
    seen = change.detectable
    if seen is None:
        return ""
    if change.scale == "ratio" and seen > _ENDLESS:
        return f">{TIMES}1,000,000"
    if change.scale == "ratio":
        return f"±{percent(seen)}" if seen < 9.995 else f"{TIMES}{1 + seen:,.0f}"
    return f"±{seen:.2f} pp" if change.scale == "points" else f"±{seen:,.0f}"


def stray(run_sd: float) -> str:
    """Write a standard deviation in log terms as a share: `6.7 %`."""
    return percent(math.expm1(run_sd)) if run_sd < math.log(_ENDLESS) else "over 1,000,000 times"


def mean(effect: float) -> str:
    """Write a geometric mean of ratios as a change."""
    if not _NOTHING <= effect <= _ENDLESS:
        return "over 1,000,000 times" if effect > 1 else "under a millionth"
    if effect >= _FOLD:
        return _times(effect)
    written = f"{100 * (effect - 1):+.1f}"
    return f"{written if written.strip('+-0.') else written[1:]} %"


def margin(change: Change) -> str:
    """Write the margin that it was judged against."""
    if change.scale == "ratio":
        return f"{100 * change.margin:g} %"
    return f"{change.margin:g} points" if change.scale == "points" else f"{change.margin:,.0f}"


def weight(change: Change) -> float:
    """Tell how many margins large a change is: 0 where its size is not known."""
    if change.effect is None:
        return 0.0
    if change.scale != "ratio":
        size = abs(change.effect)
    else:
        size = math.expm1(min(_LARGEST, abs(math.log(max(change.effect, 1e-300)))))
    return size / max(change.margin, 1e-9)
