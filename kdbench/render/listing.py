"""Lists beside results: which backends there are, and what a run would measure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdbench.estimate import BOUND
from kdbench.records import BackendRecord
from kdbench.render.figures import count, duration, listed, plain
from kdbench.render.rows import prefix
from kdbench.render.verdict import lacking
from kdbench.spec import Cell

UNTRIED = ("not tried", "dim")
WORKS = {"available": ("yes", "green"), "unavailable": ("no", "yellow"), "failed": ("broken", "red")}


class Planned(Protocol):
    """What `plan` shows of a plan: its cells, its blocks, and the seconds that it should take."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Everything that would be measured."""
        ...

    @property
    def blocks(self) -> int:
        """How many blocks a comparison of latencies would rest on."""
        ...

    @property
    def seconds(self) -> float:
        """Estimate of the whole run."""
        ...

    @property
    def stages(self) -> tuple[tuple[str, float], ...]:
        """Each stage with the seconds that it should take."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What else the user should know."""
        ...


def backends(
    console: Console, records: Sequence[BackendRecord], observers: Sequence[tuple[str, str]] = ()
) -> None:
    """List backends: whether each works here, its version and devices; then why the others do not.

    observers: name and distribution of each that is installed, told at the end.
    """
    if not records:
        console.print(Text("No backend is installed."))
        return
    listing = _table("backend", "works here", "runtime", "version", "devices")
    for record in records:
        word, style = WORKS[record.status]
        if record.status == "available" and not record.devices:
            word, style = UNTRIED
        listing.add_row(
            Text(plain(record.name), style="bold"),
            Text(word, style=style),
            Text(plain(record.title)),
            Text(plain(record.runtime_version)),
            Text("\n".join(_device(record, *device) for device in record.devices)),
        )
    console.print(listing)
    for record in records:
        if record.status != "available":
            _why(console, record)
    if observers:
        told = listed([f"{plain(name)} ({plain(where)})" for name, where in observers])
        console.print(Text(f"\nObservers, for kdbench run --observe: {told}"))


def _device(record: BackendRecord, device: str, name: str) -> str:
    return plain("  ".join(part for part in (device, name, record.uuids.get(device, "")) if part))


def _why(console: Console, record: BackendRecord) -> None:
    item = lacking(record)
    console.print()
    console.print(Text.assemble((item.what, "bold"), f"  {item.reason or 'No reason is known.'}"))
    for label, text in (("fix", item.fix), ("log", item.log)):
        if text:
            console.print(Padding(Text.assemble((f"{label}: ", "dim"), text), (0, 0, 0, 2)))


def plan(console: Console, plan: Planned) -> None:
    """Show what a run would measure, in how many blocks, and how long each stage should take."""
    rows: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell in plan.cells:
        rows[cell.side, cell.network, cell.backend, cell.device, cell.precision, cell.variant].append(cell)
    away = any(cell.boundary != "host" for cell in plan.cells)
    listing = _table("backend", "device", "precision", "batch", "scenario", *["boundary"] * away)
    for (_, _, backend, device, precision, variant), cells in rows.items():
        sizes = sorted({cell.batch for cell in cells})
        listing.add_row(
            Text.assemble(
                prefix(cells[0]), (plain(backend), "bold"), f" {plain(variant)}" if variant else ""
            ),
            Text(plain(device)),
            Text(precision),
            Text(", ".join(map(str, sizes))),
            Text(listed(list(dict.fromkeys(cell.scenario for cell in cells)))),
            *[Text(cells[0].boundary)] * away,
        )
    console.print(listing)
    console.print()
    amount = f"{count(len(plan.cells), 'cell')} in {count(plan.blocks, 'block')} of fresh processes"
    bounded = any(name.endswith(BOUND) for name, _ in plan.stages)
    about = f"{BOUND if bounded else 'about'} {duration(plan.seconds)}"
    console.print(Text.assemble((f"{amount}, {about}", "bold")))
    width = max((len(name) for name, _ in plan.stages), default=0)
    for name, seconds in plan.stages:
        console.print(Padding(Text(f"{plain(name):<{width}}  {duration(seconds):>12}"), (0, 0, 0, 2)))
    for note in plan.notes:
        console.print(Text(plain(note), style="yellow"))


def _table(*names: str) -> Table:
    listing = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        listing.add_column(Text(name, style="bold"), overflow="fold")
    return listing
