"""Compare what a command line names: two files or more, the sides of a trial, or the cells of one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.compare.across import KEYS, METRICS_ACROSS, across
from kdbench.compare.files import compare, compare_trial
from kdbench.compare.gate import report
from kdbench.compare.means import in_common
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
    if key is not None:
        _refuse_across(options)
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
    return report(in_common(comparisons), options, strict=strict)


def _refuse_across(options: Options) -> None:
    """Refuse what an order of cells knows nothing of."""
    if options.gates:
        raise UsageError(
            "--fail-on is about what became worse, and --across compares within one file, where nothing has.",
            hint="Leave it out; --margin says which lead matters.",
        )
    for name in options.metrics:
        if name not in METRICS_ACROSS:
            raise UsageError(
                f"--across compares {' and '.join(METRICS_ACROSS)}, not {name}.",
                hint="`kdbench show FILE` has the other figures side by side.",
            )


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
