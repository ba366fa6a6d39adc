"""The command line: a group that imports a command only when it is called, and turns errors into exits.

Nothing but click is imported here, so that `kdbench --help` answers at once; a command's module imports
the rest inside its function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import click

from kdbench.errors import KdbenchError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("kdbench.cli.run:command", "Time one student on every backend that works here."),
    "compile": ("kdbench.cli.compile:command", "Compile a student here, to run it elsewhere."),
    "show": ("kdbench.cli.show:command", "Show the table of a result file or journal again."),
    "compare": ("kdbench.cli.compare:command", "Say what changed between results, and how sure that is."),
    "ab": ("kdbench.cli.ab:command", "Alternate two sides slice by slice: is B faster than A?"),
    "backends": (
        "kdbench.cli.backends:command",
        "Tell which backends work here, and what mends the others.",
    ),
    "doctor": (
        "kdbench.cli.doctor:command",
        "Tell what disturbs measurements here, and what this machine can tell apart.",
    ),
    "plugin": ("kdbench.cli.plugin:command", "Check a backend's plugin, or begin a new one."),
    "students": ("kdbench.cli.students:command", "List, show and verify student bundles."),
    "profiles": ("kdbench.cli.profiles:command", "List, show and check measurement plans."),
    "distill": ("kdbench.cli.distill:command", "Train a student from its teacher and bundle it."),
    "import": ("kdbench.cli.import_:command", "Make a bundle of your own classifier."),
}
"""Every command: where it is, as `module:attribute`, and what it does in one line."""

BUG, BAD_INPUT, INTERRUPTED, READER_GONE = 1, 2, 130, 141


class Commands(click.Group):
    """A group whose commands are data until one is called, and the one place where errors end."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or offer the nearest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            meant = get_close_matches(args[0], COMMANDS, n=1)
            offer = f"Did you mean {meant[0]}?" if meant else f"There are {', '.join(COMMANDS)}."
            ctx.fail(f"There is no command {args[0]!r}. {offer}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line, which already prints what `--help` and `--version` ask for."""
        with _quiet_when_reader_is_gone():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that went away (`| head`) ends it quietly."""
        with _quiet_when_reader_is_gone():
            return super().invoke(ctx)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and exit; every error is a sentence, with a traceback only on `--debug`."""
        asked: dict[str, bool] = {}
        try:
            code = super().main(
                *args, **{"prog_name": "kdbench", **extra, "obj": asked, "standalone_mode": False}
            )
        except Exception as exc:
            # The outermost frame: whatever arrives here, a user gets a sentence and an exit code.
            if "debug" in asked:
                import traceback

                traceback.print_exception(exc)
            code = _explain(exc, debug="debug" in asked)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _quiet_when_reader_is_gone() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as it is where standard output was closed
                sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would raise once more when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(READER_GONE) from None


def _explain(exc: Exception, *, debug: bool) -> int:
    """Say on standard error what went wrong and how to mend it, and give the exit code."""
    match exc:
        case KdbenchError():
            message, hint, code = exc.message, exc.hint, exc.exit_code
        case click.ClickException():
            context = getattr(exc, "ctx", None)
            hint = f"`{context.command_path} --help` lists what there is." if context else ""
            message, code = exc.format_message(), exc.exit_code
        case click.Abort():
            message, hint, code = "Interrupted.", "", INTERRUPTED
        case OSError():
            place = f": {exc.filename}" if exc.filename else ""
            message, hint, code = f"The system refused: {exc.strerror or exc}{place}.", "", BAD_INPUT
        case _:
            advice = "" if debug else "; run again with --debug to see where"
            message, hint, code = f"kdbench has a bug: {type(exc).__name__}: {exc}{advice}.", "", BUG
    click.echo(_printable(f"Error: {message}"), err=True)
    if hint:
        click.echo(_printable(hint), err=True)
    return code


def _printable(text: str) -> str:
    """Take out what a terminal would obey, line by line."""
    from kdbench.strict import clean

    return "\n".join(clean(line) for line in text.split("\n"))


def _debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.obj["debug"] = True


def _accept_debug(command: click.Command) -> click.Command:
    """Let a command and those below it take `--debug` too: it is thought of after the error."""
    command.params.append(_debug_option())
    for below in getattr(command, "commands", {}).values():
        _accept_debug(below)
    return command


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=_debug,
        help="Show the traceback of an error.",
    )


@cache
def _load(name: str) -> click.Command:
    module, attribute = COMMANDS[name][0].split(":")
    command: click.Command = getattr(import_module(module), attribute)
    return _accept_debug(command)


@click.group(cls=Commands, name="kdbench", params=[_debug_option()], invoke_without_command=True)
@click.version_option(package_name="kdbench")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Time one distilled student network on many inference runtimes, and say how far to trust the answer.

    `kdbench run` alone measures every backend that works here, in about a minute.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
