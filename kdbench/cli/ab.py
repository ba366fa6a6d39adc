"""`kdbench ab`: two sides alternated slice by slice, and the verdict on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli import options
from kdbench.cli.types import Option

if TYPE_CHECKING:
    from kdbench.trial import TrialRequest


@click.command(short_help="Alternate two sides slice by slice: is B faster than A?")
@options.student
@click.argument("other", required=False, metavar="[OTHER]")
@options.backends("Backend of A, and of B.")
@options.devices("Device of A, and of B.")
@options.precisions("Precision of A, and of B.", metavar="fp32[,bf16]")
@options.pythons(
    "Interpreter of A's environment; given again, of B's. Given once it is B's, and A is this one."
)
@click.option(
    "--a", "only_a", type=Option(), multiple=True, metavar="KEY=VALUE", help="Option of A's backend."
)
@click.option(
    "--b", "only_b", type=Option(), multiple=True, metavar="KEY=VALUE", help="Option of B's backend."
)
@click.option(
    "-o",
    "--option",
    "both",
    type=Option(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of both backends.",
)
@options.batches("Batch sizes. [default: 1]")
@options.scenarios("What is alternated: slices of calls, or windows. [default: latency]")
@options.threads("Threads of both sides; 1 is the steadiest gauge.")
@options.budget(
    "Time for the blocks, whose number it fixes beforehand; preparing comes on top.  [default: 30s]"
)
@options.blocks("So many blocks, instead of --budget.")
@click.option(
    "--rebuild", is_flag=True, help="Compile anew for each block, so that builds are part of what varies."
)
@options.margin("What is still no change.  [default: 3% of time, 0.5pp]")
@click.option(
    "--fail-on", metavar="METRIC:MARGIN[,...]", help="What alone decides the exit code; see compare."
)
@options.strict
@options.profile("The measurement plan.", default="ab")
@options.timeouts()
@click.option("--dry-run", is_flag=True, help="Print what would be measured, and stop.")
@options.output("Where the result goes; never overwritten. [default: ./results or ., named by time]")
@options.form()
@click.option(
    "-q", "--quiet", is_flag=True, help="Show no progress and no table: print only the result's path."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    dry_run: bool,
    form: str,
    quiet: bool,
    margin: float | None,
    fail_on: str | None,
    strict: bool,
    **asked: Any,
) -> None:
    r"""Measure two sides in turn, slice by slice, and say whether B is faster than A.

    What is given twice makes the sides: two backends, two students, two option sets, two interpreters.
    Nothing given twice compares a backend with itself, which shows what this machine can tell apart.

    \b
    kdbench ab -b onnxruntime,openvino
    kdbench ab -b openvino --a num_streams=1 --b num_streams=2 --budget 30s
    kdbench ab -b openvino --python old/bin/python --python new/bin/python
    kdbench ab digits-2x5 ./smaller -b onnxruntime --threads 1

    The exit code is that of `kdbench compare`: 0, or 1 where B is worse or a side failed, 4 where they cannot
    be compared, 5 with --strict where the verdict is inconclusive.
    """
    from kdbench import compare, trial
    from kdbench.cli.pairing import request_of
    from kdbench.cli.request import hidden_plugins_told
    from kdbench.cli.run import progress

    gates = compare.gates(fail_on, margin)
    request = request_of(writing=not dry_run, quiet=quiet or form != "table", **asked)
    with hidden_plugins_told():
        if dry_run:
            _show_plan(request)
            return
        with progress(quiet=quiet) as report:
            announce = None if quiet else partial(click.echo, err=True)
            result = trial.run(request, report, announce)
    judged = compare.report(
        [compare.compare_trial(result, gates, file=str(request.output))], gates, strict=strict
    )
    _show(judged, request.output, form, quiet=quiet)
    ctx.exit(judged.exit_code)


def _show_plan(request: TrialRequest) -> None:
    from kdbench import render, trial

    whole = trial.plan(request)
    render.plan(render.console(stderr=False), whole)


def _show(judged: Any, path: Path, form: str, *, quiet: bool) -> None:
    from kdbench.cli.compare import show

    if quiet:
        click.echo(click.format_filename(path))
        return
    show(judged, form)
    if form == "table":
        click.echo(f"Result: {click.format_filename(path)}")
