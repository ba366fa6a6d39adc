"""`kdbench show`: the table of a result again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kdbench.records import Result


@click.command(short_help="Show the table of a result file or journal again.")
@click.argument("path", metavar="RESULT", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(
        [
            "table",
            "json",
            "csv",
            "slices-csv",
            "bmf",
            "github-action-benchmark",
            "github-action-benchmark-bigger",
        ]
    ),
    metavar="FORMAT",
    help="Print table, json, csv (a row per cell), slices-csv, bmf (for Bencher), github-action-benchmark "
    "(what is better when smaller) or github-action-benchmark-bigger.  [default: table]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw the table as a picture.")
@click.option(
    "--width",
    type=click.IntRange(60, 400),
    default=120,
    show_default=True,
    help="Columns of that picture.",
)
def command(path: Path, *, form: str | None, as_json: bool, svg: Path | None, width: int) -> None:
    """Show RESULT, which is a result file, or the journal of a run that did not end."""
    from kdbench.summary import open_summarised

    result = open_summarised(path)
    if as_json and form not in (None, "json"):
        raise click.BadParameter(f"--json asks for another format than {form}.", param_hint="'--format'")
    form = "json" if as_json else form or "table"
    if form != "table":
        if svg is not None:
            raise click.BadParameter("A picture shows the table and nothing else.", param_hint="'--svg'")
        click.echo(_exported(result, form), nl=form == "json")
        return
    from kdbench import render

    if svg is None:
        render.result(render.console(stderr=False), result, path)
        return
    if svg.suffix.lower() != ".svg":
        raise click.BadParameter(f"{svg} does not end in .svg; nothing was written.", param_hint="'--svg'")
    render.export_svg(result, svg, width)
    click.echo(f"Wrote {click.format_filename(svg)}")


def _exported(result: Result, form: str) -> str | bytes:
    """Write the result for another program."""
    from kdbench import export
    from kdbench.strict import encode

    if form == "json":
        return encode(result)
    if form == "bmf":
        return export.bmf([result])
    if form.startswith("github-action-benchmark"):
        return export.github_action_benchmark([result], bigger=form.endswith("bigger"))
    return export.result_csv(result) if form == "csv" else export.slices_csv(result)
