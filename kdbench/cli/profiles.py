"""`kdbench profiles`: the measurement plans that have a name here, one in full, or what is wrong with one."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True, short_help="List, show and check measurement plans.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show and check profiles. A profile is a measurement plan, not a trace of where time goes.

    It says what is measured (precisions, batch sizes, scenarios), how often and for how long, and what a
    backend may take. Those in ./profiles come before those that ship with kdbench.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_profiles)


@command.command("list")
def list_profiles() -> None:
    """List the profiles that `kdbench run --profile NAME` takes."""
    from kdbench import profile

    summaries = profile.available()
    width = max(map(len, summaries))
    for name, summary in summaries.items():
        click.echo(f"{name:<{width}}  {summary}")


@command.command("show")
@click.argument("name", metavar="NAME|FILE")
def show_profile(name: str) -> None:
    """Print a profile with every value, as TOML: a file of your own can begin as a copy."""
    from kdbench import profile

    click.echo(profile.to_toml(profile.load(name)), nl=False)


@command.command("check")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
def check_profiles(paths: tuple[str, ...]) -> None:
    """Tell every problem of these profiles at once, each with its key; exit 2 if there is one."""
    from kdbench import profile
    from kdbench.errors import ProfileError
    from kdbench.strict import clean

    told = []
    for path in paths:
        try:
            click.echo(f"{clean(path)}: {profile.load(path).summary}")
        except ProfileError as fault:
            told.append(str(fault))
    if told:
        raise ProfileError("\n".join(told))
