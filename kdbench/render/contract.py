"""What `kdbench plugin check` shows: each check with what became of it, then the summary to paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdbench.certificate import Certificate
from kdbench.figures import count, duration, plain

if TYPE_CHECKING:
    from kdbench.discovery import Source
    from kdbench.testing.finding import Check, Finding

STYLES: Mapping[str, str] = {"kept": "green", "broken": "bold red", "skipped": "dim"}
MARGIN = 2
VERDICT = max(map(len, STYLES))


def heading(console: Console, source: Source, paths: Sequence[str]) -> None:
    """Say whose contract is checked, and where its code is from."""
    origin = f"as installed by {source}" if not paths else f"in {', '.join(paths)}"
    line = Text.assemble("Contract of ", (plain(source.name), "bold"), (f", {plain(origin)}", "dim"))
    console.print(line, soft_wrap=True)
    console.print()


def finding(console: Console, one: Finding, width: int, *, debug: bool) -> None:
    """Show what a check promised, and of a broken promise all that helps to mend it; skipped ones come later.

    width: of the longest id. debug: show what the plugin raised or printed, too.
    """
    if one.verdict == "skipped":
        return
    row = _row()
    row.columns[1].min_width = width
    name = Text(plain(one.check), style="bold" if one.verdict == "broken" else "")
    row.add_row(_verdict(one.verdict), name, Text(plain(one.promised)))
    console.print(Padding(row, (0, 0, 0, MARGIN)))
    if one.verdict == "broken":
        _broken(console, one, debug=debug)


def skipped(console: Console, findings: Sequence[Finding]) -> None:
    """List the checks that were skipped, by the reason."""
    reasons: dict[str, list[str]] = {}
    for one in findings:
        if one.verdict == "skipped":
            reasons.setdefault(plain(one.seen), []).append(plain(one.check))
    for reason, names in reasons.items():
        row = _row()
        row.columns[1].no_wrap = False
        row.add_row(_verdict("skipped"), Text.assemble(reason, (f"\n{', '.join(names)}", "dim")))
        console.print(Padding(row, (0, 0, 0, MARGIN)))


def summary(console: Console, certificate: Certificate, seconds: float, *, debug: bool) -> None:
    """Say how many promises were kept, and give the line that can be pasted, as text and as Markdown."""
    skipped(console, certificate.findings)
    broken = certificate.count("broken")
    console.print()
    total = f"{count(len(certificate.findings), 'check')} in {duration(seconds)}: "
    style = "red" if broken else "yellow" if certificate.lacking else "green"
    lacking = " It cannot run here." if certificate.lacking else ""
    console.print(Text.assemble(total, (f"{certificate.counted}.{lacking}", style)))
    if not debug and any(one.verdict == "broken" and one.trace for one in certificate.findings):
        console.print(Text("Again with --debug, it shows what was raised and printed.", style="dim"))
    console.print()
    console.print(Text("To paste, as text or as Markdown:", style="dim"))
    for line in (certificate.text, certificate.markdown):
        console.print(Text(plain(line)), soft_wrap=True)
    console.print()


def checks(console: Console, listed: Sequence[Check]) -> None:
    """List the checks: the name that --only takes, and the promise."""
    table = _grid()
    for one in listed:
        table.add_row(Text(one.id, style="bold"), Text(one.promise))
    console.print(table)


def _broken(console: Console, one: Finding, *, debug: bool) -> None:
    indent = MARGIN + VERDICT + 2
    facts = _grid()
    facts.columns[0].style = "dim"
    facts.add_row("seen", Text(plain(one.seen)))
    for place in one.look:
        facts.add_row("look at", Text(plain(place)))
    console.print(Padding(facts, (0, 0, 0, indent)))
    for line in one.trace.split("\n") if debug and one.trace else ():
        depth = indent + len(line) - len(line.lstrip())
        console.print(Text(f"{' ' * depth}{plain(line)}", style="dim"), soft_wrap=True)


def _row() -> Table:
    row = _grid()
    row.columns[0].min_width = VERDICT
    return row


def _verdict(verdict: str) -> Text:
    return Text(verdict, style=STYLES.get(verdict, ""))


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold")
    return grid
