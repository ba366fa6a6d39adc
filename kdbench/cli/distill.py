"""`kdbench distill`: train a teacher, distil a student from it, write the bundle."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.errors import KdbenchError, UsageError

if TYPE_CHECKING:
    from kdbench.distill import Outcome
    from kdbench.distill.forecast import Forecast
    from kdbench.distill.recipe import Recipe
    from kdbench.distill.train import Update

ALL = 10_000_000
SHARES_OF_TWO: dict[str, object] = {
    "data.source_train": 0.8,
    "data.source_test": 0.2,
    "data.test": 0.3,
    "data.labelled": 0.2,
    "data.unlabelled": ALL,
    "data.calibration": 0.1,
}
"""How pictures of two domains are divided, each domain's by itself; the rest is unlabelled."""

SHARES_OF_ONE = SHARES_OF_TWO | {"data.source_train": 0.4, "data.source_test": 0.1, "data.labelled": 0.1}
"""How pictures of one domain are divided."""


@click.command(short_help="Train a teacher, distil a student from it, write the bundle.")
@click.argument("recipe", default="digits-2x5")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Draw splits, weights and batches from this seed."
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    help="Repeat with so many seeds, for means and intervals; the first one's student is kept.",
)
@click.option("--labels", type=click.IntRange(1), help="How many labelled images of the unfamiliar domain.")
@click.option(
    "--source-data",
    type=click.Path(path_type=Path),
    metavar="DIR|NPZ",
    help="Your pictures of the familiar domain: CLASS/IMAGE.png below DIR, or arrays.",
)
@click.option(
    "--target-data",
    type=click.Path(path_type=Path),
    metavar="DIR|NPZ",
    help="Your pictures of the unfamiliar domain, of the same classes.",
)
@click.option(
    "--size", type=click.IntRange(8, 1024), metavar="PIXELS", help="Bring every picture to this many pixels."
)
@click.option(
    "--method",
    metavar="NAME[,NAME]",
    help="Distil by these methods instead of the recipe's; `--list` names them.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace any value of the recipe, as in --set distill.steps=1000; may be given again.",
)
@click.option(
    "--controls/--no-controls", default=True, help="Train what shows the teacher's worth, or do not."
)
@click.option(
    "--ablation",
    type=click.Choice(["none", "full"]),
    default="none",
    help="Add a row for each method.",
)
@click.option(
    "--weights",
    type=click.Choice(["trained", "random"]),
    default="trained",
    help="Train, or leave the weights random: for latency alone.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads to train with; part of the outcome.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The bundle's folder.  [default: ./NAME-seedN-labelsN]",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is there.")
@click.option("--trust-code", is_flag=True, help="Let the recipe import PACKAGE.MODULE:FACTORY.")
@click.option(
    "--list", "listing", is_flag=True, help="List recipes, methods, networks and data sources, and stop."
)
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def command(recipe: str, *, listing: bool, quiet: bool, **asked: Any) -> None:
    """Distil a student into a verified bundle, as RECIPE says (a name or a TOML file).

    The embedded recipe takes about a minute on two CPU cores, half of it for the controls, and downloads
    nothing. Work that was interrupted is taken up where it was by the same command. Under `torchrun` the same
    recipe is trained by several processes.
    """
    if listing:
        _list()
        return
    from kdbench.distill.engine import rank

    try:
        _distil(recipe, quiet=quiet, asked=asked)
    except KdbenchError as fault:
        # What is wrong for one process is wrong for all of its machine: the first one says so.
        if rank("LOCAL_RANK") > 0:
            raise click.exceptions.Exit(fault.exit_code) from fault
        raise


def _distil(recipe: str, *, quiet: bool, asked: dict[str, Any]) -> None:
    from kdbench.distill import Wish, distill
    from kdbench.distill.engine import rank
    from kdbench.distill.recipe import read_recipe, recipe_path

    if asked["weights"] == "random" and (asked["seeds"] or asked["ablation"] != "none"):
        raise UsageError("--seeds and --ablation train, and --weights random does not.")
    plan = read_recipe(recipe, _changes(recipe, asked))
    wish = Wish(
        directory=asked["output"] or _folder(plan, weights=asked["weights"]),
        base=Path() if asked["source_data"] or asked["target_data"] else recipe_path(recipe).parent,
        overwrite=asked["overwrite"],
        controls=asked["controls"],
        ablation=asked["ablation"],
        weights=asked["weights"],
        trust_code=asked["trust_code"],
    )
    silent = quiet or rank() > 0
    speaker = Speaker(plan)
    outcome = distill(
        plan, wish, speaker.tell if not silent else _nothing, speaker.announce if not silent else None
    )
    if outcome is not None:
        _show(outcome)


def _changes(recipe: str, asked: dict[str, Any]) -> dict[str, object]:
    """Give what the options replace in the recipe, by dotted key."""
    from kdbench.distill.recipe import embedded_recipes

    changes: dict[str, object] = {
        "seed": asked["seed"],
        "seeds": asked["seeds"],
        "threads": asked["threads"],
        "data.labelled": asked["labels"],
        "data.size": asked["size"],
    }
    if asked["source_data"] or asked["target_data"]:
        own = _own_data(asked["source_data"], asked["target_data"], embedded=recipe in embedded_recipes())
        changes = own | {key: value for key, value in changes.items() if value is not None}
    if asked["method"] is not None:
        names = [name.strip() for name in asked["method"].split(",")]
        if not all(names):
            raise UsageError(
                f"--method {asked['method']!r} is not NAME[,NAME].",
                hint="`kdbench distill --list` names them.",
            )
        changes["distill.terms"] = [{"method": name} for name in names]
    for setting in asked["settings"]:
        key, value = _setting(setting)
        changes[key] = value
    return changes


def _own_data(source: Path | None, target: Path | None, *, embedded: bool) -> dict[str, object]:
    """Put the user's own pictures in the place of the recipe's; nothing shifts them.

    embedded: whether the recipe ships with kdbench. Its name and its numbers of pictures fit its own data
    only; the folder's name, and shares of the user's, take their place.
    """
    if source is None:
        raise UsageError("--target-data needs --source-data beside it: the teacher's pictures.")
    source, target = source.absolute(), target and target.absolute()  # "." has no name
    kinds = {"npz" if path.suffix == ".npz" else "folder" for path in (source, target) if path}
    if len(kinds) > 1:
        raise UsageError(
            f"{source} and {target} are of two kinds.", hint="Give two folders, or two .npz files."
        )
    arguments = {"familiar": str(source)}
    if target is not None:
        arguments["unfamiliar"] = str(target)
    changes: dict[str, object] = {"data.source": kinds.pop(), "data.arguments": arguments}
    if embedded:
        name = re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-") or "own"
        changes |= {"name": name[:64], "title": source.stem + (f", then {target.stem}" if target else "")}
        changes |= SHARES_OF_TWO if target else SHARES_OF_ONE
    return changes


def _setting(text: str) -> tuple[str, object]:
    """Read KEY=VALUE, the value as TOML has it, or else as text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UsageError(
            f"--set {text!r} is not KEY=VALUE.", hint="Such as --set distill.steps=1000; see the recipe."
        )
    try:
        table = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return key.strip(), value
    # Several lines are no single value.
    return key.strip(), table["value"] if table.keys() == {"value"} else value


def _folder(plan: Recipe, *, weights: str) -> Path:
    labels = f"-labels{plan.data.labelled}" if isinstance(plan.data.labelled, int) else ""
    return Path(f"{plan.name}-seed{plan.seed}{labels}{'-random' if weights == 'random' else ''}")


def _list() -> None:
    from importlib.metadata import entry_points

    from kdbench.card import NETWORKS
    from kdbench.distill.methods import METHODS
    from kdbench.distill.recipe import embedded_recipes, read_recipe, recipe_path
    from kdbench.distill.sources import SOURCES

    click.echo("Recipes")
    for name in embedded_recipes():
        click.echo(f"  {name:<18} {read_recipe(name).title}  ({recipe_path(name)})")
    click.echo("Methods")
    for name, method in METHODS.items():
        click.echo(f"  {name:<18} {method.title}")
    for title, group in (("Networks", NETWORKS), ("Data sources", SOURCES)):
        click.echo(f"{title}\n  {', '.join(sorted(entry_points(group=group).names))}")


def _nothing(update: Update) -> None:
    """Tell nothing."""


class Speaker:
    """Tells of a distillation on standard error: one line that is redrawn on a terminal, else one a stage."""

    def __init__(self, plan: Recipe) -> None:
        self._plan = plan
        self._width = 0

    def announce(self, forecast: Forecast, stages: Sequence[str]) -> None:
        """Say beforehand how long it takes, and what is there already."""
        from kdbench.render.figures import duration

        each = forecast.recipe_s + forecast.controls_s
        told = f"A seed takes about {duration(forecast.recipe_s)}"
        if forecast.controls_s:
            told += f", its controls {duration(forecast.controls_s)} more (--no-controls leaves them out)"
        if self._plan.seeds > 1:
            told += f"; {self._plan.seeds} seeds about {duration(each * self._plan.seeds)}"
        click.echo(f"{told}.", err=True)
        if stages:
            click.echo(f"Taken up from an interrupted run: {', '.join(stages)}.", err=True)

    def tell(self, update: Update) -> None:
        """Tell a step where it is worth a line."""
        ended, tty = update.step == update.steps, sys.stderr.isatty()
        if not (tty or ended):
            return
        seed = f"seed {update.seed}  " if self._plan.seeds > 1 else ""
        loss = "kept" if update.loss is None else f"loss {update.loss:.3f}"
        text = f"{seed}{update.stage:<17} {update.step:>5}/{update.steps}  {loss}"
        if tty:
            text += f"  {update.left_s:4.0f} s left"
            self._width = max(self._width, len(text))
            text = f"\r{text:<{self._width}}"
        click.echo(text, nl=ended, err=True)


def _show(outcome: Outcome) -> None:
    from kdbench import render

    console = render.console(stderr=False)
    if outcome.card.ladder:
        render.ladder(console, outcome.card)
    else:
        click.echo("Untrained: latency means something, accuracy does not.")
    click.echo(f"\nBundle:  {outcome.student.root}  (sha256 {outcome.student.sha256[:12]})")
    if outcome.picture:
        click.echo(f"Picture: {outcome.picture}")
    click.echo(f"Next:    kdbench run {shlex.quote(str(outcome.student.root))}")
