"""`kdbench compare`: a verdict on two results or more, and the exit code that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdbench.comparison import Report

TRACKERS = ("bmf", "github-action-benchmark", "github-action-benchmark-bigger")
"""Formats of the new results alone. github-action-benchmark wants two files, one of what is better smaller
and one of what is better bigger."""

FORMATS = (*options.FORMATS, *TRACKERS)

ACROSS = ("backend", "device", "precision", "variant", "threads")


@click.command(short_help="Say what changed between results: better, worse, same, or not to be told.")
@click.argument("words", nargs=-1, required=True, metavar="BASE NEW [MORE...]")
@click.option(
    "--across", "key", type=click.Choice(ACROSS), help="Within one file: which wins, by how much, is it real?"
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME[,NAME]", help="Look at these only.  [default: all]"
)
@options.margin("What is still no change of time.  [default: 3%, p90 5%]")
@click.option(
    "--fail-on",
    metavar="METRIC:MARGIN[,...]",
    help="What alone decides the exit code, such as latency.p50:5%,accuracy.top1:-0.5pp,memory.peak:10%.",
)
@options.strict
@click.option(
    "--allow-mismatch", is_flag=True, help="Judge even another student, other data, another boundary."
)
@options.form(FORMATS)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--remeasure", is_flag=True, help="Measure both again, alternated, where all of it can be had here."
)
@click.option(
    "--student",
    "students",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="With --remeasure: a bundle that a file was measured with; may be given again.",
)
@options.pythons("With --remeasure: the interpreter of base; given again, of new. Given once it is new's.")
@options.budget("With --remeasure: time for the blocks.  [default: 30s]")
@options.output("Where it goes; never overwritten.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    words: tuple[str, ...],
    form: str,
    as_json: bool,
    output: Path | None,
    **asked: Any,
) -> None:
    r"""Compare NEW, and each further result, with BASE: cell by cell, metric by metric, against a margin.

    A result is a file, a journal, a folder (all its results, oldest first), a pattern, or one of the words
    `latest` and `previous`, the newest results in ./results or here. One file alone must be a trial of
    `kdbench ab`, or goes with --across.

    Two runs lie apart by more than most changes, whatever runs in them: the interval allows for that. Where
    the verdict is inconclusive, the `kdbench ab` command that settles it is told.

    \b
    kdbench compare old.json new.json --fail-on latency.p50:5%
    kdbench compare previous latest --format markdown
    kdbench compare latest --across backend

    The exit code is 0, or 1 where something is worse, 2 for bad input, 4 where nothing can be compared, 5
    with --strict where the verdict is inconclusive or new lacks what base measured.
    """
    form = _form(form, as_json=as_json, output=output)
    _refuse_existing(output)
    judged = _judged(words, form, **asked)
    if form in TRACKERS:
        _print(_exported(words, form), output)
    else:
        show(judged, form, output)
    ctx.exit(judged.exit_code)


def _judged(
    words: tuple[str, ...],
    form: str,
    *,
    key: str | None,
    strict: bool,
    remeasure: bool,
    students: tuple[Path, ...],
    pythons: tuple[Path, ...],
    budget: float | None,
    **asked: Any,
) -> Report:
    """Compare what is named, or measure it again."""
    from kdbench import compare

    options = _options(**asked)
    again: dict[str, Any] = {"students": students, "pythons": pythons, "budget": budget}
    if not remeasure:
        _refuse_idle(**again)
        return compare.compare_named(words, options, key=key, strict=strict)
    from kdbench.cli.remeasuring import remeasured

    _refuse_beside_remeasure(key, form)
    judged: Report = remeasured(words, options, strict=strict, quiet=form != "table", **again)
    return judged


def _refuse_beside_remeasure(key: str | None, form: str) -> None:
    """Refuse what is about the files as they are, where both are measured again."""
    from kdbench.errors import UsageError

    if key is not None:
        raise UsageError(
            "--remeasure measures two files again, and --across compares the cells of one.",
            hint="Leave one of them out.",
        )
    if form in TRACKERS:
        raise UsageError(
            f"--format {form} is of what the files say, and --remeasure measures again.",
            hint="Give table, markdown, json or csv; or pass the new result file to `kdbench compare`.",
        )


def _refuse_idle(**given: Any) -> None:
    """Refuse what only --remeasure listens to."""
    from kdbench.errors import UsageError

    for name, value in given.items():
        if value:
            raise UsageError(
                f"--{name.rstrip('s')} is for --remeasure, which is not given.",
                hint="Add --remeasure to measure again; without it, only the files are read.",
            )


def show(judged: Report, form: str, output: Path | None = None) -> None:
    """Show a report as a table, or print it as text, or write that text to a new file."""
    if form == "table":
        from kdbench import render

        render.comparison(render.console(stderr=False), judged)
        return
    if form == "json":
        from kdbench.strict import encode

        _print(encode(judged).decode(), output)
        return
    from kdbench import export

    _print(export.markdown(judged) if form == "markdown" else export.csv(judged), output)


def _exported(words: Sequence[str], form: str) -> str:
    """Give the results that are new in the form that a tracker of benchmarks reads."""
    from kdbench import compare, export

    paths = compare.named(words)
    found = [compare.load(path).result for path in paths[1:] or paths]
    if form == "bmf":
        return export.bmf(found)
    return export.github_action_benchmark(found, bigger=form.endswith("bigger"))


def _options(
    *, metrics: tuple[str, ...], margin: float | None, fail_on: str | None, allow_mismatch: bool
) -> Any:
    from dataclasses import replace

    from kdbench import compare
    from kdbench.floors import load as floors

    names = [name.strip() for words in metrics for name in words.split(",")]
    return replace(
        compare.gates(fail_on, margin),
        metrics=tuple(compare.known(name).name for name in names),
        allow_mismatch=allow_mismatch,
        floors=floors,
    )


def _form(form: str, *, as_json: bool, output: Path | None) -> str:
    from kdbench.errors import UsageError

    if as_json and form not in ("table", "json"):
        raise UsageError(f"--json and --format {form} exclude each other.", hint="Give one of them.")
    form = "json" if as_json else form
    if output is not None and form == "table":
        raise UsageError(
            "A table is for the screen, and --output is a file.",
            hint="Add --format markdown, json or csv.",
        )
    return form


def _refuse_existing(output: Path | None) -> None:
    from kdbench.errors import UsageError

    if output is not None and output.exists():
        raise UsageError(f"{output} exists.", hint="Choose another name with --output.")


def _print(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file, whole or not at all."""
    text = text if text.endswith("\n") else f"{text}\n"
    if output is None:
        click.echo(text, nl=False)
        return
    from kdbench import results

    try:
        results.put(output, text.encode())
    except OSError as error:
        raise results.unwritable(output, error) from error
