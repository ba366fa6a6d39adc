"""The table of one section: which columns fit, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from kdbench.render.columns import Column
from kdbench.render.rows import Section


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns all tables of a report have, how wide they are, and what was left out.

    room: the width of terminal that would show everything.
    """

    widths: dict[str, int]
    gap: int
    left_out: tuple[str, ...]
    room: int


def lay_out(sections: Sequence[Sequence[Column]], room: int) -> Layout:
    """Choose the columns that fit into `room`, the same for all sections; numbers are never folded.

    The first column folds before any other goes; then go those of the highest rank.
    """
    widths: dict[str, int] = {}
    ranks: dict[str, int] = {}
    for column in (column for section in sections for column in section):
        if not column.empty:
            widths[column.name] = max(widths.get(column.name, 0), column.width)
            ranks[column.name] = min(ranks.get(column.name, column.rank), column.rank)
    first = max(section[0].longest_word for section in sections)
    whole = _total(widths, 2)
    left_out: list[str] = []
    while _total(widths | {"backend": first}, 1) > room and max(ranks[name] for name in widths):
        goes = max(widths, key=lambda name: ranks[name])
        left_out.append(goes)
        del widths[goes]
    gap = 2 if _total(widths | {"backend": first}, 2) <= room else 1
    widths["backend"] = max(first, min(widths["backend"], room - _total(widths | {"backend": 0}, gap)))
    return Layout(widths, gap, tuple(left_out), whole)


def _total(widths: dict[str, int], gap: int) -> int:
    return sum(widths.values()) + gap * (len(widths) - 1)


def table(section: Section, own: Sequence[Column], layout: Layout) -> Table:
    """Draw one section."""
    shown = [column for column in own if column.name in layout.widths]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, layout.gap - 1, 0, 0))
    for column in shown:
        drawn.add_column(
            Text(column.header, style="bold"),
            justify="left" if column.left else "right",
            width=layout.widths[column.name],
            no_wrap=column.name != "backend",
            overflow="fold",
        )
    for number, row in enumerate(section.rows):
        style = "" if row.status == "measured" else "dim"
        drawn.add_row(
            *(Text(column.texts[number], style=column.styles[number]) for column in shown), style=style
        )
    return drawn
