"""`kdbench compare BASE NEW --remeasure`: both sides again, alternated, instead of guessing across time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kdbench.errors import UsageError


def remeasured(
    words: Sequence[str],
    options: Any,
    *,
    strict: bool,
    students: Sequence[Path],
    pythons: Sequence[Path],
    budget: float | None,
    quiet: bool,
) -> Any:
    """Run the trial of what two files name, and give the report on it.

    The trial's result file goes where `kdbench ab` puts its own, and is told on standard error.
    """
    from functools import partial

    from kdbench import compare, remeasure, trial
    from kdbench.cli.pairing import interpreters
    from kdbench.cli.request import output_path, plugins
    from kdbench.cli.run import progress

    paths = compare.named(words)
    if len(paths) != 2:
        raise UsageError(
            f"--remeasure takes the two files of base and new, and {len(paths)} are named.",
            hint="Name two.",
        )
    results = [compare.load(path).result for path in paths]
    output = output_path(None, "remeasure", writing=True)
    request = remeasure.trial_request(
        results,
        output,
        students=students,
        pythons=interpreters(pythons),
        budget_s=budget or trial.BUDGET_S,
        plugins=plugins(),
        argv=tuple(sys.argv[1:]),
    )
    admit = partial(remeasure.refuse_other_versions, results)
    with progress(quiet=quiet) as report:
        result = trial.run(request, report, announce=partial(click.echo, err=True), admit=admit)
    click.echo(f"Result: {click.format_filename(output)}", err=True)
    return compare.report([compare.compare_trial(result, options, file=str(output))], options, strict=strict)
