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


class _Trial(msgspec.Struct, frozen=True):
    """That a result is one is all that is asked."""


class _Head(msgspec.Struct, frozen=True):
    """What is looked at to choose a file, without reading the rest."""

    schema: results.Format | None = None
    run: _Run = _Run()
    trial: _Trial | None = None


def load(path: Path) -> Loaded:
    """Open a result file, or the journal of a run that did not end. Raises ResultError."""
    return Loaded(open_summarised(path), clean(str(path)))


def named(words: Sequence[str]) -> tuple[Path, ...]:
    """Give the files that are meant, in the order given; a folder stands for its results, oldest first.

    A folder, a pattern and the words `latest` and `previous` mean runs that can be compared with one another,
    so trials are passed over, as is all JSON that is no result; `latest` or `previous` alone may be a trial.
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
    alone = len(words) == 1
    found = [path for word, paths in groups for path in _chosen(word, paths, alone=alone)]
    _refuse_twice(found)
    return tuple(found)


def _listed(word: str) -> list[Path]:
    """List the files that a word may stand for, before any is read."""
    if word in WORDS:
        return [Path(word)]
    if Path(word).is_dir():
        return sorted(Path(word).glob("*.json"))
    if not _is_pattern(word):
        return [Path(word)]
    found = [Path(one) for one in sorted(glob.glob(word))]  # noqa: PTH207  # an absolute pattern is one too
    if not found:
        raise UsageError(f"No file matches {clean(word)}.", hint="`kdbench run` writes results.")
    return found


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and not Path(word).exists()


def _chosen(word: str, paths: list[Path], *, alone: bool) -> list[Path]:
    if word in WORDS:
        return [_by_time(word, alone=alone)]
    folder = Path(word).is_dir()
    if not folder and not _is_pattern(word):
        return paths
    heads = _heads(paths)
    runs = [(head.run.started_utc if folder else "", path) for path, head in heads if head.trial is None]
    if not folder:
        runs += [("", path) for path in paths if path.name.endswith(results.JOURNAL_SUFFIX)]
    if runs:
        return [path for _, path in sorted(runs)]
    where = f"in {clean(word)}" if folder else f"among the files that {clean(word)} matches"
    if heads:
        raise UsageError(
            f"There is no run {where}, only trials of `kdbench ab`.",
            hint="A trial is compared alone, by its own name.",
        )
    raise UsageError(f"There is no result {where}.", hint="`kdbench run` writes one.")


def _by_time(word: str, *, alone: bool) -> Path:
    """Find the newest finished result, or the one before, where `kdbench run` puts them.

    alone: whether nothing is to be compared with it, so that it may be a trial.
    """
    folder = Path("results") if Path("results").is_dir() else Path()
    files = sorted(folder.glob("*.json"), key=_written_s)[-MOST:]
    finished = sorted(
        (head.run.started_utc, path)
        for path, head in _heads(files)
        if head.run.status == "complete" and (alone or head.trial is None)
    )
    back = len(WORDS) - WORDS.index(word)
    if len(finished) < back:
        what = "finished result" if alone else "finished run"
        raise UsageError(
            f"There is no {word} result in {clean(str(folder.absolute()))}: it has "
            f"{len(finished)} {what}{'' if len(finished) == 1 else 's'}.",
            hint="`kdbench run` writes results; or name the files.",
        )
    return finished[-back][1]


def _written_s(path: Path) -> float:
    """Give when a file was written last; 0 for a link that leads nowhere."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _heads(paths: Iterable[Path]) -> list[tuple[Path, _Head]]:
    """Read what the files claim to be, and keep the results; all else is passed over."""
    found = []
    for path in paths:
        try:
            head = decode(results.load(path), _Head, clean(str(path)))
        except ResultError:
            continue
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
