"""`kdbench plugin`: hold a plugin to its contract, begin a new one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import several
from kdbench.cli.types import Duration
from kdbench.errors import UsageError
from kdbench.sections import Text

if TYPE_CHECKING:
    from kdbench.certificate import Certificate
    from kdbench.checkout import Checkout
    from kdbench.discovery import Source
    from kdbench.testing import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """How to check, whichever backend."""

    only: Sequence[str]
    untried: Sequence[str]
    limit_s: float
    quiet: bool
    debug: bool


@click.group(invoke_without_command=True, short_help="Check a backend's plugin, or begin a new one.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check the plugin of a backend against its contract, or begin a new one.

    docs/tutorial-backend.md writes one from the empty folder on; docs/hooks.md is the contract.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command(short_help="Hold a plugin to its contract.")
@click.argument("plugin", required=False, metavar="[NAME|PATH]")
@several("--only", "only", kind=Text, metavar="ID[,ID]", text="Make these checks only; see --list.")
@several(
    "--backend",
    "backends",
    kind=Text,
    metavar="NAME[,NAME]",
    text="Of the backends that PATH has, check these only. [default: all]",
)
@several(
    "--untried",
    "untried",
    kind=Text,
    metavar="KEY=CHOICE[,...]",
    text="Leave out choices of options that take too long here; the summary says so.",
)
@click.option(
    "--timeout",
    type=Duration(),
    default="5m",
    show_default=True,
    metavar="30s",
    help="How long one check may take.",
)
@click.option("--list", "listed", is_flag=True, help="List the checks, with what each promises.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON and nothing else.")
@click.pass_context
def check(
    ctx: click.Context, /, *, plugin: str | None, listed: bool, as_json: bool, timeout: float, **asked: Any
) -> None:
    """Hold a plugin to its contract: its hooks are called, and their answers compared with what is promised.

    NAME is an installed backend. PATH is a plugin that need not be installed: the folder of its
    distribution, with the pyproject.toml that declares the backend, or a Python module with the five hooks.

    Nothing is installed, and the plugin is imported in other processes only: one that crashes or hangs breaks
    one promise. At the end stands a line that can be pasted, as text and as Markdown.

    The exit code is 0 if no promise is broken, 1 if one is, 2 for bad input, 3 if the backend cannot run
    here: what needs no device is checked all the same.
    """
    if listed:
        _list(as_json=as_json)
        return
    if plugin is None:
        raise UsageError("Which plugin shall be checked?", hint="Give the name of a backend, or a path.")
    order = _Order(
        only=_known(asked["only"]),
        untried=asked["untried"],
        limit_s=timeout,
        quiet=as_json,
        debug="debug" in (ctx.obj or {}),
    )
    checkout = _found(plugin, asked["backends"])
    certificates = [_certified(source, checkout.paths, order) for source in checkout.sources.values()]
    if as_json:
        _print(certificates)
    codes = {one.exit_code for one in certificates}
    ctx.exit(1 if 1 in codes else max(codes))


@command.command(short_help="Write the plugin of a new backend.")
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write. [default: kdbench-NAME]",
)
def new(name: str, directory: Path | None) -> None:
    """Write the plugin of a new backend that will be called NAME.

    It is a whole distribution: pyproject.toml with the entry point, the five hooks, a session and a runner, a
    contract test, a README, and a workflow for continuous integration. It keeps its contract at once, on a
    small evaluator in NumPy that stands in for the runtime. What to replace is marked EDIT.

    Nothing is overwritten, and nothing is left half-written.
    """
    from kdbench import scaffold
    from kdbench.strict import clean

    written = scaffold.write(name, Path(f"kdbench-{name}") if directory is None else directory)
    folder = clean(click.format_filename(written.folder))
    click.echo(f"Written: {folder}, with {len(written.files)} files. Now:\n")
    steps = {
        f"kdbench plugin check {folder}": "its contract, which it keeps",
        f"pip install -e '{folder}[dev]'": "install it, to be edited",
        f"kdbench run -b {name}": "measure it",
    }
    width = max(map(len, steps))
    for line, told in steps.items():
        click.echo(f"  {line:<{width}}  # {told}")
    click.echo(f"\nThen replace what is marked EDIT: grep -rn EDIT {folder}")


def _known(only: Sequence[str]) -> Sequence[str]:
    """Give the checks asked for; raises UsageError for one that is not there."""
    from kdbench.discovery import nearest
    from kdbench.testing import CHECKS

    known = [one.id for one in CHECKS]
    for name in only:
        if name not in known:
            meant = nearest(name, known)
            offer = f"Did you mean {meant}? " if meant else ""
            raise UsageError(f"There is no check {name!r}.", hint=f"{offer}--list has them all.")
    return only


def _found(word: str, backends: Sequence[str]) -> Checkout:
    """Find what a word means: a path if it can be nothing else, or if no installed backend is called so."""
    from kdbench.checkout import is_path, open_checkout

    installed = None if is_path(word) else _installed(word)
    if installed is not None:
        if backends:
            raise UsageError(f"{word} is one backend.", hint="--backend chooses among those that a PATH has.")
        return installed
    checkout = open_checkout(Path(word))
    for name in backends:
        if name not in checkout.sources:
            there = ", ".join(checkout.sources)
            raise UsageError(f"{word} has no backend {name!r}.", hint=f"It has {there}.")
    kept = {name: one for name, one in checkout.sources.items() if not backends or name in backends}
    return replace(checkout, sources=kept)


def _installed(name: str) -> Checkout | None:
    """Find an installed backend; None where nothing but a path can be meant."""
    from kdbench import catalogue, discovery
    from kdbench.checkout import Checkout
    from kdbench.cli.request import hidden_plugins_told, plugins
    from kdbench.errors import UnknownBackend

    names = plugins()
    found, faults = discovery.installed(only=None if names is None else ",".join(names))
    if name in found:
        return Checkout({name: found[name]}, ())
    if Path(name).exists():
        return None
    with hidden_plugins_told():
        for fault in faults:
            if fault.name == name and names is None:
                raise UnknownBackend(fault.reason)
        raise catalogue.explain(name, list(found))


def _certified(source: Source, paths: Sequence[str], order: _Order) -> Certificate:
    """Make the checks of one backend, and show each as soon as it is made."""
    from time import monotonic

    from kdbench import render
    from kdbench.certificate import Certificate
    from kdbench.interruption import heard_once
    from kdbench.orphans import orphans_adopted
    from kdbench.progress import Progress
    from kdbench.render import contract
    from kdbench.testing import CHECKS, Settings, run_apart

    asked = [one.id for one in CHECKS if not order.only or one.id in order.only]
    settings = Settings(untried=dict.fromkeys(order.untried, "left out on the command line"))
    console, begin, width = render.console(stderr=order.quiet), monotonic(), max(map(len, asked))
    findings: list[Finding] = []
    if not order.quiet:
        contract.heading(console, source, paths)
    with heard_once(), orphans_adopted(), render.progress(console) as report:
        report(Progress(source.name, asked[0], 0.0))
        with closing(run_apart(source, settings, only=asked, limit_s=order.limit_s, paths=paths)) as run:
            for finding in run:
                findings.append(finding)
                if not order.quiet:
                    contract.finding(console, finding, width, debug=order.debug)
                following = asked[len(findings)] if len(findings) < len(asked) else ""
                report(Progress(source.name, following, len(findings) / len(asked)))
    certificate = Certificate(source, findings, len(CHECKS), order.untried)
    if not order.quiet:
        contract.summary(console, certificate, monotonic() - begin, debug=order.debug)
    return certificate


def _list(*, as_json: bool) -> None:
    from kdbench import render
    from kdbench.render import contract
    from kdbench.testing import CHECKS

    if as_json:
        import msgspec

        facts = [{"id": one.id, "promise": one.promise, "hook": one.hook, "look": one.look} for one in CHECKS]
        click.echo(msgspec.json.encode(facts))
    else:
        contract.checks(render.console(stderr=False), CHECKS)


def _print(certificates: Sequence[Certificate]) -> None:
    import msgspec

    from kdbench import strict

    click.echo(msgspec.json.encode([strict.plain(one.record()) for one in certificates]))
