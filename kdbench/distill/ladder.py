"""The stages of a distillation, and the ladder: what each rung was given and how often it is right.

Every row is tested on images that no stage has trained on, after the last step of its stage: nothing is
chosen by its score. A row says how many target labels its network has seen, because most of the way up
is due to them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdbench.card import Card, LadderRow
from kdbench.distill.data import Split, Splits, make_splits
from kdbench.distill.recipe import NetworkPlan, Recipe
from kdbench.distill.train import Progress, deterministic, fit_labels, fit_teacher, predict
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from kdbench.spec import Scalar


@dataclass(frozen=True, slots=True)
class Distilled:
    """What the stages leave behind: two trained networks, their data, the ladder, seconds per stage."""

    recipe: Recipe
    teacher: nn.Module
    student: nn.Module
    splits: Splits
    ladder: tuple[LadderRow, ...]
    stage_s: dict[str, float]


def distil(recipe: Recipe, progress: Progress) -> Distilled:
    """Train the teacher on the source, fine-tune it on few target labels, and the student from it.

    The student starts from random weights and sees no source image: all it knows of the source comes
    through the teacher.
    """
    splits = make_splits(recipe.data, recipe.seed)
    rows, stage_s = [], {}

    def test(name: str, title: str, network: nn.Module, split: Split, *, labels: int) -> None:
        rows.append(measure_row(name, title, network, split, recipe, labels=labels))

    @contextmanager
    def stage(name: str) -> Iterator[str]:
        started = time.monotonic()
        yield name
        stage_s[name] = time.monotonic() - started

    with deterministic(recipe.threads):
        teacher, student = fresh(recipe, recipe.teacher), fresh(recipe, recipe.student)
        with stage("pretrain") as name:
            fit_labels(teacher, splits.source_train, recipe.pretrain, recipe, stage=name, progress=progress)
        test("teacher-source", "teacher, at home", teacher, splits.source_test, labels=0)
        test("teacher-zero-shot", "teacher, unadapted (baseline)", teacher, splits.test, labels=0)
        with stage("finetune") as name:
            fit_labels(teacher, splits.labelled, recipe.finetune, recipe, stage=name, progress=progress)
        labels = len(splits.labelled)
        test("teacher-fine-tuned", "teacher, fine-tuned", teacher, splits.test, labels=labels)
        with stage("distill") as name:
            fit_teacher(
                student, teacher, splits.unlabelled, splits.labelled, recipe, stage=name, progress=progress
            )
        test("student-distilled", "student, distilled from it", student, splits.test, labels=labels)
    return Distilled(recipe, teacher, student, splits, tuple(rows), stage_s)


def fresh(recipe: Recipe, plan: NetworkPlan) -> nn.Module:
    """Build an untrained network; RecipeError unless it gives one logit per class for the recipe's images."""
    import torch

    from kdbench.distill.nets import build

    network = build(plan.network, arguments(recipe, plan), seed=recipe.seed).eval()
    wanted = (2, len(recipe.data.classes))
    try:
        with torch.inference_mode():
            found = tuple(network(torch.zeros(2, 3, recipe.data.size, recipe.data.size)).shape)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise RecipeError(
            f"The network {plan.network!r} cannot take the recipe's images: {fault}."
        ) from fault
    if found != wanted:
        raise RecipeError(f"The network {plan.network!r} answers two images with {found}, not with {wanted}.")
    return network


def arguments(recipe: Recipe, plan: NetworkPlan) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """Give the keywords of a network's factory."""
    return {**plan.arguments, "classes": len(recipe.data.classes)}


def measure_row(
    name: str, title: str, network: nn.Module, split: Split, recipe: Recipe, *, labels: int
) -> LadderRow:
    """Count the right answers of a network on a split; `name` begins with the size class it belongs to."""
    size: Literal["teacher", "student"] = "teacher" if name.startswith("teacher") else "student"
    answers = predict(network, split.images).argmax(1)
    return LadderRow(
        row=name,
        title=title,
        network=size,
        domain="source" if name.endswith("-source") else "target",
        labels=labels,
        images=len(split),
        seeds=(recipe.seed,),
        correct=(int((answers == split.labels).sum()),),
    )


def account(card: Card) -> tuple[str, ...]:
    """Say in sentences what the ladder of a card shows, and no more; none if its rungs are not there.

    Most of the gain over the unadapted teacher is due to the target labels, so their part is told first.
    """
    rows = {row.row: row for row in card.ladder}
    try:
        baseline, tuned, student = (
            rows[name] for name in ("teacher-zero-shot", "teacher-fine-tuned", "student-distilled")
        )
    except KeyError:
        return ()
    gain, by_labels = 100 * (student.mean - baseline.mean), 100 * (tuned.mean - baseline.mean)
    smaller = ""
    if card.teacher and card.teacher.parameters and card.network.parameters:
        smaller = f", with {card.teacher.parameters / card.network.parameters:.0f} times fewer parameters"
    runs = f"{len(student.seeds)} seed{'s' if len(student.seeds) > 1 else ''}"
    return (
        f"In the unfamiliar domain the student stands {gain:+.1f} points from the unadapted teacher. "
        f"{tuned.labels} labels move the teacher itself by {by_labels:+.1f} points: so much is theirs.",
        "Distillation's part is where the student stands to the fine-tuned teacher: "
        f"{gain - by_labels:+.1f} points{smaller}.",
        f"{runs}, {student.images} images: each accuracy is known to within {100 * resolution(student):.1f} "
        "points. What the student would reach without a teacher is not among these rows.",
    )


def resolution(row: LadderRow) -> float:
    """Give half the width of the 95 % interval of an accuracy over the images of one repetition.

    The normal approximation of the binomial: 1.96 * sqrt(p * (1 - p) / n).
    """
    return float(1.96 * (row.mean * (1 - row.mean) / row.images) ** 0.5)
