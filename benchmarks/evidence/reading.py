"""What the files of whole trials hold, as estimates per block."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.evidence.lines import Line
from benchmarks.evidence.measuring import Folder
from kdbench import ranking, results
from kdbench.contention import contended_blocks
from kdbench.records import Result, Slice
from kdbench.strict import clean


@dataclass(frozen=True, slots=True)
class Trial:
    """One whole trial: the result that it left, and its exit code."""

    path: Path
    result: Result
    exit_code: int

    def cell(self, name: str) -> int:
        """Give the index of the only cell of a side or backend. Raises ValueError where there is none."""
        names = [record.cell.side or record.cell.backend for record in self.result.cells]
        return names.index(name)

    def estimates(self, base: str, new: str) -> tuple[float, ...]:
        """Give log(new / base) of each block."""
        first, second = self.cell(base), self.cell(new)
        costs = ranking.latency_costs(self.result.slices, {first, second})
        return tuple(costs.estimates(second, first).values())

    def contended(self, *names: str) -> set[int]:
        """Give the blocks in which any of these cells was under heavy contention: they count as half."""
        cells, slices = map(self.cell, names), self.result.slices
        return {
            block for cell in cells for block in contended_blocks(one for one in slices if one.cell == cell)
        }

    @property
    def blocks_s(self) -> list[float]:
        """Give the seconds from the beginning of each block's first slice to that of the next."""
        begins: dict[int, int] = {}
        for one in self.result.slices:
            begins[one.block] = min(one.started_ns, begins.get(one.block, one.started_ns))
        ordered = sorted(begins.values())
        return [(after - before) / 1e9 for before, after in itertools.pairwise(ordered)]

    @property
    def seconds(self) -> float:
        """How long the run took, without what the command did before it."""
        begin, end = (
            datetime.fromisoformat(text)
            for text in (self.result.run.started_utc, self.result.run.finished_utc or "")
        )
        return (end - begin).total_seconds()


@dataclass(frozen=True, slots=True)
class Record:
    """A line with the trials that were measured of it, in the order of time.

    failures: why others failed, and were repeated.
    """

    line: Line
    trials: tuple[Trial, ...]
    failures: tuple[str, ...] = ()

    @property
    def whole(self) -> list[tuple[float, ...]]:
        """Give the blocks of the line's pair, trial by trial."""
        return [trial.estimates(*self.line.pair) for trial in self.trials]

    @property
    def blocks(self) -> list[float]:
        """Give the blocks of all trials."""
        return [one for trial in self.whole for one in trial]

    @property
    def contended(self) -> int:
        """Count the blocks in which either of the pair was under heavy contention."""
        return sum(len(trial.contended(*self.line.pair)) for trial in self.trials)

    @property
    def block_s(self) -> float | None:
        """Give the median seconds of a block; None where no trial had two."""
        found = [one for trial in self.trials for one in trial.blocks_s]
        return median(found) if found else None

    @property
    def usual_blocks(self) -> int:
        """Tell of how many blocks a whole trial of this line is made."""
        return int(median(len(trial) for trial in self.whole)) if self.trials else 0


def read(folder: Folder, line: Line) -> Record:
    """Read what was measured of a line."""
    failures = (clean(path.read_text(errors="replace")).strip() for path in folder.failed(line))
    return Record(line, tuple(map(_trial, folder.finished(line))), tuple(failures))


def carry_over(result: Result, pair: Sequence[int], neighbour: int) -> dict[int, float]:
    """Tell by how much a visit after the neighbour's is slower than one after the twin's, block by block.

    pair: two alike cells. In some rounds one of them follows the neighbour and the other its twin; the median
    of these rounds' log ratios counts. The pair's own ratio cannot tell: both follow it equally often.
    """
    ratios: dict[int, list[float]] = defaultdict(list)
    for block, visited in _by_block(result).items():
        rounds: dict[int, dict[int, float]] = defaultdict(dict)
        for before, one in itertools.pairwise(visited):
            if one.cell in pair and before.cell != one.cell:
                rounds[one.round][before.cell] = math.log(one.median_ns)
        for costs in rounds.values():
            fellows = [cost for before, cost in costs.items() if before in pair]
            if neighbour in costs and len(fellows) == 1:
                ratios[block].append(costs[neighbour] - fellows[0])
    return {block: median(found) for block, found in ratios.items()}


def settling(result: Result, cell: int) -> float:
    """Tell how many times a usual call those take that are dropped after a switch, the median over slices."""
    own = [one for one in result.slices if one.cell == cell and one.settle_calls]
    return median(one.settle_ns / one.settle_calls / one.median_ns for one in own)


def _by_block(result: Result) -> dict[int, list[Slice]]:
    found: dict[int, list[Slice]] = defaultdict(list)
    for one in sorted(result.slices, key=lambda one: one.started_ns):
        found[one.block].append(one)
    return found


def _trial(path: Path) -> Trial:
    code = re.search(r"exit(\d+)", path.stem)
    return Trial(path, results.read(path), int(code[1]) if code else 0)
