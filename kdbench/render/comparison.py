"""The report of a comparison: what was compared, a table of changes, what they mean, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdbench.comparison import Change, Comparison, Report, Verdict
from kdbench.figures import aligned, plain
from kdbench.findings import effect
from kdbench.findings.naming import Line, Names, Setting, described, sections, side, threads
from kdbench.findings.outcome import conclusion, judged, overall, refused
from kdbench.findings.sentences import also_same, findings, folded
from kdbench.findings.standing import JUST, real, word
from kdbench.metric import STATUS
from kdbench.render.columns import Column
from kdbench.render.table import Layout, lay_out

STYLES: dict[Verdict, str] = {
    "worse": "red",
    "better": "green",
    "same": "dim",
    "inconclusive": "yellow",
    "not comparable": "magenta",
}

INTERVAL, LEAST, NORMALISED = "interval", "least", "steadied"
FULL = 120
"""A longer table shows news only: what is the same is counted."""

_NO_TABLE = Layout({}, 1, (), 0)


def comparison(console: Console, report: Report) -> None:
    """Show each comparison of a report, one after the other, and last what the exit code says."""
    for number, one in enumerate(report.comparisons):
        if number:
            console.print()
        _comparison(console, one, report)
        if len(report.comparisons) > 1:
            console.print(Text(conclusion(one, report), style=STYLES[one.verdict]))
    verdict, sentence = overall(report)
    console.print()
    neutral = verdict == "same" or any(one.across for one in report.comparisons)
    console.print(Text(sentence, style="bold" if neutral else f"bold {STYLES[verdict]}"))


def _comparison(console: Console, comparison: Comparison, report: Report) -> None:
    _heading(console, comparison)
    names = Names.of(comparison)
    found = {} if refused(comparison) else sections(comparison)
    kept = _kept(found, comparison, report)
    made = {setting: _columns(lines, comparison, report, names) for setting, lines in kept.items() if lines}
    layout = lay_out(list(made.values()), console.width) if made else _NO_TABLE
    for setting, own in made.items():
        console.print()
        console.print(Text(_title(setting, comparison, names), style="bold"))
        console.print(_table(own, layout))
    if found:
        words = " ".join(text for own in made.values() for text in own[-1].texts)
        _below(console, _sums(found, kept, report), layout, words)
    _findings(console, comparison, report)


def _heading(console: Console, comparison: Comparison) -> None:
    """Say which student, which two sides, what forbids comparing them, and what is not alike."""
    base, new = comparison.base, comparison.new
    students = list(dict.fromkeys(plain(one.student) for one in (base, new) if one.student))
    console.print(Text(" and ".join(students) or "unknown student", style="bold"))
    if comparison.across:
        console.print(Text(f"across {plain(comparison.across)} · {described(base)}", style="dim"))
    else:
        width = max(len(side(base)), len(side(new)))
        for one in (base, new):
            console.print(Text.assemble((f"{side(one):<{width}}", "bold"), "  ", (described(one), "dim")))
        if base.side and base.file:
            console.print(Text(plain(f"{'':<{width}}  {base.file}"), style="dim"))
    if comparison.mismatches:
        console.print()
        style = "yellow" if comparison.allowed else "bold red"
        said = "Compared all the same" if comparison.allowed else "Not comparable"
        console.print(Text(said, style=style))
        for why in comparison.mismatches:
            console.print(Padding(Text(plain(why), style=style.removeprefix("bold ")), (0, 0, 0, 2)))
    if comparison.differences:
        console.print()
        console.print(Text("Different on the two sides", style="bold"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        for fact in comparison.differences:
            values = Text(f"{plain(fact.base) or '-'} → {plain(fact.new) or '-'}", overflow="fold")
            grid.add_row(Text(plain(fact.what)), values)
        console.print(Padding(grid, (0, 0, 0, 2)))


def _title(setting: Setting, comparison: Comparison, names: Names) -> str:
    """Name what all lines of a table have in common, and what all cells do."""
    cell = comparison.rows[0].new
    batch, _, boundary = setting
    told = [f"Batch {batch}"]
    told += [plain(cell.device)] if "device" not in names.parts else []
    told += [cell.precision] if "precision" not in names.parts else []
    told.append(threads(setting[1]))
    return " · ".join([*told, f"boundary {boundary}"] if boundary != "host" else told)


def _kept(
    found: dict[Setting, tuple[Line, ...]], comparison: Comparison, report: Report
) -> dict[Setting, tuple[Line, ...]]:
    """Leave out what is told in a sentence below; of a long report, all that is no news."""
    kept = {setting: tuple(filter(_tabled, lines)) for setting, lines in found.items()}
    if sum(map(len, kept.values())) <= FULL:
        return kept

    def news(change: Change) -> bool:
        still = change.verdict == "same" and not (comparison.across and real(change))
        return judged(change, report) and not still

    return {setting: tuple(one for one in lines if news(one.change)) for setting, lines in kept.items()}


def _tabled(line: Line) -> bool:
    """Tell whether a line may stand in a table: one without any figure does where its row was lost or won."""
    change = line.change
    lost = change.metric == STATUS and change.verdict != "not comparable"
    return not folded(line) and (lost or change.base is not None or change.new is not None)


def _columns(
    lines: Sequence[Line], comparison: Comparison, report: Report, cells: Names
) -> tuple[Column, ...]:
    """Make the columns of one table; the name of a cell stands on its first line only."""
    names = [
        "" if number and lines[number - 1].name == line.name else line.name
        for number, line in enumerate(lines)
    ]
    told = [effect.values(line.change) for line in lines]
    metrics = [effect.with_unit(line.label, told[n][0]) for n, line in enumerate(lines)]
    changes = [line.change for line in lines]
    bare = tuple("" if judged(change, report) else "dim" for change in changes)
    colours = tuple(_colour(change, comparison, report) for change in changes)
    words = [word(change, comparison, judged=judged(change, report)) for change in changes]
    normalised = ["" if one.normalised is None else effect.size(one, one.normalised) for one in changes]
    blocks = [_blocks(one.blocks, one.paired) if one.scale == "ratio" else "" for one in changes]
    headers = ("leader's", "own") if comparison.across else (side(comparison.base), side(comparison.new))
    leaders = [cells.configuration(one.row.base) for one in lines] if comparison.across else []
    return (
        Column("backend", "", tuple(names), ("bold",) * len(lines), 0, left=True),
        Column("metric", "", tuple(metrics), bare, 0, left=True),
        Column("leader", "", tuple(leaders), bare, 0, left=True),
        Column(headers[0] or "base", "", tuple(one[1] for one in told), bare, 0),
        Column(headers[1] or "new", "", tuple(one[2] for one in told), bare, 0),
        Column("change", "", tuple(aligned(list(map(effect.size, changes)))), colours, 0),
        Column(INTERVAL, "", tuple(map(effect.interval, changes)), bare, 5),
        Column(LEAST, "", tuple(map(effect.visible, changes)), bare, 4),
        Column(NORMALISED, "", tuple(normalised), ("dim",) * len(lines), 20),
        Column("blocks", "", tuple(blocks), ("dim",) * len(lines), 30),
        Column("verdict", "", tuple(words), colours, 0, left=True),
    )


def _colour(change: Change, comparison: Comparison, report: Report) -> str:
    """Colour a verdict that counts; a real place within one file is neither good nor bad."""
    if comparison.across and real(change):
        return ""
    return STYLES[change.verdict] if judged(change, report) else "dim"


def _blocks(blocks: tuple[int, int], paired: bool) -> str:
    if not any(blocks):
        return ""
    return str(blocks[1]) if paired else f"{blocks[0]}, {blocks[1]}"


def _table(own: Sequence[Column], layout: Layout) -> Table:
    shown = [column for column in own if column.name in layout.widths]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, layout.gap - 1, 0, 0))
    for column in shown:
        drawn.add_column(
            Text(column.name, style="bold"),
            justify="left" if column.left else "right",
            width=layout.widths[column.name],
            no_wrap=column.name != "backend",
            overflow="fold",
        )
    for number in range(len(own[0].texts)):
        drawn.add_row(*(Text(column.texts[number], style=column.styles[number]) for column in shown))
    return drawn


def _sums(
    found: dict[Setting, tuple[Line, ...]], kept: dict[Setting, tuple[Line, ...]], report: Report
) -> list[str]:
    """Say what stands in no table, and what in one counts for nothing."""
    lines = [line for own in found.values() for line in own]
    shown = [line for own in kept.values() for line in own]
    same = also_same([one for one in lines if folded(one)], len({line.name for line in lines}))
    told = [same] if same else []
    beside = [one.label.partition(",")[0] for one in shown if not judged(one.change, report)]
    if beside:
        told.append(f"Shown beside, counted only where asked for: {', '.join(dict.fromkeys(beside))}.")
    hidden = sum(map(_tabled, lines)) - len(shown)
    if hidden:
        told.append(f"Not shown: {hidden:,} figures that are no news; --format csv has all.")
    return told


def _below(console: Console, sums: Sequence[str], layout: Layout, words: str) -> None:
    """Say what stands in no table, and what the columns mean."""
    told = list(sums)
    if JUST in words:
        told.append(f"{JUST.strip()}: a real difference, but not beyond the margin")
    if INTERVAL in layout.widths:
        told.append(f"{INTERVAL}: 95 %, from one estimate per block")
    if LEAST in layout.widths:
        told.append(f"{LEAST}: the smallest change that these data could have shown")
    if NORMALISED in layout.widths:
        told.append(f"{NORMALISED}: divided by how fast a fixed yardstick ran on each side; never judged")
    if layout.left_out:
        room = f"a terminal of {layout.room} columns has room"
        told.append(f"not shown: {', '.join(layout.left_out)}; {room}")
    if told:
        console.print()
    for text in told:
        console.print(Text(text, style="dim"))


def _findings(console: Console, comparison: Comparison, report: Report) -> None:
    """Say what the figures mean; a command stands on a line of its own and is never broken."""
    found = list(findings(comparison, report))
    if found or comparison.notes:
        console.print()
    for one in found:
        console.print(Padding(Text.assemble((f"{one.subject}: ", "bold"), one.text), (0, 0, 0, 2)))
        if one.command:
            console.print(Text(f"    {one.command}", style="cyan"), soft_wrap=True)
    for note in comparison.notes:
        console.print(Padding(Text(plain(note), style="dim"), (0, 0, 0, 2)))
