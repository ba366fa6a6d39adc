"""The report of one result: heading, a table for each section with its verdict, and what to doubt."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kdbench.errors import ResultError
from kdbench.records import Result
from kdbench.render import verdict
from kdbench.render.columns import DEVICE_TIME, DISPATCH, START, WITHHELD, Column, columns
from kdbench.render.crossover import crossover
from kdbench.render.figures import count, listed, plain
from kdbench.render.hardware import gpus
from kdbench.render.observed import unobserved, written
from kdbench.render.rows import FASTEST, TIED, Section, sections, threads
from kdbench.render.table import Layout, lay_out, table
from kdbench.results import put

STARTS = {f"cold {START}": "with compiling", f"warm {START}": "without compiling"}

DOUBTS = 6
"""Kinds of doubt that are told; the file has all."""


def result(console: Console, measured: Result, path: Path | None = None) -> None:
    """Show a result: what was measured on what, the tables, who leads, what to doubt, where the file is."""
    _heading(console, measured)
    found = sections(measured)
    made = [columns(section) for section in found]
    if measured.crossings:
        crossover(console, measured)
    elif found:
        layout = lay_out(made, console.width)
        for section, own in zip(found, made, strict=True):
            _section(console, measured, section, own, layout, several=found)
        _legend(console, measured, made, layout)
    else:
        console.print(Text("\nNothing was measured.", style="bold red"))
    _missing(console, [*verdict.missing(measured), *unobserved(measured)])
    _doubts(console, verdict.doubts(measured))
    _footer(console, measured, path)


def export_svg(measured: Result, path: Path, width: int = 120) -> None:
    """Draw the report of a result as a picture, `width` columns wide; raises ResultError."""
    canvas = Console(
        file=StringIO(),
        record=True,
        width=width,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    result(canvas, measured)
    try:
        put(path, canvas.export_svg(title="kdbench run").encode())
    except OSError as error:
        raise ResultError(f"The picture {plain(str(path))} cannot be written: {error.strerror}.") from error


def _heading(console: Console, result: Result) -> None:
    subject, run, cpu = result.subject, result.run, result.environment.get("cpu")
    facts = [f"{subject.parameters:,} parameters"] if subject.parameters is not None else []
    if not subject.trained:
        facts.append("untrained: its labels mean nothing, only flips count")
    elif not subject.labelled:
        facts.append("no labels: nobody knows how often it is right, only flips count")
    if subject.teacher:
        size = "" if subject.teacher_parameters is None else f" ({subject.teacher_parameters:,} parameters)"
        facts.append(f"{'distilled from' if subject.trained else 'beside'} {subject.teacher}{size}")
    console.print(Text.assemble((plain(subject.student), "bold"), "  ", plain(" · ".join(facts))))
    cpu = cpu if isinstance(cpu, dict) else {}
    cores, used = cpu.get("physical") or cpu.get("logical"), threads(result)
    machine = [str(cpu.get("model") or "unknown CPU")]
    machine += [count(cores, "core")] if isinstance(cores, int) else []
    machine += [count(used, "thread")] if used else []
    machine += [f"profile {run.profile.get('name', 'unnamed')}", run.started_utc[:16].replace("T", " ")]
    console.print(Text(plain(" · ".join(machine)), style="dim"))
    for line in gpus(result.environment.get("gpus")):
        console.print(Text(line, style="dim"))
    for one in result.trial.sides if result.trial else ():
        console.print(Text.assemble((one.side.upper(), "bold"), f"  {plain(one.label)}"))
    if run.status == "partial":
        blocks = len({one.block for one in result.slices} | {one.block for one in result.windows})
        text = f"Partial: the run did not end. What follows rests on {count(blocks, 'finished block')}."
        console.print(Text(text, style="bold yellow"))


def _section(
    console: Console,
    result: Result,
    section: Section,
    own: Sequence[Column],
    layout: Layout,
    several: Sequence[Section],
) -> None:
    batch, computing, boundary = section.setting
    title = [f"Batch {batch}"]
    if len({one.setting[1] for one in several}) > 1:
        title.append(f"{computing} threads")
    if boundary != "host":
        title.append(f"boundary {boundary}")
    console.print()
    console.print(Text(" · ".join(title), style="bold"))
    console.print(table(section, own, layout))
    console.print()
    for subject, told in verdict.sentences(section, result):
        console.print(Padding(Text.assemble((f"{subject}:", "bold"), " ", told), (0, 0, 0, 2)))


def _legend(console: Console, result: Result, made: Sequence[Sequence[Column]], layout: Layout) -> None:
    """Explain the marks that occur, and say what was left out."""
    texts = " ".join(text for own in made for column in own for text in column.texts)
    lines = []
    if FASTEST in texts:
        lines.append(f"{FASTEST} fastest with {verdict.allowed(result)}")
    if TIED in texts:
        lines.append(
            f"{TIED} tied for it" if lines else f"{TIED} tied as fastest with {verdict.allowed(result)}"
        )
    if DISPATCH in texts:
        lines.append(f"{DISPATCH} under 100 µs, dispatch-bound: ranks runtimes, not hardware")
    if WITHHELD in texts:
        lines.append(_withheld(result))
    if DEVICE_TIME in layout.widths:
        what = "what the device's own clock tells of a call, without copies; no latency, never ranked"
        lines.append(f"{DEVICE_TIME}: {what}")
    if result.gains:
        lines.append(f"{verdict.TIMES} the teacher's time over its student's, and the 95 % interval of that")
    if shown := tuple(name for name in STARTS if name in layout.widths):
        how = "with compiling and without" if len(shown) > 1 else STARTS[shown[0]]
        lines.append(f"{', '.join(shown)}: time to the first output, {how}")
    if layout.left_out:
        lines.append(f"not shown: {listed(layout.left_out)}; a terminal of {layout.room} columns has room")
    if lines:
        console.print()
    for line in lines:
        console.print(Text(line, style="dim"))


def _withheld(result: Result) -> str:
    held = [
        one
        for record in result.cells
        for one in (record.summary.percentiles if record.summary else ())
        if one.value_ns is None and one.p == 90
    ]
    have = sorted({one.have for one in held})
    if not have:
        return f"{WITHHELD}: a percentile that needs more samples than there are"
    span = f"{have[0]:,}" if len(have) == 1 else f"{have[0]:,} to {have[-1]:,}"
    return f"{WITHHELD}: p90 needs {held[0].need} samples and these rows have {span}"


def _missing(console: Console, items: Sequence[verdict.Missing]) -> None:
    if not items:
        return
    console.print()
    console.print(Text("Not measured", style="bold"))
    for item in items:
        style = "red" if item.trouble else "yellow"
        line = Text.assemble((item.what, "bold"), "  ", (item.status, style), f"  {item.reason}")
        console.print(Padding(line, (0, 0, 0, 2)))
        for label, text in (("fix", item.fix), ("log", item.log)):
            if text:
                console.print(Padding(Text.assemble((f"{label}: ", "dim"), text), (0, 0, 0, 4)))


def _doubts(console: Console, found: Sequence[tuple[str, bool]]) -> None:
    if not found:
        return
    console.print()
    console.print(Text("Doubtful", style="bold"))
    for sentence, bad in found[:DOUBTS]:
        console.print(Padding(Text(sentence, style="red" if bad else ""), (0, 0, 0, 2)))
    if len(found) > DOUBTS:
        rest = f"{count(len(found) - DOUBTS, 'other check')} failed; the file has all."
        console.print(Padding(Text(rest, style="dim"), (0, 0, 0, 2)))


def _footer(console: Console, result: Result, path: Path | None) -> None:
    notes = [*map(plain, result.run.notes), *written(result, path)]
    if result.run.resumed:
        notes.append(f"The run was resumed {count(result.run.resumed, 'time')}.")
    if notes or path is not None:
        console.print()
    for note in notes:
        console.print(Text(note, style="dim"))
    if path is None:
        return
    console.print(Text.assemble("Result: ", (plain(str(path)), "bold")), soft_wrap=True)
    if result.run.status == "partial" and result.trial is None:
        console.print(Text(f"Go on with: kdbench run --resume {plain(str(path))}"), soft_wrap=True)
