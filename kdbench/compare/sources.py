"""Which files are meant: by name, folder, pattern, or as the latest and the one before."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kdbench import results
from kdbench.errors import ResultError, UsageError
from kdbench.records import Result
from kdbench.strict import clean, decode
from kdbench.summary import open_summarised

MOST = 100
"""More files than this are never meant to be compared at once."""

WORDS = ("previous", "latest")
"""The two newest finished results, by the time at which they began."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A result and the name of the file that it came from."""

    result: Result
    name: str = ""


class _Run(msgspec.Struct, frozen=True):
    started_utc: str = ""
    status: str = ""


class _Head(msgspec.Struct, frozen=True):
    """What is looked at to choose a file, without reading the rest."""

    schema: results.Format | None = None
    run: _Run = _Run()


def load(path: Path) -> Loaded:
    """Open a result file, or the journal of a run that did not end. Raises ResultError."""
    return Loaded(open_summarised(path), clean(str(path)))


def named(words: Sequence[str]) -> tuple[Path, ...]:
    """Give the files that are meant, in the order given; a folder stands for its results, oldest first.

    Raises UsageError for a folder or a pattern without any, for more than 100 files, which are counted before
    any is read, and for the same file twice.
    """
    groups = [(word, _listed(word)) for word in words]
    count = sum(len(paths) for _, paths in groups)
    if count > MOST:
        raise UsageError(
            f"That names {count:,} files, and at most {MOST} are compared at once.",
            hint="Name those that you mean; the first is the base.",
        )
    found = [path for word, paths in groups for path in _chosen(word, paths)]
    _refuse_twice(found)
    return tuple(found)


def _listed(word: str) -> list[Path]:
    """List the files that a word may stand for, before any is read."""
    if word in WORDS:
        return [Path(word)]
    path = Path(word)
    if path.is_dir():
        return sorted(path.glob("*.json"))
    if not path.exists() and glob.has_magic(word):
        found = [Path(one) for one in sorted(glob.glob(word))]  # noqa: PTH207  # an absolute pattern is one too
        if not found:
            raise UsageError(f"No file matches {clean(word)}.", hint="`kdbench run` writes results.")
        return found
    return [path]


def _chosen(word: str, paths: list[Path]) -> list[Path]:
    if word in WORDS:
        return [_by_time(word)]
    if not Path(word).is_dir():
        return paths
    found = [(head.run.started_utc, path) for path, head in _heads(paths)]
    if not found:
        raise UsageError(f"There is no result in {clean(word)}.", hint="`kdbench run` writes one.")
    return [path for _, path in sorted(found)]


def _by_time(word: str) -> Path:
    """Find the newest finished result, or the one before, where `kdbench run` puts them."""
    folder = Path("results") if Path("results").is_dir() else Path()
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[-MOST:]
    finished = sorted(
        (head.run.started_utc, path)
        for path, head in _heads(files, forgiving=True)
        if head.run.status == "complete"
    )
    back = len(WORDS) - WORDS.index(word)
    if len(finished) < back:
        raise UsageError(
            f"There is no {word} result in {clean(str(folder.absolute()))}: it has "
            f"{len(finished)} finished {'result' if len(finished) == 1 else 'results'}.",
            hint="`kdbench run` writes results; or name the files.",
        )
    return finished[-back][1]


def _heads(paths: Iterable[Path], *, forgiving: bool = False) -> list[tuple[Path, _Head]]:
    """Read what the files claim to be, and keep the results; other JSON in the folder is passed over."""
    found = []
    for path in paths:
        try:
            head = decode(results.load(path), _Head, clean(str(path)))
        except ResultError:
            if forgiving:
                continue
            raise
        if head.schema is not None and head.schema.name == results.SCHEMA_NAME:
            found.append((path, head))
    return found


def _refuse_twice(paths: Sequence[Path]) -> None:
    seen: dict[object, Path] = {}
    for path in paths:
        try:
            facts = path.stat()
        except OSError:
            continue  # whoever opens it says it better
        key = (facts.st_dev, facts.st_ino)
        if key in seen:
            raise UsageError(
                f"{clean(str(path))} and {clean(str(seen[key]))} are one file: nothing can have changed.",
                hint="Pass the results of two runs.",
            )
        seen[key] = path
