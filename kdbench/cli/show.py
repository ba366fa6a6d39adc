"""`kdbench show`: the table of a result again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Show the table of a result file or journal again.")
@click.argument("path", metavar="RESULT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw the table as a picture.")
@click.option(
    "--width",
    type=click.IntRange(60, 400),
    default=120,
    show_default=True,
    help="Columns of that picture.",
)
def command(path: Path, *, as_json: bool, svg: Path | None, width: int) -> None:
    """Show RESULT, which is a result file, or the journal of a run that did not end."""
    from kdbench.summary import open_summarised

    result = open_summarised(path)
    if as_json:
        from kdbench.strict import encode

        click.echo(encode(result))
        return
    from kdbench import render

    if svg is None:
        render.result(render.console(stderr=False), result, path)
        return
    if svg.suffix.lower() != ".svg":
        raise click.BadParameter(f"{svg} does not end in .svg; nothing was written.", param_hint="'--svg'")
    render.export_svg(result, svg, width)
    click.echo(f"Wrote {click.format_filename(svg)}")
