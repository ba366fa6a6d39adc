"""Keep what a run has finished, a line at a time, so that a kill loses at most the block in progress.

A journal lies beside the result file that it will become. Its first line holds the result as planned; each
further line is an `Entry`, written in one piece and on the disk before `append` returns. `fold` makes a
partial Result of it, `reopen` goes on with it, `open_result` opens a result file or a journal alike.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from msgspec import Struct, field, structs

from kdbench import results, strict
from kdbench.errors import ResultError
from kdbench.records import (
    MAJOR as RESULT_MAJOR,
    BackendRecord,
    CellRecord,
    Count,
    Record,
    Result,
    Samples,
    Slice,
    Stretch,
    Window,
    Yardstick,
)
from kdbench.spec import Scenario

NAME, MAJOR = "kdbench.journal", 1

Kind = Literal["cells", "block", "windows", "stretch", "stage", "resumed"]
Finished = set[tuple[Scenario, int, int]]


class Entry(Record, frozen=True, omit_defaults=True, kw_only=True):
    """What was found out since the entry before.

    kind: `block` and `windows` say that `scenario` is finished for this block and cohort.
    added: cells that were planned on the way; they follow those that there are.
    cells: new records of cells, by index into `Result.cells`; the last one holds.
    backends: new records; one of the same name is replaced.
    stages: name and duration in seconds of stages that came to their end.
    """

    kind: Kind
    block: Count | None = None
    cohort: Count | None = None
    scenario: Scenario | None = None
    added: tuple[CellRecord, ...] = ()
    cells: dict[int, CellRecord] = field(default_factory=dict)
    backends: tuple[BackendRecord, ...] = ()
    slices: tuple[Slice, ...] = ()
    windows: tuple[Window, ...] = ()
    samples: tuple[Samples, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    yardsticks: tuple[Yardstick, ...] = ()
    stages: tuple[tuple[str, float], ...] = ()


class Header(Struct, frozen=True):
    """The first line: which format this is, and the result as it was planned."""

    journal: results.Format
    result: Result


class _HeaderFormats(Struct, frozen=True):
    journal: results.Format | None = None
    result: results.Head = results.Head()


class Journal:
    """A journal open for writing; nobody else can write to it until it is closed."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = size

    def append(self, entry: Entry) -> None:
        """Write one entry; when this returns it is on the disk.

        Raises ResultError when it cannot be written; the journal then ends with the entry before.
        """
        self._write(strict.encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file, which stays; calling it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0:
            raise ResultError(f"The journal {strict.clean(str(self.path))} is closed.")
        if self._size + len(line) > results.MAX_BYTES:
            raise ResultError(
                f"The journal {strict.clean(str(self.path))} would outgrow the {results.MAX_BYTES} bytes "
                "that can be read again.",
                hint="Measure fewer cells or blocks in one run.",
            )
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            # Half a line here would break the line that comes after it.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise results.unwritable(self.path, error) from error
        self._size += len(line)


def journal_path(result_path: Path) -> Path:
    """Say where the journal of a result file lies: beside it, `NAME.json.journal`."""
    return result_path.with_name(result_path.name + results.JOURNAL_SUFFIX)


def create(path: Path, planned: Result) -> Journal:
    """Begin a journal. Raises ResultError when one exists or cannot be written."""
    line = strict.encode(Header(results.Format(NAME, MAJOR), planned)) + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise ResultError(
            f"There is a journal {strict.clean(str(path))} already.",
            hint=f"Finish it with --resume {strict.clean(str(path))}, or remove it.",
        ) from None
    except OSError as error:
        raise results.unwritable(path, error) from error
    journal = Journal(path, descriptor, 0)
    try:
        _lock(descriptor, path)
        journal._write(line)
    except ResultError:
        journal.close()
        path.unlink(missing_ok=True)
        raise
    return journal


def reopen(path: Path) -> tuple[Result, Journal]:
    """Go on with a journal: give what it holds so far, and append to it from here.

    A line torn by a kill is cut off, and the interruption is noted. Raises ResultError when it cannot be
    read or written, or while another process writes to it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except OSError as error:
        raise results.unwritable(path, error) from error
    journal = Journal(path, descriptor, 0)
    try:
        _lock(descriptor, path)
        read = _read(path)
        folded = _fold(read, path)
        os.ftruncate(descriptor, read.size)
        journal._size = read.size
        journal.append(Entry(kind="resumed"))
    except OSError as error:
        journal.close()
        raise results.unwritable(path, error) from error
    except ResultError:
        journal.close()
        raise
    return structs.replace(folded, run=structs.replace(folded.run, resumed=folded.run.resumed + 1)), journal


def fold(path: Path, *, through: Callable[[Entry], bool] | None = None) -> Result:
    """Make a partial Result of all finished entries, or of those up to the last one that is `through`.

    The last line counts only when it is whole; a broken line before it is refused by its number.
    """
    read = _read(path)
    if through is not None:
        last = max((number for number, entry in enumerate(read.entries, 1) if through(entry)), default=0)
        read = replace(read, entries=read.entries[:last])
    return _fold(read, path)


def finished(source: Path | Iterable[Entry]) -> Finished:
    """Tell which blocks need not be measured again, as (scenario, block, cohort)."""
    entries = _read(source).entries if isinstance(source, Path) else source
    return {
        (entry.scenario, entry.block, entry.cohort or 0)
        for entry in entries
        if entry.kind in ("block", "windows") and entry.scenario is not None and entry.block is not None
    }


def open_result(path: Path) -> Result:
    """Open a result file or a journal, whichever `path` holds; raises ResultError."""
    if not path.exists() and (beside := journal_path(path)).is_file():
        raise ResultError(
            f"There is no file {strict.clean(str(path))}, but the journal of a run that did not end.",
            hint=f"Pass {strict.clean(str(beside))}, or finish the run with --resume.",
        )
    first = results.load(path).split(b"\n", 1)[0]
    return fold(path) if first.startswith(b'{"journal":') else results.read(path)


@dataclass(frozen=True, slots=True)
class _Contents:
    planned: Result
    entries: Sequence[Entry]
    size: int


def _read(path: Path) -> _Contents:
    what = strict.clean(str(path))
    data = results.load(path)
    lines = data.split(b"\n")
    torn = lines.pop()
    if not lines:
        raise ResultError(
            f"The journal {what} ends in its first line: nothing was measured yet.", hint="Start again."
        )
    planned = _header(lines[0], f"Line 1 of {what}")
    entries, count = [], len(planned.cells)
    for number, line in enumerate(lines[1:], start=2):
        entry = strict.decode(line, Entry, f"Line {number} of {what}")
        count += len(entry.added)
        for index in entry.cells:
            if index not in range(count):
                raise ResultError(
                    f"Line {number} of {what} is inconsistent: it has cell {index}, and there are "
                    f"{count} cells."
                )
        entries.append(entry)
    return _Contents(planned, entries, len(data) - len(torn))


def _header(line: bytes, what: str) -> Result:
    formats = strict.decode(line, _HeaderFormats, what)
    results.admit(formats.journal, NAME, MAJOR, what)
    results.admit(formats.result.schema, results.SCHEMA_NAME, RESULT_MAJOR, what)
    header = strict.decode(line, Header, what)
    if (header.journal.major, header.result.schema.major) != (MAJOR, RESULT_MAJOR):
        raise ResultError(
            f"{what} is of version {header.journal.major}, and journals of version {MAJOR} only are read.",
            hint=f"Finish the run with the kdbench that began it ({header.result.run.kdbench}).",
        )
    return header.result


def _fold(read: _Contents, path: Path) -> Result:
    planned, entries = read.planned, read.entries
    cells = list(planned.cells)
    backends = {record.name: record for record in planned.backends}
    for entry in entries:
        cells.extend(entry.added)
        for index, record in entry.cells.items():
            cells[index] = record
        backends |= {record.name: record for record in entry.backends}
    result = structs.replace(
        planned,
        run=structs.replace(
            planned.run,
            status="partial",
            finished_utc=None,
            resumed=planned.run.resumed + sum(entry.kind == "resumed" for entry in entries),
        ),
        backends=tuple(backends.values()),
        cells=tuple(cells),
        slices=planned.slices + tuple(part for entry in entries for part in entry.slices),
        windows=planned.windows + tuple(part for entry in entries for part in entry.windows),
        samples=planned.samples + tuple(part for entry in entries for part in entry.samples),
        stretches=planned.stretches + tuple(part for entry in entries for part in entry.stretches),
        yardsticks=planned.yardsticks + tuple(part for entry in entries for part in entry.yardsticks),
        stages=planned.stages + tuple(part for entry in entries for part in entry.stages),
    )
    results.check(result, strict.clean(str(path)))
    return result


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResultError(
            f"Another kdbench is writing to {strict.clean(str(path))}.", hint="Wait until it ends."
        ) from None
    except OSError:
        # Some network file systems have no locks; the journal works without.
        return
