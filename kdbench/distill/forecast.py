"""Before it begins: what the recipe cannot mean is told, and how long it will take, by trying a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from kdbench.distill.checkpoint import Store
from kdbench.distill.export import check_exportable
from kdbench.distill.train import Course, Trainer, follow, label_course, teacher_course
from kdbench.distill.untrained import fresh

if TYPE_CHECKING:
    from kdbench.distill.splits import Splits
    from kdbench.distill.tables import Distillation, Training

TRIED = 4
"""Steps of a trial; the first ones are slow, and the fastest counts."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of one repetition: of the recipe's own stages, and of the controls on top."""

    recipe_s: float
    controls_s: float


def rehearse(trainer: Trainer, splits: Splits, *, controls: bool) -> None:
    """Make what every stage needs and train nothing; raises RecipeError for whatever could not be trained."""
    recipe, plan = trainer.recipe, trainer.recipe.controls
    teacher, student = (fresh(recipe, one, splits.classes) for one in (recipe.teacher, recipe.student))
    stages = {"pretrain": recipe.pretrain, "finetune": recipe.finetune}
    if controls:
        stages |= {"scratch": plan.scratch, "student-pretrain": plan.pretrain}
        stages |= {"student-finetune": plan.finetune, "oracle": plan.oracle}
    for name, training in stages.items():
        label_course(trainer, name, student, splits.labelled, training)
    teacher_course(
        trainer, "distill", student, teacher, splits.unlabelled, splits.labelled, plan=recipe.distill
    )
    for one, network in ((recipe.teacher, teacher), (recipe.student, student)):
        if ":" in one.network:
            check_exportable(network.cpu(), one.network, splits.test.images)


def forecast(trainer: Trainer, splits: Splits, *, controls: bool) -> Forecast:
    """Try a few steps of each kind of stage and multiply; nothing that is trained here is kept."""
    recipe = trainer.recipe
    teach, learn = (
        _step_s(trainer, splits, size, recipe.pretrain if size == "teacher" else recipe.controls.scratch)
        for size in ("teacher", "student")
    )
    pupil = _taught_s(trainer, splits, recipe.distill)
    own = recipe.pretrain.steps * teach * recipe.pretrain.batch
    own += recipe.finetune.steps * teach * recipe.finetune.batch + recipe.distill.steps * pupil
    if not controls:
        return Forecast(own, 0.0)
    plan = recipe.controls
    alone = sum(one.steps * one.batch for one in (plan.scratch, plan.pretrain, plan.finetune, plan.oracle))
    # Self-training has a small teacher, but that a big one would cost more hardly shows.
    return Forecast(own, alone * learn + recipe.distill.steps * pupil)


def _step_s(trainer: Trainer, splits: Splits, size: str, training: Training) -> float:
    """Give the seconds that a step takes for each image of its batch."""
    plan = trainer.recipe.teacher if size == "teacher" else trainer.recipe.student
    network = fresh(trainer.recipe, plan, splits.classes)
    tried = msgspec.structs.replace(training, steps=TRIED)
    return (
        _tried(trainer, label_course(trainer, "trial", network, splits.source_train, tried)) / training.batch
    )


def _taught_s(trainer: Trainer, splits: Splits, plan: Distillation) -> float:
    recipe = trainer.recipe
    teacher, student = (fresh(recipe, one, splits.classes) for one in (recipe.teacher, recipe.student))
    tried = msgspec.structs.replace(plan, steps=TRIED)
    course = teacher_course(
        trainer, "trial", student, teacher, splits.unlabelled, splits.labelled, plan=tried
    )
    return _tried(trainer, course)


def _tried(trainer: Trainer, course: Course) -> float:
    moments = [time.perf_counter()]
    trial = Trainer(
        recipe=trainer.recipe,
        engine=trainer.engine,
        store=Store(None),
        progress=lambda _: moments.append(time.perf_counter()),
        # So few steps rise to the highest rate at once, which a whole stage may well survive.
        strict=False,
    )
    follow(trial, course)
    return min(after - before for before, after in pairwise(moments))
