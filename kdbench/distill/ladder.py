"""The rungs of the ladder: what each network was given, and how often it is right.

Every row is tested on images that no stage has trained on, after the last step of its stage: nothing is
chosen by its score. A row says how many target labels its network has seen, because most of the way up
is due to them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from kdbench.card import LadderRow
from kdbench.distill.tables import Arguments, Recipe, Term
from kdbench.distill.train import Trainer, fit_labels, fit_teacher, predict, settle_norms
from kdbench.distill.untrained import fresh
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from kdbench.distill.splits import Split, Splits

Ablation = Literal["none", "full"]


@dataclass(slots=True)
class Climb:
    """One repetition: its networks, and its rows and stages as they come.

    teacher: fine-tuned. stage_s: seconds that each stage took in this process.
    """

    trainer: Trainer
    splits: Splits
    rows: list[LadderRow] = field(default_factory=list)
    stage_s: dict[str, float] = field(default_factory=dict)
    teacher: nn.Module | None = None
    student: nn.Module | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the seed of this repetition."""
        return self.trainer.recipe

    @contextmanager
    def stage(self, name: str) -> Iterator[str]:
        """Take the time of a stage."""
        started = time.monotonic()
        yield name
        self.stage_s[name] = time.monotonic() - started

    def test(
        self, row: str, title: str, network: nn.Module, *, labels: int, split: Split | None = None
    ) -> None:
        """Add a row: count the right answers, on the target's test split unless on another."""
        tested = self.splits.test if split is None else split
        answers = predict(network, tested.images).argmax(1)
        self.rows.append(
            LadderRow(
                row=row,
                title=title,
                network="teacher" if row.startswith("teacher") else "student",
                domain="target" if split is None else "source",
                labels=labels,
                images=len(tested),
                seeds=(self.recipe.seed,),
                correct=(int((answers == tested.labels).sum()),),
            )
        )


def climb(trainer: Trainer, splits: Splits, *, controls: bool, ablation: Ablation = "none") -> Climb:
    """Train the teacher on the source, fine-tune it on few target labels, and the student from it.

    The student starts from random weights and sees no source image: all it knows of the source comes
    through the teacher. controls: whether the student's network is also trained without that teacher.
    """
    course = Climb(trainer, splits)
    recipe, labels = trainer.recipe, len(splits.labelled)
    teacher, student = (fresh(recipe, plan, splits.classes) for plan in (recipe.teacher, recipe.student))
    with course.stage("pretrain") as name:
        fit_labels(trainer, name, teacher, splits.source_train, recipe.pretrain)
    course.test("teacher-source", "teacher, at home", teacher, labels=0, split=splits.source_test)
    course.test("teacher-zero-shot", "teacher, unadapted", teacher, labels=0)
    if controls:
        adapted = copy.deepcopy(teacher)
        if settle_norms(adapted, splits.unlabelled.images):
            course.test("teacher-adapted-norms", "teacher, norms adapted", adapted, labels=0)
    unadapted = copy.deepcopy(teacher) if ablation == "full" else teacher
    with course.stage("finetune") as name:
        fit_labels(trainer, name, teacher, splits.labelled, recipe.finetune)
    course.test("teacher-fine-tuned", "teacher, fine-tuned", teacher, labels=labels)
    if controls:
        _controls(course)
    with course.stage("distill") as name:
        fit_teacher(trainer, name, student, teacher, splits.unlabelled, splits.labelled)
    course.test("student-distilled", "student, distilled", student, labels=labels)
    if controls:
        _oracle(course)
    course.teacher, course.student = teacher, student
    if ablation == "full":
        _ablation(course, unadapted, teacher)
    return course


def _controls(course: Climb) -> None:
    """Train the student's network without the big teacher, each time from the same random weights."""
    trainer, splits, recipe = course.trainer, course.splits, course.recipe
    plan, labels = recipe.controls, len(splits.labelled)
    scratch, transfer, pupil = (fresh(recipe, recipe.student, splits.classes) for _ in range(3))
    with course.stage("scratch") as name:
        fit_labels(trainer, name, scratch, splits.labelled, plan.scratch)
    course.test("student-scratch", "student, from scratch", scratch, labels=labels)
    with course.stage("student-pretrain") as name:
        fit_labels(trainer, name, transfer, splits.source_train, plan.pretrain)
    with course.stage("student-finetune") as name:
        fit_labels(trainer, name, transfer, splits.labelled, plan.finetune)
    course.test("student-transfer", "student, by transfer", transfer, labels=labels)
    with course.stage("self-training") as name:
        fit_teacher(trainer, name, pupil, transfer, splits.unlabelled, splits.labelled)
    course.test("student-self-trained", "student, by self-training", pupil, labels=labels)


