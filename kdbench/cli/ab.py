"""`kdbench ab`: two sides alternated slice by slice, and the verdict on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.run import several
from kdbench.cli.types import Checked, Duration, Margin, Option, Timeout
from kdbench.sections import Batch, Blocks, Text, Threads
from kdbench.spec import Precision, Scenario

if TYPE_CHECKING:
    from kdbench.trial import TrialRequest

FORMATS = ("table", "markdown", "json", "csv")


@click.command(short_help="Alternate two sides slice by slice: is B faster than A?")
@click.argument("student", required=False, metavar="[STUDENT]")
@click.argument("other", required=False, metavar="[OTHER]")
@several("-b", "--backend", "backends", kind=Text, metavar="NAME[,NAME]", text="Backend of A, and of B.")
@several("--device", "devices", kind=Text, metavar="ID[,ID]", text="Device of A, and of B.")
@several("--precision", "precisions", kind=Precision, metavar="fp32[,bf16]", text="Precision of A, and of B.")
@click.option(
    "--python",
    "pythons",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PYTHON",
    help="Interpreter of A's environment; given again, of B's. Given once it is B's, and A is this one.",
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
@several("--batch", "batches", kind=Batch, metavar="1,8,32", text="Batch sizes. [default: 1]")
@several(
    "--scenario",
    "scenarios",
    kind=Scenario,
    metavar="latency,throughput",
    text="What is alternated: slices of calls, or windows. [default: latency]",
)
@click.option(
    "--threads",
    type=Checked(Threads, "threads"),
    metavar="N|cores|vendor",
    help="Threads of both sides; 1 is the steadiest gauge.",
)
@click.option(
    "--budget",
    type=Duration(),
    metavar="30s",
    help="Time for the blocks, whose number it fixes beforehand; preparing comes on top.  [default: 30s]",
)
@click.option(
    "--blocks", type=Checked(Blocks, "blocks"), metavar="N", help="So many blocks, instead of --budget."
)
@click.option(
    "--rebuild", is_flag=True, help="Compile anew for each block, so that builds are part of what varies."
)
@click.option(
    "--margin", type=Margin(), metavar="3%", help="What is still no change.  [default: 3% of time, 0.5pp]"
)
@click.option(
    "--fail-on", metavar="METRIC:MARGIN[,...]", help="What alone decides the exit code; see compare."
)
@click.option("--strict", is_flag=True, help="Exit with 5 where the verdict is inconclusive.")
@click.option("--profile", default="ab", show_default=True, metavar="NAME|FILE", help="The measurement plan.")
@click.option(
    "--timeout",
    "timeouts",
    type=Timeout(),
    multiple=True,
    metavar="[PHASE=]30s",
    help="Time limit of describe, probe, compile, load, run, or of each of them.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be measured, and stop.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the result goes; never overwritten. [default: ./results or ., named by time]",
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How it is told."
)
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
