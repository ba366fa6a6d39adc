"""Arrange the cells of a result as rows: latency and throughput of one configuration side by side."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from kdbench.records import AccuracyRecord, CellRecord, Lead, Result
from kdbench.render.figures import plain
from kdbench.spec import Boundary, Cell, Scenario

Setting = tuple[int, int | str, Boundary]
"""Batch size, threads, boundary: what the rows of one section have in common."""


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration: the indices of its cells, and their records, by scenario."""

    cells: dict[Scenario, tuple[int, CellRecord]]

    @property
    def records(self) -> list[CellRecord]:
        """Its records, latency first."""
        return [self.cells[scenario][1] for scenario in ("latency", "throughput") if scenario in self.cells]

    @property
    def cell(self) -> Cell:
        """The key of any of its cells; only scenario and depth differ between them."""
        return self.records[0].cell

    @property
    def accuracy(self) -> AccuracyRecord | None:
        """The accuracy of its latency cell, else of its throughput cell."""
        return next((one.accuracy for one in self.records if one.accuracy), None)

    @property
    def cost(self) -> tuple[bool, float, float]:
        """Sort key: students first, by latency, then by throughput; what was not measured comes last."""
        summaries = [one.summary for one in self.records if one.summary]
        latency = next((one.median_ns for one in summaries if one.median_ns), math.inf)
        rate = next((one.throughput_per_s for one in summaries if one.throughput_per_s), 0.0)
        return self.cell.network == "teacher", latency, -rate

    @property
    def status(self) -> str:
        """Its status in a word: the first that is not `measured`, or that it may not be ranked."""
        for record in self.records:
            if record.status != "measured":
                return record.status
        return NOT_RANKED if any(one.eligible is False for one in self.records) else "measured"


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one batch size, thread count and boundary, fastest first, and who leads them.

    Rows of the teacher stand below those of the student.
    """

    setting: Setting
    rows: tuple[Row, ...]
    leads: dict[Scenario, Lead]

    def mark(self, index: int, scenario: Scenario) -> str:
        """Give the mark of a cell: the fastest, tied for it, or neither."""
        lead = self.leads.get(scenario)
        if lead is None:
            return ""
        if lead.verdict == "tie":
            return TIED if index in (lead.leader, lead.runner_up) else ""
        return FASTEST if index == lead.leader else ""


FASTEST, TIED = "▸", "≈"
NOT_RANKED = "not ranked"


def sections(result: Result) -> tuple[Section, ...]:
    """Arrange every cell that has figures; those without are told in words."""
    rows: dict[Setting, dict[tuple[str, ...], dict[Scenario, tuple[int, CellRecord]]]]
    rows = defaultdict(lambda: defaultdict(dict))
    for index, record in enumerate(result.cells):
        cell = record.cell
        if record.summary is not None:
            own = (cell.side, cell.network, cell.backend, cell.device, cell.precision, cell.variant)
            rows[_setting(cell)][own][cell.scenario] = (index, record)
    leads: dict[Setting, dict[Scenario, Lead]] = defaultdict(dict)
    for lead in result.leads:
        leads[_setting(result.cells[lead.leader].cell)][lead.scenario] = lead
    return tuple(
        Section(setting, tuple(sorted(map(Row, found.values()), key=lambda row: row.cost)), leads[setting])
        for setting, found in sorted(rows.items(), key=lambda item: (str(item[0][1:]), item[0][0]))
    )


def _setting(cell: Cell) -> Setting:
    return cell.batch, cell.threads, cell.boundary


def name(cell: Cell, result: Result) -> str:
    """Name a configuration in a sentence, by no more than tells it from the others."""
    several = len({one.cell.device for one in result.cells}) > 1
    parts = [cell.backend, cell.device if several else "", cell.precision, cell.variant]
    return plain(prefix(cell) + " ".join(part for part in parts if part))


def prefix(cell: Cell) -> str:
    """Give what stands before the name of a row: its side in a trial, and whether it is the teacher's."""
    parts = [cell.side.upper(), "teacher" if cell.network == "teacher" else ""]
    return "".join(f"{part} · " for part in parts if part)


def threads(result: Result) -> int | None:
    """Tell how many threads the cells computed with, where all agree."""
    placed = {one.placement.threads for one in result.cells if one.placement} - {None}
    asked = {one.cell.threads for one in result.cells}
    found = placed or asked
    only = next(iter(found)) if len(found) == 1 else None
    return only if isinstance(only, int) else None
