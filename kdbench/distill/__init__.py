"""Teacher to student to bundle: the only part of the core that trains, and that needs torch.

`recipe` reads what `tables` define, `sources` have the pictures, `splits` divide them, `nets` are the
networks, `methods` what a student can learn from; `train` runs the steps on an `engine`, `ladder` the stages,
`export` checks the outcome and packs it, `picture` draws it. `kdbench.account` says what a ladder shows.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from kdbench.distill.places import (
    check_places,
    partial_folder as partial_folder,
    picture_path,
    remove_if_empty,
    remove_work,
)
from kdbench.errors import Interrupted, RecipeError, UsageError
from kdbench.interruption import heard_once
from kdbench.spec import Student
from kdbench.student import write_bundle

if TYPE_CHECKING:
    from kdbench.card import Card
    from kdbench.distill.checkpoint import Store
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

    Interrupted work is taken up where it was. Raises before training if the bundle could not be written, or
    the recipe means what cannot be trained.
    Answers None in every process but the first, where several train together.
    """
    require_libraries()
    check_trust(recipe, wish)
    check_threads(recipe.threads)
    check_places(
        wish.directory,
        overwrite=wish.overwrite,
        pictured=wish.weights == "trained",
        data=recipe.data,
        base=wish.base,
    )
    with heard_once(), _told_of_interruption(wish), _working_folder_last(trusted=wish.trust_code):
        return _distil(recipe, wish, progress, announce)


def _distil(recipe: Recipe, wish: Wish, progress: Progress, announce: Announce | None) -> Outcome | None:
    from kdbench.distill.engine import start
    from kdbench.distill.sources import offer
    from kdbench.distill.train import deterministic

    offered = offer(recipe.data.source, recipe.data.arguments, base=wish.base, size=recipe.data.size)
    engine = start(recipe.engine)
    with deterministic(recipe.threads):
        if wish.weights == "random":
            return None if engine.rank else _untrained(recipe, wish, offered)
        climbs = _climb(recipe, wish, offered, engine, progress, announce)
        return None if engine.rank else _packed(recipe, wish, offered, climbs)


@contextmanager
def _told_of_interruption(wish: Wish) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        work = partial_folder(wish.directory)
        if not work.is_dir():
            raise Interrupted("Interrupted before any stage was finished; nothing is left behind.") from None
        raise Interrupted(
            f"Interrupted. What was finished is kept in {work}.", hint="The same command goes on from there."
        ) from None


@contextmanager
def _working_folder_last(*, trusted: bool) -> Iterator[None]:
    """Let Python find trusted modules in the working folder, after all others, so that none hides another."""
    before = list(sys.path)
    if trusted:
        with suppress(FileNotFoundError):
            sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _climb(
    recipe: Recipe, wish: Wish, offered: Offer, engine: Engine, progress: Progress, announce: Announce | None
) -> list[Climb]:
    """Run every repetition; what an interruption leaves is kept beside the bundle."""
    from kdbench.distill.checkpoint import Store
    from kdbench.distill.forecast import forecast, rehearse
    from kdbench.distill.ladder import climb
    from kdbench.distill.splits import make_splits
    from kdbench.distill.train import Trainer

    climbs: list[Climb] = []
    work = partial_folder(wish.directory)
    for number in range(recipe.seeds):
        own = msgspec.structs.replace(recipe, seed=recipe.seed + number)
        splits = make_splits(offered, own.data, own.seed)
        store = Store(work / work_key(own, splits, engine), writing=engine.rank == 0)
        trainer = Trainer(recipe=own, engine=engine, store=store, progress=progress)
        with _explained(store, work):
            if not number:
                rehearse(trainer, splits, controls=wish.controls)
            # Several processes train together in a trial too, whether they are silent or not.
            if not number and (announce is not None or engine.processes > 1):
                expected = forecast(trainer, splits, controls=wish.controls)
                if announce is not None:
                    announce(expected, store.stages())
            climbs.append(climb(trainer, splits, controls=wish.controls, ablation=wish.ablation))
    return climbs


