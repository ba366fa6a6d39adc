"""What a run leaves behind: its journal, its logs and its result, whatever happens to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from kdbench import journal, results
from kdbench.errors import Interrupted, ResultError, UsageError
from kdbench.header import now
from kdbench.interruption import heard_once
from kdbench.orphans import orphans_adopted
from kdbench.records import Result
from kdbench.strict import clean
from kdbench.summary import summarise


@contextmanager
def removed_where_empty(path: Path) -> Iterator[None]:
    """Leave no journal behind in which nothing is finished when a run is refused."""
    try:
        yield
    except UsageError:
        if not journal.finished(path):
            path.unlink()
        raise


@contextmanager
def room_made(path: Path) -> Iterator[None]:
    """Say how to go on where something cannot be written: all that was finished is in the journal."""
    try:
        yield
    except ResultError as fault:
        if not isinstance(fault.__cause__, OSError):
            raise
        hint = f"Make room, or mend what stands in the way, then: kdbench run --resume {clean(str(path))}"
        raise ResultError(fault.message, hint=hint) from fault


@contextmanager
def guarded(output: Path, *, resumable: bool = True) -> Iterator[Path]:
    """Give a folder for logs; end every process, and turn an interruption into a sentence.

    resumable: whether what was interrupted can be taken up again, or only looked at.
    """
    path = journal.journal_path(output)
    with tempfile.TemporaryDirectory(prefix="kdbench-") as folder, heard_once():
        try:
            with orphans_adopted():
                yield Path(folder)
        except KeyboardInterrupt:
            if not resumable and path.exists() and not journal.finished(path):
                path.unlink()
            kept = f"What was finished is in {path}." if path.exists() else "Nothing was measured yet."
            how = "Go on with: kdbench run --resume" if resumable else "What it tells: kdbench compare"
            hint = f"{how} {path}" if path.exists() else ""
            raise Interrupted(f"Interrupted. {kept}", hint=hint) from None


def finish(output: Path, path: Path) -> Result:
    """Fold the journal into the result file; the journal goes only when that is on the disk."""
    folded = journal.fold(path)
    whole = structs.replace(folded.run, status="complete", finished_utc=now())
    result = summarise(structs.replace(folded, run=whole))
    with room_made(path):
        if output.exists():
            raise ResultError(
                f"{clean(str(output))} appeared while the run went on, and no result is overwritten.",
                hint=f"Move it away, then: kdbench run --resume {clean(str(path))}",
            )
        results.write(result, output)
    path.unlink()
    return result


def logs(output: Path) -> Path:
    """Say where the logs of workers that fail are kept: beside the result."""
    return output.with_name(f"{output.stem}.logs")
