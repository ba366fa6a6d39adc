"""`kdbench compile`: compile here, write a folder that travels, run it elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli import options
from kdbench.cli.run import progress

if TYPE_CHECKING:
    from kdbench.manifest import Parcel
    from kdbench.request import Request


@click.command(short_help="Compile a student here, to run it elsewhere.")
@options.student
@options.backends("Compile for these.", required=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder to write; never overwritten, and never half-written.",
)
@options.devices("Devices by id; one that is named need not be here.")
@options.profile("The measurement plan whose cells are compiled for. See `kdbench profiles`.")
@options.precisions()
@options.batches()
@options.scenarios()
@options.boundary
@options.threads("Threads of each backend; `cores` are those of this machine, for what compiles them in.")
@options.settings
@options.weights
@options.evaluation
@options.timeouts("describe, probe, compile")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress: print only the path of the folder.")
def command(*, quiet: bool, **asked: Any) -> None:
    """Compile STUDENT for the backends named, and write a folder that `kdbench run --artifact` measures.

    The folder holds the artifacts, the student's bundle that verifies them, and a manifest with the sha256 of
    every file. The machine that runs it needs the plugin and its runtime, but not what compiles.

    A device that is named need not be here where the compiler does without it; the manifest then says so.

    The exit code is 0 if all was compiled, 1 if a backend cannot compile it, 2 for bad input, 3 if a backend
    is unavailable here. Unless it is 0, nothing is written.
    """
    from kdbench import packing
    from kdbench.cli.request import hidden_plugins_told

    request = _request(quiet=quiet, **asked)
    with hidden_plugins_told(), progress(quiet=quiet) as report:
        parcel = packing.pack(request, report)
    _show(parcel, quiet=quiet)


def _request(*, quiet: bool, output: Path, weights: Any, evaluation: Path | None, **asked: Any) -> Request:
    """Turn the options into what `packing` takes, and refuse at once what can be refused."""
    from functools import partial

    from kdbench import nursery, parcel
    from kdbench.cli.request import options_by_backend, plugins, resolved
    from kdbench.errors import UsageError
    from kdbench.request import Request, fitted, networks

    parcel.refuse_taken(output)
    plan = resolved(**asked)
    if plan.crossover.largest:
        raise UsageError(
            f"The profile {plan.name} searches for batch sizes, and compiles on the way.",
            hint="Give another --profile, and the sizes with --batch.",
        )
    tell = None if quiet else partial(click.echo, err=True)
    student = nursery.find(plan.plan.student, weights=weights, evaluation=evaluation, tell=tell)
    plan, _ = fitted(
        plan, student, precisions_asked=bool(asked["precisions"]), batches_asked=bool(asked["batches"])
    )
    networks(student, plan.plan)
    return Request(
        student=student,
        profile=plan,
        output=output,
        backends=asked["backends"],
        devices=asked["devices"],
        options=options_by_backend(asked["settings"]),
        argv=tuple(sys.argv[1:]),
        plugins=plugins(),
    )


def _show(parcel: Parcel, *, quiet: bool) -> None:
    """Print what is in the folder, or with `quiet` its path alone."""
    from kdbench.strict import clean

    if not quiet:
        for packed in parcel.manifest.artifacts:
            click.echo(f"{packed}: compiled in {packed.compile_s:.2f} s, {packed.bytes} bytes of its own")
            if packed.absent:
                click.echo(clean(f"  without the device {packed.device.id}: {packed.absent}"))
        click.echo(
            f"Run it where the plugin is: kdbench run --artifact {clean(parcel.root.name)} --trust-code"
        )
    click.echo(click.format_filename(parcel.root))
