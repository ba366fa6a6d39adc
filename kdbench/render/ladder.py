"""The ladder of a distillation as a table, the sizes below it, and what they show in words."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdbench.account import DISTILLED, account, difference, sizes
from kdbench.card import Card, LadderRow
from kdbench.render.figures import aligned, plain

_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def ladder(console: Console, card: Card) -> None:
    """Print the ladder that a card holds, if it holds one."""
    if not card.ladder:
        return
    console.print(_table(card.ladder))
    console.print()
    for line in _sizes(card):
        console.print(Text(line, style="dim"))
    told = account(card)
    if told:
        console.print()
    for sentence in told:
        # The first column stands back, so that each sentence is seen to begin.
        console.print(Padding(Text(plain(sentence)), (0, 0, 0, 2)))


def _table(rows: tuple[LadderRow, ...]) -> Table:
    distilled = next((row for row in rows if row.row == DISTILLED), None)
    several = len(rows[0].seeds) > 1
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column(Text("network", style="bold"), overflow="fold")
    drawn.add_column(Text("tested on", style="bold"), no_wrap=True)
    for name in ("labels", "accuracy %", "distilled against it"):
        drawn.add_column(Text(name, style="bold"), justify="right", no_wrap=True)
    accuracies = aligned([f"{100 * row.mean:.1f}" for row in rows])
    for row, accuracy in zip(rows, accuracies, strict=True):
        spread = f" ± {100 * (row.std or 0.0):.1f}" if several else ""
        drawn.add_row(
            Text(plain(row.title)),
            Text(plain(row.domain)),
            Text(f"{row.labels:,}"),
            Text(accuracy + spread),
            Text(_against(distilled, row)),
            style="bold green" if row is distilled else "",
        )
    return drawn


def _against(distilled: LadderRow | None, row: LadderRow) -> str:
    """Write the paired difference of the distilled student and another row of its domain."""
    if distilled is None or row is distilled or row.domain != distilled.domain:
        return ""
    if not set(row.seeds) & set(distilled.seeds):
        return ""
    return str(difference(distilled, row))


def _sizes(card: Card) -> list[str]:
    lines = []
    for name, parameters, macs, size in sizes(card):
        facts = [
            f"{parameters:,} parameters" if parameters is not None else "",
            f"{_scaled(macs)} multiply-accumulates an image" if macs is not None else "",
            f"{_scaled(size)}B of weights" if size is not None else "",
        ]
        lines.append(f"{name}: {', '.join(fact for fact in facts if fact) or 'size unknown'}")
    found = sizes(card)
    if len(found) == 2:
        ratios = [
            f"{teacher / student:.1f} {what}"
            for teacher, student, what in zip(
                found[0][1:], found[1][1:], ("in parameters", "in operations", "in bytes"), strict=True
            )
            if teacher and student
        ]
        if ratios:
            lines.append(f"teacher over student: {', '.join(ratios)}")
    return lines


def _scaled(number: int) -> str:
    for scale, prefix in _SCALES:
        if number >= scale:
            return f"{number / scale:.3g} {prefix}"
    return f"{number} "
