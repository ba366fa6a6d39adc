"""Name the sides and cells of a comparison by no more than tells them apart, and put its rows in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kdbench.comparison import Change, Comparison, Row, Source
from kdbench.figures import count, plain
from kdbench.findings.effect import label, timed
from kdbench.spec import Cell

Setting = tuple[int, int | str, str]
"""Batch size, threads, boundary: what the lines of one section have in common."""

_PARTS = ("backend", "device", "precision", "variant")


@dataclass(frozen=True, slots=True)
class Line:
    """One change in its place: the name of its cell, the cell that it is named by, what it is called."""

    name: str
    row: Row
    change: Change
    label: str

    @property
    def key(self) -> tuple[str, int, int | str, str]:
        """What tells it from other lines, but for the metric."""
        cell = self.row.new
        return self.name, cell.batch, cell.threads, cell.boundary


@dataclass(frozen=True, slots=True)
class Names:
    """What a name needs beside the backend, because the cells of one comparison differ in it.

    deep: the scenarios whose cells differ in their depth. alone: whether all rows have one name, which then
    tells nothing.
    """

    parts: frozenset[str]
    across: str = ""
    deep: frozenset[str] = frozenset()
    alone: bool = False

    @classmethod
    def of(cls, comparison: Comparison) -> Names:
        """Look at all cells of both sides."""
        cells = [cell for row in comparison.rows for cell in (row.base, row.new)]
        cells += [one.cell for one in comparison.unmatched]
        fields = (*_PARTS, "batch", "threads", "boundary")
        differing = {name for name in fields if len({getattr(cell, name) for cell in cells}) > 1}
        depths: dict[str, set[int | str]] = defaultdict(set)
        for cell in cells:
            depths[cell.scenario].add(cell.depth)
        deep = frozenset(scenario for scenario, found in depths.items() if len(found) > 1)
        names = cls(frozenset(differing | {"backend", "variant"}), comparison.across, deep)
        several = comparison.unmatched or len({names.row(row) for row in comparison.rows}) > 1
        return names if several or names.across else replace(names, alone=True)

    def configuration(self, cell: Cell, other: Cell | None = None) -> str:
        """Name a cell without batch, threads and scenario; of a pair, only by what both have.

        What differs between the sides of a trial stands in the heading; across one file, the other cell has
        its own name.
        """
        parts = [
            getattr(cell, part)
            for part in _PARTS
            if part in self.parts
            and getattr(cell, part)
            and (other is None or getattr(cell, part) == getattr(other, part))
        ]
        if cell.scenario in self.deep and (other is None or other.depth == cell.depth):
            parts.append(f"depth {cell.depth}")
        name = " ".join(parts) or (cell.precision if other is None else "A, B")
        return plain(f"teacher · {name}" if cell.network == "teacher" else name)

    def cell(self, cell: Cell, other: Cell | None = None) -> str:
        """Name a cell in a sentence: its configuration, and its setting as far as there are several."""
        return ", ".join([self.configuration(cell, other), *self.setting(cell)])

    def row(self, row: Row) -> str:
        """Name a pair of cells in a sentence; empty where there is only one name."""
        if self.across:
            return ", ".join([self.pair(row), *self.setting(row.new)])
        return "" if self.alone else self.cell(row.new, row.base)

    def pair(self, row: Row) -> str:
        """Name both cells of a comparison within one file."""
        return f"{self.configuration(row.new)} against {self.configuration(row.base)}"

    def setting(self, cell: Cell) -> list[str]:
        """Give what a sentence adds to a configuration: batch, threads and boundary, where they differ."""
        told = [f"batch {cell.batch}"] if "batch" in self.parts else []
        return told + self.mode(cell)

    def mode(self, cell: Cell) -> list[str]:
        """Give the setting without the batch."""
        told = []
        if "threads" in self.parts:
            told.append(threads(cell.threads))
        if "boundary" in self.parts:
            told.append(f"boundary {cell.boundary}")
        return told


def side(source: Source) -> str:
    """Say what a table calls a side: `A` and `B` of a trial, else its label."""
    return source.side.upper() or plain(source.label)


def described(source: Source) -> str:
    """Say what stands behind a side: its file and when that was, or the label of a side of a trial."""
    when = plain(source.started_utc)[:16].replace("T", " ")
    what = source.label if source.side else source.file or source.run
    return plain(" · ".join(part for part in (what, when if not source.side else "") if part))


def threads(asked: int | str) -> str:
    """Say with how many threads a cell computes."""
    if isinstance(asked, int):
        return count(asked, "thread")
    return "all cores" if asked == "cores" else "the vendor's threads"


def sections(comparison: Comparison) -> dict[Setting, tuple[Line, ...]]:
    """Arrange all changes by setting, then by configuration, speed first.

    The cells of both scenarios of a configuration stand together. What both say alike (the artifact, the
    accuracy) is told once.
    """
    names = Names.of(comparison)
    found: dict[Setting, dict[str, list[tuple[Row, Change]]]] = defaultdict(lambda: defaultdict(list))
    for row in comparison.rows:
        cell = row.new
        name = names.configuration(cell, None if names.across else row.base)
        own = found[cell.batch, cell.threads, cell.boundary][name]
        own += [(row, change) for change in row.changes]
    return {
        setting: tuple(line for name, pairs in rows.items() for line in _lines(name, pairs))
        for setting, rows in sorted(found.items(), key=lambda item: (str(item[0][1:]), item[0][0]))
    }


def _lines(name: str, pairs: Sequence[tuple[Row, Change]]) -> Iterable[Line]:
    by_metric: dict[str, list[tuple[Row, Change]]] = defaultdict(list)
    for row, change in sorted(pairs, key=lambda pair: not timed(pair[1])):
        if not any(_alike(change, told) for _, told in by_metric[change.metric]):
            by_metric[change.metric].append((row, change))
    for metric, own in by_metric.items():
        for row, change in own:
            scenario = f", {row.new.scenario}" if len(own) > 1 else ""
            yield Line(name, row, change, f"{label(metric)}{scenario}")


def _alike(one: Change, other: Change) -> bool:
    return (one.base, one.new, one.verdict) == (other.base, other.new, other.verdict)
