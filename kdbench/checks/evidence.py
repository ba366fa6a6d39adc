"""All that speaks about one cell, found once for all cells of a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdbench.ranking import at_settled_depth
from kdbench.records import CellRecord, Lead, Result, Slice, Stretch, Window
from kdbench.spec import Group


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that speaks about one cell."""

    record: CellRecord
    slices: Sequence[Slice]
    windows: Sequence[Window]
    stretches: Sequence[Stretch]
    environment: dict[str, Any]

    def fact(self, *path: str) -> Any:
        """Give a fact of the host, None where it is not known."""
        found: Any = self.environment
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def number(self, *path: str) -> float | None:
        """Give a fact of the host that must be a number, the first where it is a list."""
        found = self.fact(*path)
        found = found[0] if isinstance(found, list) and found else found
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    @property
    def visits(self) -> Sequence[Slice | Window]:
        """Its slices and windows: what a GPU's conditions were read after."""
        return (*self.slices, *self.windows)

    @property
    def gpu(self) -> dict[str, Any]:
        """The facts of the GPU that it ran on, by its UUID; none where it is not known."""
        uuid, known = self.record.placement.uuid if self.record.placement else "", self.fact("gpus")
        found = [one for one in known if isinstance(one, dict)] if uuid and isinstance(known, list) else []
        return next((one for one in found if one.get("uuid") == uuid), {})

    @property
    def levels(self) -> list[tuple[int, float]]:
        """Block and cost, per call or per image, of each slice or window, in the order of time."""
        timed: list[tuple[int, int, float]] = [
            (one.started_ns, one.block, one.median_ns) for one in self.slices
        ]
        timed += [
            (one.started_ns, one.block, one.duration_ns / one.images)
            for one in at_settled_depth(self.windows)
        ]
        return [(block, max(1e-9, cost)) for _, block, cost in sorted(timed)]

    @property
    def threads(self) -> int | None:
        """How many threads the cell computes with, where that is known."""
        placed = self.record.placement.threads if self.record.placement else None
        asked = self.record.cell.threads
        if placed is None and asked == "cores":
            usable = self.fact("cpu", "usable")
            return len(usable) if isinstance(usable, list) and usable else None
        return placed or (asked if isinstance(asked, int) else None)


@dataclass(frozen=True, slots=True)
class Index:
    """What a result holds, by cell: looking at each cell in turn then takes linear time.

    members: the cells of each group. leads: those that a cell is the leader of.
    """

    result: Result
    slices: Mapping[int, Sequence[Slice]]
    windows: Mapping[int, Sequence[Window]]
    stretches: Mapping[int, Sequence[Stretch]]
    members: Mapping[Group, Sequence[int]]
    leads: Mapping[int, Sequence[Lead]]

    def evidence(self, cell: int) -> Evidence:
        """Give all that speaks about one cell."""
        return Evidence(
            self.result.cells[cell],
            self.slices.get(cell, ()),
            self.windows.get(cell, ()),
            self.stretches.get(cell, ()),
            self.result.environment,
        )


def index(result: Result) -> Index:
    """Sort what a result holds by cell."""
    members: defaultdict[Group, list[int]] = defaultdict(list)
    for number, record in enumerate(result.cells):
        members[record.cell.group].append(number)
    leads: defaultdict[int, list[Lead]] = defaultdict(list)
    for lead in result.leads:
        leads[lead.leader].append(lead)
    return Index(
        result,
        _by_cell(result.slices),
        _by_cell(result.windows),
        _by_cell(result.stretches),
        members,
        leads,
    )


def _by_cell(items: Iterable[Any]) -> Mapping[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for item in items:
        found[item.cell].append(item)
    return found
