"""What observers wrote, and where they failed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from kdbench.records import Result
from kdbench.render.figures import count, plain
from kdbench.render.rows import name
from kdbench.render.verdict import Missing


def written(result: Result, path: Path | None) -> list[str]:
    """Say of each observer how many files it wrote, and where. path: of the result, where that is known."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in result.cells:
        for one in record.observed:
            found[one.observer] += [file.path for file in one.files]
    beside = path.parent if path else Path()
    lines = []
    for observer, paths in found.items():
        if paths:
            # The first two parts are the run's folder and the observer's.
            home = beside / PurePosixPath(*PurePosixPath(paths[0]).parts[:2])
            lines.append(f"Observed by {plain(observer)}: {count(len(paths), 'file')} in {plain(str(home))}")
    return lines


def unobserved(result: Result) -> list[Missing]:
    """List what an observer was asked for and does not have whole, each reason once."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for record in result.cells:
        for one in record.observed:
            if one.reason:
                who = f"{name(record.cell, result)}, batch {record.cell.batch}, {record.cell.scenario}"
                found[one.observer, one.reason].append((who, one.log))
    return [
        Missing(
            what=cells[0][0]
            if len(cells) == 1
            else f"{cells[0][0]} and {count(len(cells) - 1, 'more cell')}",
            status=f"not observed by {plain(observer)}",
            reason=plain(reason),
            log=plain(cells[0][1]),
        )
        for (observer, reason), cells in found.items()
    ]
