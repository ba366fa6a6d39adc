"""Turn numbers into text that claims no more than was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdbench.strict import clean

LONGEST = 400
"""Characters of a text from a file that are shown at most; the file has the rest."""

_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))


def plain(text: str) -> str:
    """Make a text from a file or plugin fit for a terminal: one line of printable characters, not endless."""
    shown = clean(text).strip()
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def significant(value: float, relative: float) -> str:
    """Write a positive number down to the first digit that its relative uncertainty leaves in doubt.

    At least two and at most four digits are significant; the rest are zeros.
    """
    if value <= 0:
        return f"{value:g}"
    magnitude = math.floor(math.log10(value))
    doubtful = math.floor(math.log10(value * max(relative, 1e-9)))
    last = min(magnitude - 1, max(magnitude - 3, doubtful))
    return f"{round(value, -last):,.{max(0, -last)}f}"


def time_unit(values_ns: Sequence[float]) -> tuple[str, float]:
    """Choose the unit in which the smallest of these reads well: its name and its nanoseconds."""
    smallest = min((value for value in values_ns if value > 0), default=1e6)
    fitting = [(name, size) for name, size in _TIMES if smallest >= size]
    return fitting[-1] if fitting else _TIMES[0]


def aligned(texts: Sequence[str]) -> list[str]:
    """Pad numbers on the right so that their points stand below each other; other texts stay."""
    numbers = [text for text in texts if text[-1:].isdigit()]
    longest = max((_fraction(text) for text in numbers), default=0)
    return [text + " " * (longest - _fraction(text)) if text in numbers else text for text in texts]


def _fraction(text: str) -> int:
    _, point, digits = text.rpartition(".")
    return len(point) + len(digits) if point else 0


def ratio(value: float, low: float, high: float) -> tuple[str, str, str]:
    """Write a ratio and its interval, with a third decimal where two would not show how far it is from 1."""
    decimals = 3 if high - low < 0.02 or 0 < low - 1 < 0.01 else 2
    return f"{value:.{decimals}f}", f"{low:.{decimals}f}", f"{high:.{decimals}f}"


def percent(share: float) -> str:
    """Write a share as a percentage: one decimal below ten."""
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """Write a time for people: seconds, then minutes, then hours."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str) -> str:
    """Write a number with its noun in the right form: `1 block`, `3 blocks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
