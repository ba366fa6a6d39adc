"""`kdbench distill`: train a teacher, distil a student from it, write the bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kdbench.card import LadderRow
    from kdbench.distill.recipe import Recipe
    from kdbench.distill.train import Update


@click.command()
@click.argument("recipe", default="digits-2x5")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Draw splits, weights and batches from this seed."
)
@click.option("--labels", type=click.IntRange(1), help="How many labelled images of the unfamiliar domain.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads to train with; part of the outcome.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle's folder.  [default: ./RECIPE-seedN-labelsN]",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is there.")
@click.option("--list", "listing", is_flag=True, help="List the recipes that ship with kdbench, and stop.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def command(
    recipe: str,
    seed: int | None,
    labels: int | None,
    threads: int | None,
    output: Path | None,
    *,
    overwrite: bool,
    listing: bool,
    quiet: bool,
) -> None:
    """Distil a student into a verified bundle, as RECIPE says (a name or a TOML file).

    The embedded recipe takes about half a minute on a laptop's CPU and downloads nothing.
    """
    from kdbench.distill import distill
    from kdbench.distill.recipe import embedded_recipes, read_recipe, recipe_path

    if listing:
        for name in embedded_recipes():
            click.echo(f"{name:<16} {read_recipe(name).title}  ({recipe_path(name)})")
        return
    plan = read_recipe(recipe, seed=seed, labels=labels, threads=threads)
    outcome = distill(plan, output or _folder(plan), _silent if quiet else _progress, overwrite=overwrite)
    click.echo(ladder_table(outcome.ladder))
    for sentence in outcome.account:
        click.echo(click.wrap_text(sentence, 88))
    click.echo(f"\nBundle: {outcome.student.root}  (sha256 {outcome.student.sha256[:12]})")


def ladder_table(ladder: tuple[LadderRow, ...]) -> str:
    """Lay out the ladder as plain columns; the spread stands there where there are several seeds."""
    width = max((len(row.title) for row in ladder), default=0)
    lines = [f"{'network':<{width}}  {'tested on':<9}  {'labels':>6}  {'images':>6}  accuracy"]
    for row in ladder:
        accuracy = f"{100 * row.mean:.1f} %" + ("" if row.std is None else f" ± {100 * row.std:.1f}")
        lines.append(
            f"{row.title:<{width}}  {row.domain:<9}  {row.labels:>6}  {row.images:>6}  {accuracy:>8}"
        )
    return "\n".join(lines) + "\n"


def _folder(plan: Recipe) -> Path:
    return Path(f"{plan.name}-seed{plan.seed}-labels{plan.data.labelled}")


def _silent(update: Update) -> None:
    """Tell nothing."""


def _progress(update: Update) -> None:
    """Redraw one line on a terminal; elsewhere write a line when a stage ends."""
    text = f"{update.stage:<9} {update.step:>5}/{update.steps}  loss {update.loss:.3f}"
    ended = update.step == update.steps
    if sys.stderr.isatty():
        click.echo(f"\r{text}  {update.left_s:4.0f} s left", nl=ended, err=True)
    elif ended:
        click.echo(text, err=True)
