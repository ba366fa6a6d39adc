"""The report of a search: who overtakes whom, a line a pair, in sentences, and figures by batch size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdbench.findings.crossover import Names, sentences, short
from kdbench.records import CellRecord, Crossing, Result
from kdbench.render.figures import aligned, plain, significant, time_unit
from kdbench.render.rows import FASTEST, TIED
from kdbench.spec import Cell, Scenario


def crossover(console: Console, result: Result) -> None:
    """Show what a search found, first in short, then in words, then every batch size that was measured."""
    names = Names.of(result)
    console.print()
    console.print(Text("Who overtakes whom as batches grow", style="bold"))
    console.print(_pairs(result, names))
    console.print()
    for told in sentences(result):
        console.print(Padding(Text(told), (0, 0, 0, 2)))
    for field, cells in _fields(result).items():
        scenario, boundary, network = field
        title = [scenario.capitalize()]
        title += [f"boundary {boundary}"] if boundary != "host" else []
        title += [network] if network != "student" else []
        console.print()
        console.print(_figures(result, names, scenario, cells, " · ".join(title)))
    console.print()
    marks = (
        f"{FASTEST} ahead of all others, {TIED} not to be told from the best, at that batch size by itself;"
    )
    console.print(
        Text(f"{marks} the sentences share their 5 % among all sizes, and so ask for more", style="dim")
    )


def _pairs(result: Result, names: Names) -> Table:
    """Give a line for each pair, with a column for each metric."""
    rows: dict[frozenset[str], dict[str, list[Crossing]]] = defaultdict(lambda: defaultdict(list))
    for one in result.crossings:
        pair = frozenset(names.configuration(cell) for cell in (one.low.first, one.low.second))
        rows[pair][names.metric(one)].append(one)
    metrics = list(dict.fromkeys(names.metric(one) for one in result.crossings))
    drawn = _table("pair", *metrics)
    for own in rows.values():
        first = next(iter(own.values()))[0].low
        told = [names.configuration(cell) for cell in (first.first, first.second)]
        drawn.add_row(
            Text(", ".join(told), style="bold"),
            *(Text(short(own[metric], names) if metric in own else "") for metric in metrics),
        )
    return drawn


Place = tuple[Scenario, str, str]


def _fields(result: Result) -> Mapping[Place, list[tuple[int, CellRecord]]]:
    found: dict[Place, list[tuple[int, CellRecord]]] = defaultdict(list)
    for index, record in enumerate(result.cells):
        cell = record.cell
        if record.summary is not None:
            found[cell.scenario, cell.boundary, cell.network].append((index, record))
    return found


def _figures(
    result: Result, names: Names, scenario: Scenario, cells: Sequence[tuple[int, CellRecord]], title: str
) -> Table:
    """Give a row for each batch size and a column for each configuration: the median, or images a second."""
    values = {index: value for index, record in cells if (value := _value(record, scenario))}
    unit, size = time_unit(list(values.values())) if scenario == "latency" else ("images/s", 1.0)
    marks = _marks(result, scenario)
    batches = sorted({record.cell.batch for _, record in cells})
    columns: dict[tuple[str, ...], dict[int, int]] = defaultdict(dict)
    for index, record in cells:
        columns[_configuration(record.cell)][record.cell.batch] = index
    drawn = _table(
        f"{title}, {unit}", *(names.configuration(next(iter(own.values()))) for own in columns.values())
    )
    texts = []
    for number, own in enumerate(columns.values(), start=1):
        drawn.columns[number].justify = "right"
        found = [own.get(batch, -1) for batch in batches]
        shown = aligned([significant(values[k] / size, 0.01) if k in values else "" for k in found])
        texts.append([f"{marks.get(k, '')} {text}".lstrip() for k, text in zip(found, shown, strict=True)])
    for batch, *row in zip(batches, *texts, strict=True):
        drawn.add_row(Text(f"batch {batch}"), *map(Text, row))
    return drawn


def _configuration(cell: Cell) -> tuple[str, ...]:
    return cell.backend, cell.device, cell.precision, cell.variant


def _value(record: CellRecord, scenario: Scenario) -> float | None:
    summary = record.summary
    if summary is None:
        return None
    return summary.median_ns if scenario == "latency" else summary.throughput_per_s


def _marks(result: Result, scenario: Scenario) -> dict[int, str]:
    marks: dict[int, str] = {}
    for lead in result.leads:
        if lead.scenario == scenario and lead.runner_up is not None:
            tied = lead.verdict == "tie"
            marks[lead.leader] = TIED if tied else FASTEST
            if tied:
                marks[lead.runner_up] = TIED
    return marks


def _table(*headers: str) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        drawn.add_column(Text(plain(header), style="bold"), overflow="fold")
    return drawn
