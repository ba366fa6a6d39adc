"""Tables as plain text and as Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.evidence.chance import Share
from kdbench.stats import Interval

BOUNDS = (
    "In brackets Clopper and Pearson's bounds, each one-sided at 95 %: both at once hold in 90 % of cases."
)

WIDTH = 110
"""Of prose, in characters."""


@dataclass(slots=True)
class Table:
    """Rows of text under a head, with what has to be said of them."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def text(self) -> str:
        """Give it in columns."""
        every = [list(self.head), *map(list, self.rows)]
        widths = [max(len(row[k]) for row in every) for k in range(len(self.head))]
        told = ["  ".join(one.ljust(width) for one, width in zip(row, widths, strict=True)) for row in every]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join(
            [self.title, "", told[0].rstrip(), rule, *(row.rstrip() for row in told[1:]), *self._told()]
        )

    def markdown(self) -> str:
        """Give it as a pipe table."""
        rows = [[one.replace("|", "\\|") for one in row] for row in (self.head, *self.rows)]
        told = [" | ".join(row).join(("| ", " |")) for row in rows]
        rule = "|".join("---" for _ in self.head).join("||")
        return "\n".join([f"**{self.title}**", "", told[0], rule, *told[1:], *self._told()])

    def _told(self) -> list[str]:
        return ["", *textwrap.wrap(self.note, WIDTH, break_on_hyphens=False)] if self.note else []


def percent(share: float, digits: int = 1) -> str:
    """Write a share in percent."""
    return f"{100 * share:.{digits}f} %"


def signed(log_ratio: float) -> str:
    """Write a log ratio, times 100 and with its sign: about percent."""
    return f"{100 * log_ratio:+.2f}"


def interval(found: Interval) -> str:
    """Write the interval of a log ratio, times 100; empty where it is infinite."""
    return f"{signed(found.estimate)} ± {100 * found.half:.2f}" if math.isfinite(found.half) else ""


def bounded(share: Share) -> str:
    """Write how many of how many, with the rate and its bounds; empty of none."""
    if not share.trials:
        return ""
    low, high = share.bounds
    return f"{share.count} of {share.trials}: {percent(share.value)} ({100 * low:.1f} to {percent(high)})"