def _oracle(course: Climb) -> None:
    """Train the student's network with the labels of all target images, test images excepted."""
    splits, recipe = course.splits, course.recipe
    network = fresh(recipe, recipe.student, splits.classes)
    every = _joined(splits.labelled, splits.unlabelled)
    with course.stage("oracle") as name:
        fit_labels(course.trainer, name, network, every, recipe.controls.oracle)
    course.test("student-oracle", "student, all labels (oracle)", network, labels=len(every))


def _joined(first: Split, second: Split) -> Split:
    import numpy as np

    from kdbench.distill.splits import Split

    return Split(
        np.concatenate([first.images, second.images]),
        np.concatenate([first.labels, second.labels]),
        first.digests + second.digests,
    )


def _ablation(course: Climb, unadapted: nn.Module, tuned: nn.Module) -> None:
    """Vary the method, and what the teacher was given, one at a time."""
    trainer, splits, recipe = course.trainer, course.splits, course.recipe
    labels = len(splits.labelled)
    network = fresh(recipe, recipe.teacher, splits.classes)
    with course.stage("teacher-scratch") as name:
        fit_labels(trainer, name, network, splits.labelled, recipe.controls.scratch)
    course.test("teacher-scratch", "teacher's network, from scratch", network, labels=labels)
    for row, title, teacher, split, terms in _variants(course, unadapted, tuned):
        student = fresh(recipe, recipe.student, splits.classes)
        plan = msgspec.structs.replace(recipe.distill, terms=terms)
        with course.stage(row.removeprefix("student-")) as name:
            fit_teacher(trainer, name, student, teacher, split, splits.labelled, plan=plan)
        course.test(row, title, student, labels=labels)


def _variants(
    course: Climb, unadapted: nn.Module, tuned: nn.Module
) -> Iterator[tuple[str, str, nn.Module, Split, tuple[Term, ...]]]:
    from kdbench.distill.methods import METHODS, checked

    recipe, splits = course.recipe, course.splits
    own, pool = recipe.distill.terms, splits.unlabelled
    yield "student-from-unadapted", "distilled from the unadapted teacher", unadapted, pool, own
    yield "student-labelled-only", "distilled on the labelled images only", tuned, splits.labelled, own
    kd = Term(method="kd")
    cold = Term(method="kd", settings={"temperature": 1.0})
    yield "student-kd-t1", "distilled by kd, temperature 1", tuned, pool, (cold,)
    paths = bool(recipe.teacher.features) and len(recipe.teacher.features) == len(recipe.student.features)
    for name, method in METHODS.items():
        if method.takes_features and not paths:
            continue
        # What is dead with two classes is left out of the method; a method that is nothing else is left out.
        settings: Arguments = {"beta": 0.0} if len(splits.classes) == 2 and "beta" in method.defaults else {}
        try:
            checked(name, settings, len(splits.classes))
        except RecipeError:
            continue
        # Methods on features are meant to stand beside kd.
        terms = (kd, Term(method=name)) if method.takes_features else (Term(method=name, settings=settings),)
        title = f"distilled by {'kd and ' if method.takes_features else ''}{name}"
        yield f"student-{name}", title, tuned, pool, terms


def together(climbs: Sequence[Sequence[LadderRow]]) -> tuple[LadderRow, ...]:
    """Put the rows of several repetitions together: one row each, an entry per seed."""
    rows = []
    for alike in zip(*climbs, strict=True):
        seeds = tuple(seed for row in alike for seed in row.seeds)
        correct = tuple(count for row in alike for count in row.correct)
        rows.append(msgspec.structs.replace(alike[0], seeds=seeds, correct=correct))
    return tuple(rows)
