"""Options that several commands have, each declared once; what a command says of its own is an argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kdbench.cli.types import Checked, Duration, Margin, Setting, Several, Timeout, together
from kdbench.sections import Batch, Blocks, Text, Threads
from kdbench.spec import BOUNDARIES, Precision, Scenario

Decorator = Callable[[Any], Any]

FORMATS = ("table", "markdown", "json", "csv")


def several(*names: str, kind: Any, metavar: str, text: str, required: bool = False) -> Decorator:
    """Declare an option that takes a comma list, and may be given again."""
    return click.option(
        *names,
        type=Several(Checked(kind, names[-1])),
        multiple=True,
        callback=together,
        required=required,
        metavar=metavar,
        help=text,
    )


student = click.argument("student", required=False, metavar="[STUDENT]")


def backends(text: str, *, required: bool = False) -> Decorator:
    """Declare `-b`: names of backends."""
    return several(
        "-b", "--backend", "backends", kind=Text, metavar="NAME[,NAME]", text=text, required=required
    )


def devices(text: str) -> Decorator:
    """Declare `--device`."""
    return several("--device", "devices", kind=Text, metavar="ID[,ID]", text=text)


def precisions(text: str = "Precisions to compute in.", *, metavar: str = "fp32,bf16") -> Decorator:
    """Declare `--precision`."""
    return several("--precision", "precisions", kind=Precision, metavar=metavar, text=text)


def batches(text: str = "Batch sizes.", *, metavar: str = "1,8,32") -> Decorator:
    """Declare `--batch`."""
    return several("--batch", "batches", kind=Batch, metavar=metavar, text=text)


def scenarios(text: str = "One call at a time, or as many in flight as pay.") -> Decorator:
    """Declare `--scenario`."""
    return several("--scenario", "scenarios", kind=Scenario, metavar="latency,throughput", text=text)


def threads(text: str) -> Decorator:
    """Declare `--threads`: one answer for all."""
    return click.option("--threads", type=Checked(Threads, "threads"), metavar="N|cores|vendor", help=text)


def blocks(text: str) -> Decorator:
    """Declare `--blocks`."""
    return click.option("--blocks", type=Checked(Blocks, "blocks"), metavar="N", help=text)


def budget(text: str, *, metavar: str = "30s") -> Decorator:
    """Declare `--budget`."""
    return click.option("--budget", type=Duration(), metavar=metavar, help=text)


def profile(text: str, *, default: str = "quick") -> Decorator:
    """Declare `--profile`."""
    return click.option("--profile", default=default, show_default=True, metavar="NAME|FILE", help=text)


def timeouts(phases: str = "describe, probe, compile, load, run") -> Decorator:
    """Declare `--timeout` of these phases."""
    return click.option(
        "--timeout",
        "timeouts",
        type=Timeout(),
        multiple=True,
        metavar="[PHASE=]30s",
        help=f"Time limit of {phases}, or of each of them.",
    )


def margin(text: str) -> Decorator:
    """Declare `--margin`."""
    return click.option("--margin", type=Margin(), metavar="3%", help=text)


def form(formats: tuple[str, ...] = FORMATS) -> Decorator:
    """Declare `--format`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        help="How it is told.",
    )


def output(text: str) -> Decorator:
    """Declare `--output`: the file of a result."""
    return click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help=text)


def pythons(text: str) -> Decorator:
    """Declare `--python`, which may be given again."""
    return click.option(
        "--python",
        "pythons",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="PYTHON",
        help=text,
    )


boundary = click.option(
    "--boundary",
    type=click.Choice(BOUNDARIES),
    help="Where a call begins and ends: with host arrays, copies included, or with inputs on the device.",
)
settings = click.option(
    "-o",
    "--option",
    "settings",
    type=Setting(),
    multiple=True,
    metavar="BACKEND.KEY=VALUE",
    help="Set an option of a backend; may be given again.",
)
weights = click.option(
    "--weights",
    type=click.Choice(["trained", "random"]),
    default="trained",
    show_default=True,
    help="Of a student that is made on first use: random is made at once, and has no accuracy.",
)
evaluation = click.option(
    "--eval",
    "evaluation",
    type=click.Path(path_type=Path),
    metavar="FILE.npz|DIR",
    help="Labelled images to verify a model file with; without them it has no accuracy.",
)
strict = click.option("--strict", is_flag=True, help="Exit with 5 where the verdict is inconclusive.")
