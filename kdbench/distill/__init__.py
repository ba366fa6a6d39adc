"""Teacher to student to bundle: the only part of the core that trains, and that needs torch.

`recipe` reads what `tables` define, `sources` have the pictures, `splits` divide them, `nets` are the
networks, `methods` what a student can learn from; `train` runs the steps on an `engine`, `ladder` the stages,
`export` checks the outcome and packs it, `picture` draws it. `kdbench.account` says what a ladder shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from kdbench.errors import Interrupted, RecipeError, UsageError
from kdbench.spec import Student
from kdbench.student import check_writable, write_bundle

if TYPE_CHECKING:
    from kdbench.card import Card
    from kdbench.distill.engine import Engine
    from kdbench.distill.forecast import Forecast
    from kdbench.distill.ladder import Ablation, Climb
    from kdbench.distill.recipe import Recipe
    from kdbench.distill.sources import Offer
    from kdbench.distill.splits import Splits
    from kdbench.distill.train import Progress

_NEEDS = {
    "matplotlib": "matplotlib",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
    "torch": "torch",
}

PARTIAL = ".partial"
"""Work in progress stands beside the bundle, in a folder of its name with this at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for beside the recipe.

    base: the folder that relative paths in the recipe refer to. controls: whether to train the rows that show
    what the teacher is worth. weights: `random` makes an untrained student, for latency alone.
    trust_code: whether factories that are no entry points may be imported.
    """

    directory: Path
    base: Path = Path()
    overwrite: bool = False
    controls: bool = True
    ablation: Ablation = "none"
    weights: Literal["trained", "random"] = "trained"
    trust_code: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished distillation: the bundle, its card, the picture beside it, seconds of each seed's stages."""

    student: Student
    card: Card
    picture: Path | None
    stage_s: tuple[dict[str, float], ...]


Announce = Callable[["Forecast", Sequence[str]], None]
"""Told, before training, how long a repetition takes and which stages are there from an interrupted run."""


def distill(
    recipe: Recipe, wish: Wish, progress: Progress, announce: Announce | None = None
) -> Outcome | None:
    """Train teacher and student as the recipe says and write the student's verified bundle.

    Interrupted work is taken up where it was. Raises before training if the bundle could not be written.
    Answers None in every process but the first, where several train together.
    """
    require_libraries()
    check_trust(recipe, wish)
    check_writable(wish.directory, overwrite=wish.overwrite)
    from kdbench.distill.engine import start
    from kdbench.distill.sources import offer
    from kdbench.distill.train import deterministic

    offered = offer(recipe.data.source, recipe.data.arguments, base=wish.base, size=recipe.data.size)
    engine = start(recipe.engine)
    with deterministic(recipe.threads):
        if wish.weights == "random":
            return _untrained(recipe, wish, offered)
        climbs = _climb(recipe, wish, offered, engine, progress, announce)
        if engine.rank:
            return None
        return _packed(recipe, wish, offered, climbs)


def _climb(
    recipe: Recipe, wish: Wish, offered: Offer, engine: Engine, progress: Progress, announce: Announce | None
) -> list[Climb]:
    """Run every repetition; what an interruption leaves is kept beside the bundle."""
    from kdbench.distill.checkpoint import Store
    from kdbench.distill.forecast import forecast
    from kdbench.distill.ladder import climb
    from kdbench.distill.splits import make_splits
    from kdbench.distill.train import Trainer

    climbs: list[Climb] = []
    work = partial_folder(wish.directory)
    try:
        for number in range(recipe.seeds):
            own = msgspec.structs.replace(recipe, seed=recipe.seed + number)
            splits = make_splits(offered, own.data, own.seed)
            store = Store(work / work_key(own, splits, engine), writing=engine.rank == 0)
            trainer = Trainer(recipe=own, engine=engine, store=store, progress=progress)
            # Several processes train together in a trial too, whether they are silent or not.
            if not number and (announce is not None or engine.processes > 1):
                expected = forecast(trainer, splits, controls=wish.controls)
                if announce is not None:
                    announce(expected, store.stages())
            climbs.append(climb(trainer, splits, controls=wish.controls, ablation=wish.ablation))
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted. What was finished is kept in {work}.", hint="The same command goes on from there."
        ) from None
    return climbs


def _packed(recipe: Recipe, wish: Wish, offered: Offer, climbs: Sequence[Climb]) -> Outcome:
    import shutil

    from kdbench.distill.export import pack
    from kdbench.distill.ladder import together
    from kdbench.distill.picture import draw, picture_path

    first = climbs[0]
    assert first.teacher is not None
    assert first.student is not None
    ladder = together([one.rows for one in climbs])
    card, files = pack(recipe, offered, first.splits, first.teacher, first.student, ladder)
    student = write_bundle(wish.directory, card, files, overwrite=wish.overwrite)
    picture = draw(card, first.splits, picture_path(wish.directory))
    shutil.rmtree(partial_folder(wish.directory), ignore_errors=True)
    return Outcome(student, card, picture, tuple(one.stage_s for one in climbs))


def _untrained(recipe: Recipe, wish: Wish, offered: Offer) -> Outcome:
    """Make a student of random weights, whose activations have the size of trained ones."""
    from kdbench.distill.export import pack
    from kdbench.distill.ladder import fresh
    from kdbench.distill.splits import make_splits
    from kdbench.distill.train import settle_norms

    splits = make_splits(offered, recipe.data, recipe.seed)
    teacher, student = (fresh(recipe, plan, splits.classes) for plan in (recipe.teacher, recipe.student))
    for network in (teacher, student):
        settle_norms(network, splits.unlabelled.images[:64])
    card, files = pack(recipe, offered, splits, teacher, student, ())
    return Outcome(write_bundle(wish.directory, card, files, overwrite=wish.overwrite), card, None, ())


def partial_folder(directory: Path) -> Path:
    """Give the folder in which unfinished work on a bundle is kept."""
    directory = directory.absolute()
    return directory.with_name(directory.name + PARTIAL)


def work_key(recipe: Recipe, splits: Splits, engine: Engine) -> str:
    """Name a repetition's work by all that decides it, so that no other recipe's is taken up."""
    import torch

    import kdbench

    facts = {
        "recipe": msgspec.to_builtins(msgspec.structs.replace(recipe, seeds=1)),
        "data": splits.sha256,
        "versions": [kdbench.__version__, str(torch.__version__)],
        "engine": [engine.processes, str(engine.device)],
    }
    text = msgspec.json.encode(facts, order="sorted")
    return f"seed{recipe.seed}-{hashlib.sha256(text).hexdigest()[:12]}"


def check_trust(recipe: Recipe, wish: Wish) -> None:
    """Refuse a recipe that would import somebody's code, unless it is trusted."""
    for plan in (recipe.teacher, recipe.student):
        if ":" in plan.network and not wish.trust_code:
            raise RecipeError(
                f"The recipe takes its network from {plan.network!r}, which would run whatever stands there.",
                hint="If you trust the recipe and that package, add --trust-code.",
            )


def require_libraries() -> None:
    """Raise one UsageError that names every library that training needs and that is not installed."""
    lacking = [distribution for module, distribution in _NEEDS.items() if find_spec(module) is None]
    if lacking:
        raise UsageError(
            f"Distillation needs what is not installed here: {', '.join(lacking)}.",
            hint="In a checkout of kdbench: pip install -r requirements-dev.txt",
        )
