"""Compare what a command line names: two files or more, the sides of a trial, or the cells of one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.compare.across import KEYS, across
from kdbench.compare.files import compare, compare_trial
from kdbench.compare.gate import report
from kdbench.compare.options import Options
from kdbench.compare.sources import Loaded, load, named
from kdbench.comparison import Comparison, Report
from kdbench.errors import UsageError


def compare_named(
    words: Sequence[str], options: Options, *, key: str | None = None, strict: bool = False
) -> Report:
    """Compare the first file that `words` name with each other one; one alone with itself, if it can be.

    key: compare the cells of one file across it. Raises UsageError or ResultError.
    """
    paths = named(words)
    if key is not None:
        return report([_across(paths, key, options)], options, strict=strict)
    if len(paths) == 1:
        return report([_alone(load(paths[0]), options)], options, strict=strict)
    base = load(paths[0])
    seen, comparisons = {base.result.run.id: base.name}, []
    for path in paths[1:]:
        new = load(path)
        comparisons.append(compare(base, new, options))
        _refuse_again(new, seen)
    return report(comparisons, options, strict=strict)


def _across(paths: Sequence[Path], key: str, options: Options) -> Comparison:
    if len(paths) != 1:
        raise UsageError(
            f"--across compares the cells of one file, and {len(paths)} are named.",
            hint="Name one; without --across, files are compared with the first.",
        )
    loaded = load(paths[0])
    return across(loaded.result, key, options, file=loaded.name)


def _alone(loaded: Loaded, options: Options) -> Comparison:
    if loaded.result.trial is None:
        raise UsageError(
            f"{loaded.name} alone says nothing about a change: a second result is missing.",
            hint=f"Name one more file, or what to compare within this one: --across {'|'.join(KEYS)}",
        )
    return compare_trial(loaded.result, options, file=loaded.name)


def _refuse_again(new: Loaded, seen: dict[str, str]) -> None:
    run = new.result.run.id
    if run in seen:
        raise UsageError(
            f"{seen[run]} and {new.name} are the same run ({run}): nothing can have changed.",
            hint="Pass each run once.",
        )
    seen[run] = new.name
