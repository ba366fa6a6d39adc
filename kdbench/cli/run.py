"""`kdbench run`: measure, keep the result, show its table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli import options
from kdbench.cli.types import AccuracyDrop
from kdbench.errors import Interrupted, KdbenchError, UsageError
from kdbench.sections import Text

if TYPE_CHECKING:
    from kdbench.plan import Plan
    from kdbench.progress import Report
    from kdbench.records import Result

ALONE = frozenset({"resume", "trust_code", "as_json", "quiet", "debug"})
"""The options that go with --resume; every other one is decided by the run that is resumed."""


@click.command(short_help="Time one student on every backend that works here.")
@options.student
@options.backends("Measure these only, and fail (exit 3) where one cannot run. [default: all that work here]")
@options.devices("Devices by id or UUID; see `kdbench backends`.")
@options.evaluation
@options.weights
@click.option(
    "--with-teacher", is_flag=True, help="Measure the bundle's teacher too, and what distillation buys."
)
@options.profile("The measurement plan: what is measured, how often, how long. See `kdbench profiles`.")
@options.precisions()
@options.batches()
@options.scenarios()
@options.boundary
@options.threads("Threads of each backend: a number, the physical cores, or what the vendor chooses.")
@options.settings
@options.blocks("Measure everything in N rounds of fresh processes.")
@options.budget("Measure as many blocks as fit into this time, instead of --blocks.", metavar="60s")
@click.option(
    "--max-drop",
    type=AccuracyDrop(),
    metavar="0.5pp",
    help="Accuracy, in percentage points, that a row may lose and still be ranked.",
)
@options.timeouts()
@click.option(
    "--allow-fallback",
    is_flag=True,
    help="Measure what runs elsewhere, or in another precision, than asked: marked, and never ranked.",
)
@click.option(
    "--artifact",
    "artifacts",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Compile nothing: measure what `kdbench compile` wrote to DIR; may be given again.",
)
@click.option(
    "--trust-code", is_flag=True, help="Load artifacts that were compiled elsewhere: they are native code."
)
@options.several(
    "--observe",
    "observers",
    kind=Text,
    metavar="NAME[,NAME]",
    text="Run each cell once more, alone, while these observers watch; their files lie beside the result.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be measured and how long that takes.")
@options.output(
    "Where the result goes; never overwritten. [default: ./results or ., named by time and profile]"
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Finish an interrupted run from its journal.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output and nothing else."
)
@click.option(
    "-q", "--quiet", is_flag=True, help="Show no progress and no table: print only the path of the result."
)
@click.pass_context
def command(
    ctx: click.Context, /, *, resume: Path | None, dry_run: bool, as_json: bool, quiet: bool, **asked: Any
) -> None:
    """Time STUDENT on every backend that works here: verify it, measure it, rank it.

    STUDENT is a name that `kdbench students` lists, the directory of a bundle, or an ONNX file, which is
    imported first. The result is one JSON file; `kdbench show` prints its table again.

    The exit code is 0 if all that was asked for was measured, 1 if a cell failed or is invalid, 2 for bad
    input, 3 if a backend named with -b cannot run here, 130 after Ctrl-C (what was finished is kept).
    """
    from kdbench import bench
    from kdbench.cli.request import build, hidden_plugins_told, journal_to_finish

    if resume is not None:
        _refuse_beside_resume(ctx)
        output = journal_to_finish(resume)
        result = _measured(
            lambda report: bench.resume(resume, report, trust_code=asked["trust_code"]),
            output,
            as_json=as_json,
            quiet=quiet,
        )
        ctx.exit(bench.exit_code(result, _named(result)))
    request = build(writing=not dry_run, quiet=quiet, **asked)
    with hidden_plugins_told():
        if dry_run:
            _show_plan(bench.plan(request), as_json=as_json)
            return
        result = _measured(
            lambda report: bench.run(request, report), request.output, as_json=as_json, quiet=quiet
        )
    ctx.exit(bench.exit_code(result, _named(result)))


def _named(result: Result) -> tuple[str, ...]:
    """Give the backends that were asked for by name, on the command line or in the profile."""
    return tuple(result.run.profile["plan"]["backends"])


def _refuse_beside_resume(ctx: click.Context) -> None:
    given = click.core.ParameterSource.COMMANDLINE
    others = [
        one.opts[-1] if isinstance(one, click.Option) else "STUDENT"
        for one in ctx.command.params
        if one.name and one.name not in ALONE and ctx.get_parameter_source(one.name) is given
    ]
    if others:
        raise UsageError(
            f"--resume goes on with the plan of its file, so {', '.join(others)} cannot be given with it.",
            hint="Start a new run to measure something else.",
        )


def _measured(work: Callable[[Report], Result], output: Path, *, as_json: bool, quiet: bool) -> Result:
    """Run with progress on standard error and show the result; after an interruption, what there is of it."""
    from kdbench import journal
    from kdbench.summary import open_summarised

    try:
        with progress(quiet=quiet) as report:
            result = work(report)
    except Interrupted:
        kept = journal.journal_path(output)
        # Whoever is impatient is told where the finished part is all the same.
        with suppress(KdbenchError, KeyboardInterrupt):
            _show(open_summarised(kept), kept, as_json=as_json, quiet=quiet)
        raise
    _show(result, output, as_json=as_json, quiet=quiet)
    return result


def progress(*, quiet: bool) -> AbstractContextManager[Report]:
    """Give what a run reports its progress to: a live line on standard error, or nobody."""
    from kdbench import render

    return nullcontext(lambda _: None) if quiet else render.progress(render.console(stderr=True))


def _show(result: Result, path: Path, *, as_json: bool, quiet: bool) -> None:
    from kdbench import render, strict

    if as_json:
        click.echo(strict.encode(result))
    elif quiet:
        click.echo(click.format_filename(path))
    else:
        render.result(render.console(stderr=False), result, path)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    import msgspec

    from kdbench import render, strict

    if as_json:
        cells = [strict.plain(record) for record in plan.records]
        click.echo(msgspec.json.encode({"cells": cells, "stages": plan.stages, "notes": plan.notes}))
    else:
        render.plan(render.console(stderr=False), plan)
