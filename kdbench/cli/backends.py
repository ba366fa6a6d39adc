"""`kdbench backends`: what exists, what works here, why the others do not, and what mends them."""

from __future__ import annotations

import click


@click.command(short_help="Tell which backends work here, and what mends the others.")
@click.option("--no-probe", is_flag=True, help="Do not try them out: instant, and only what metadata says.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON and nothing else.")
def command(*, no_probe: bool, as_json: bool) -> None:
    """Tell which backends exist, which work on this machine, why the others do not, and what mends them.

    Each is tried out in a process of its own, so that one that crashes or hangs harms nothing.
    """
    from contextlib import nullcontext

    import msgspec

    from kdbench import bench, observers, render, strict
    from kdbench.cli.request import plugins

    quiet = nullcontext(lambda _: None)
    with quiet if no_probe else render.progress(render.console(stderr=True)) as report:
        records = bench.survey(probe=not no_probe, report=report, plugins=plugins())
    if as_json:
        click.echo(msgspec.json.encode([strict.plain(record) for record in records]))
    else:
        watching = [(one.name, str(one)) for one in observers.here()]
        render.backends(render.console(stderr=False), records, watching)