@contextmanager
def _explained(store: Store, work: Path) -> Iterator[None]:
    """Give what torch says of memory and of processes its own sentence; drop the work on a faulty recipe.

    Such a recipe would fail alike each time.
    """
    try:
        yield
    except RecipeError:
        store.discard()
        remove_if_empty(work)
        raise
    except (MemoryError, RuntimeError) as fault:
        if re.search("closed by peer|reset by peer", str(fault)):
            raise UsageError("Another of the processes that train together has ended.") from fault
        if not (isinstance(fault, MemoryError) or re.search("allocate memory|out of memory", str(fault))):
            raise
        raise RecipeError(
            "Training by this recipe needs more memory than there is.",
            hint="Lower its batch sizes, data.size, or the size of its networks.",
        ) from fault


def _packed(recipe: Recipe, wish: Wish, offered: Offer, climbs: Sequence[Climb]) -> Outcome:
    from kdbench.distill.export import pack
    from kdbench.distill.ladder import together
    from kdbench.distill.picture import draw

    first = climbs[0]
    assert first.teacher is not None
    assert first.student is not None
    ladder = together([one.rows for one in climbs])
    card, files = pack(recipe, offered, first.splits, first.teacher, first.student, ladder)
    student = write_bundle(wish.directory, card, files, overwrite=wish.overwrite)
    picture = draw(card, first.splits, picture_path(wish.directory))
    remove_work(partial_folder(wish.directory))
    return Outcome(student, card, picture, tuple(one.stage_s for one in climbs))


def _untrained(recipe: Recipe, wish: Wish, offered: Offer) -> Outcome:
    """Make a student of random weights, whose activations have the size of trained ones."""
    from kdbench.distill.export import pack
    from kdbench.distill.splits import make_splits
    from kdbench.distill.train import settle_norms
    from kdbench.distill.untrained import fresh

    splits = make_splits(offered, recipe.data, recipe.seed)
    teacher, student = (fresh(recipe, plan, splits.classes) for plan in (recipe.teacher, recipe.student))
    for network in (teacher, student):
        settle_norms(network, splits.unlabelled.images[:64])
    card, files = pack(recipe, offered, splits, teacher, student, ())
    return Outcome(write_bundle(wish.directory, card, files, overwrite=wish.overwrite), card, None, ())


def work_key(recipe: Recipe, splits: Splits, engine: Engine) -> str:
    """Name a repetition's work by all that decides it, so that no other recipe's is taken up."""
    import torch

    import kdbench

    facts = {
        "recipe": msgspec.to_builtins(msgspec.structs.replace(recipe, seeds=1)),
        "data": splits.sha256,
        "versions": [kdbench.__version__, str(torch.__version__)],
        "engine": [engine.processes, str(engine.device)],
        "code": [_code(plan.network) for plan in (recipe.teacher, recipe.student)],
    }
    text = msgspec.json.encode(facts, order="sorted")
    return f"seed{recipe.seed}-{hashlib.sha256(text).hexdigest()[:12]}"


def _code(network: str) -> str:
    """Give the digest of the file that a trusted network comes from; those of kdbench have its version."""
    if ":" not in network:
        return ""
    try:
        found = find_spec(network.partition(":")[0])
        return hashlib.sha256(Path(str(found and found.origin)).read_bytes()).hexdigest()
    # Looking for it imports the packages above it. What is wrong there, building the network tells.
    except (Exception, SystemExit):
        return ""


def check_threads(threads: int) -> None:
    """Refuse so many threads that torch would run out of memory for their stacks."""
    cpus = os.cpu_count() or 1
    if threads > max(64, 4 * cpus):
        raise RecipeError(
            f"The recipe trains with {threads} threads; the CPUs of this machine are {cpus}.",
            hint="Lower `threads`, or give --threads.",
        )


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
