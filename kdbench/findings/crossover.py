"""What a search found, in sentences: from which batch size on one configuration overtakes another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdbench.figures import listed, percent, plain, significant
from kdbench.records import Crossing, Result, Standing
from kdbench.spec import Cell

FOLD = 2.0
"""From here on a ratio is written as a multiple."""

_PARTS = ("device", "precision", "variant")


@dataclass(frozen=True, slots=True)
class Names:
    """What a name needs beside the backend, because the configurations of a search differ in it."""

    cells: Sequence[Cell]
    parts: frozenset[str]

    @classmethod
    def of(cls, result: Result) -> Names:
        """Look at all cells that were compared."""
        cells = [record.cell for record in result.cells]
        own = [cells[end.first] for one in result.crossings for end in (one.low, one.high)]
        own += [cells[end.second] for one in result.crossings for end in (one.low, one.high)]
        fields = (*_PARTS, "boundary")
        return cls(
            cells, frozenset(part for part in fields if len({getattr(cell, part) for cell in own}) > 1)
        )

    def configuration(self, cell: int) -> str:
        """Name a configuration by no more than tells it from the others."""
        own = self.cells[cell]
        parts = [own.backend, *(getattr(own, part) for part in _PARTS if part in self.parts)]
        name = " ".join(part for part in parts if part)
        return plain(f"teacher · {name}" if own.network == "teacher" else name)

    def metric(self, crossing: Crossing) -> str:
        """Name what they are compared in."""
        cell = self.cells[crossing.low.first]
        return crossing.scenario + (f" at the boundary {cell.boundary}" if "boundary" in self.parts else "")


def sentences(result: Result) -> Iterator[str]:
    """Say of each pair and scenario who overtakes whom and where, or that nobody does."""
    names = Names.of(result)
    for one in result.crossings:
        yield sentence(one, names)


def sentence(crossing: Crossing, names: Names) -> str:
    """Say one crossing, or that there is none."""
    first, second = (names.configuration(cell) for cell in (crossing.low.first, crossing.low.second))
    metric = names.metric(crossing)
    if crossing.verdict == "crosses":
        ends = f"{_ends(crossing, 'second')}{_untold(crossing)}"
        told = f"{second} overtakes {first} in {metric} {where(crossing)} ({ends})"
    elif crossing.verdict == "never":
        told = (
            f"{first} leads {second} in {metric} at {_every(crossing.batches)} ({_ends(crossing, 'first')})"
        )
    elif len(crossing.untold) == len(crossing.batches):
        span = _span(crossing.batches)
        told = f"{first} and {second} cannot be told apart in {metric} at any batch size tried, {span}"
    else:
        sure = [batch for batch in crossing.batches if batch not in crossing.untold]
        told = (
            f"{first} leads {second} in {metric} at batch {_runs(sure, crossing.batches)}{_untold(crossing)}"
        )
    beside = "" if crossing.low.alternated and crossing.high.alternated else " They did not take turns."
    return f"{told}.{beside}"


def short(crossings: Sequence[Crossing], names: Names) -> str:
    """Say of one pair and scenario, in a few words, who is ahead from where on."""
    told = []
    for number, one in enumerate(crossings):
        first, second = (names.configuration(cell) for cell in (one.low.first, one.low.second))
        if one.verdict == "crosses":
            low, high = one.low.batch, one.high.batch
            told += [first] if not number else []
            told.append(f"{second} " + (f"from {high}" if high - low == 1 else f"(between {low} and {high})"))
        elif one.verdict == "never":
            told.append(f"{first} throughout")
        elif len(one.untold) == len(one.batches):
            told.append("nobody can tell")
        else:
            told.append(f"{first}, or nobody can tell")
    return ", then ".join(told)


def where(crossing: Crossing) -> str:
    """Say where a change of places is: at a batch size, or between two."""
    low, high = crossing.low.batch, crossing.high.batch
    return f"at batch {high}" if high - low == 1 else f"between batch {low} and {high}"


def _ends(crossing: Crossing, who: str) -> str:
    low, high = _stands(crossing.low, who), _stands(crossing.high, who)
    its = "it is " if who == "second" else ""
    if crossing.low.batch == crossing.high.batch:
        return f"{its}{low}"
    return f"{its}{low} at {crossing.low.batch}, {high} at {crossing.high.batch}"


def _stands(standing: Standing, who: str) -> str:
    """Say how fast one of a pair is beside the other: `8 % slower`, `3.1 times as fast`."""
    ratio = 1 / standing.ratio if who == "second" else standing.ratio
    fast = ratio >= 1
    fold = ratio if fast else 1 / ratio
    if fold >= FOLD:
        return f"{significant(fold, 0.1)} times as {'fast' if fast else 'slow'}"
    return f"{percent(fold - 1)} {'faster' if fast else 'slower'}"


def _untold(crossing: Crossing) -> str:
    return f"; nobody can tell at {_runs(crossing.untold, crossing.batches)}" if crossing.untold else ""


def _every(batches: Sequence[int]) -> str:
    if len(batches) == 1:
        return f"batch {batches[0]}, the only one tried"
    return f"every batch size tried, {_span(batches)}"


def _span(batches: Sequence[int]) -> str:
    return str(batches[0]) if len(batches) == 1 else f"{batches[0]} to {batches[-1]}"


def _runs(sizes: Sequence[int], tried: Sequence[int]) -> str:
    """List batch sizes, three and more that were tried one after the other as a span."""
    runs: list[list[int]] = []
    for size in sizes:
        if runs and tried.index(size) == tried.index(runs[-1][-1]) + 1:
            runs[-1].append(size)
        else:
            runs.append([size])
    told: list[str] = []
    for run in runs:
        told += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    return listed(told)
