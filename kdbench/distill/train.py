"""The steps of training: one loop for every stage, that goes on where it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdbench.distill.batches import Batches, scale
from kdbench.distill.checkpoint import Store, optimiser_state, restore_optimiser
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdbench.distill.engine import Engine
    from kdbench.distill.splits import Split
    from kdbench.distill.tables import Distillation, Recipe, Term, Training
    from kdbench.spec import Array

KEPT_S = 20.0
"""A stage is kept this often, at most: so much work is lost when it is interrupted."""


@dataclass(frozen=True, slots=True)
class Update:
    """How far a stage is: its loss in nats and an estimate of its remaining time.

    seed: the repetition. loss: None where the stage was finished before an interruption.
    """

    stage: str
    step: int
    steps: int
    loss: float | None
    left_s: float
    seed: int = 0


Progress = Callable[[Update], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Who trains: the recipe with the seed of this repetition, the engine, what is kept, who is told.

    strict: whether a loss that is no number ends it.
    """

    recipe: Recipe
    engine: Engine
    store: Store
    progress: Progress
    strict: bool = True

    @property
    def share(self) -> tuple[int, int]:
        """Which part of each batch this process takes."""
        return self.engine.rank, self.engine.processes


@dataclass(frozen=True, slots=True)
class Course:
    """One stage: its name and length, the module that holds the loss, and where its batches come from."""

    name: str
    training: Training
    lesson: nn.Module
    batches: tuple[Batches, ...]
    draw: Callable[[], tuple[Tensor, ...]]


def fit_labels(trainer: Trainer, name: str, network: nn.Module, split: Split, training: Training) -> None:
    """Train on labelled images with cross-entropy, in place."""
    follow(trainer, label_course(trainer, name, network, split, training))


def fit_teacher(
    trainer: Trainer,
    name: str,
    student: nn.Module,
    teacher: nn.Module,
    unlabelled: Split,
    labelled: Split,
    *,
    plan: Distillation | None = None,
) -> None:
    """Train the student in place on what the teacher says of unlabelled images, and on the few labels.

    plan: the recipe's distillation unless another is given.
    """
    course = teacher_course(
        trainer, name, student, teacher, unlabelled, labelled, plan=plan or trainer.recipe.distill
    )
    follow(trainer, course)


def label_course(trainer: Trainer, name: str, network: nn.Module, split: Split, training: Training) -> Course:
    """Make the course of learning from labels."""
    from kdbench.distill.lessons import Labels

    seed, batch = _seed(trainer, name), _shared(training.batch, trainer, name)
    if batch // trainer.engine.processes < 2:
        raise RecipeError(
            f"A batch of {batch} in the stage {name} leaves one image to each process, too few to normalise.",
            hint=f"Choose a batch of at least {2 * trainer.engine.processes}.",
        )
    batches = Batches(split, batch, trainer.recipe.augmentation, seed, trainer.share)
    return Course(name, training, Labels(network), (batches,), batches.draw)


def teacher_course(
    trainer: Trainer,
    name: str,
    student: nn.Module,
    teacher: nn.Module,
    unlabelled: Split,
    labelled: Split,
    *,
    plan: Distillation,
) -> Course:
    """Make the course of learning from a teacher. Both see the same view; unlabelled labels are not used."""
    import torch

    from kdbench.distill.features import Watched
    from kdbench.distill.lessons import Teaching

    recipe, seed = trainer.recipe, _seed(trainer, name)
    batch, known_batch = (_shared(size, trainer, name) for size in (plan.batch, plan.labelled_batch))
    views = Batches(unlabelled, batch, recipe.augmentation, (*seed, 0), trainer.share)
    known = Batches(labelled, known_batch, recipe.augmentation, (*seed, 1), trainer.share)
    teacher_paths, student_paths = paired_paths(recipe, plan.terms, student, teacher)
    watched = Watched(teacher, teacher_paths)
    terms = build_terms(trainer, plan.terms, student, teacher, student_paths, teacher_paths, unlabelled)
    lesson = Teaching(student, terms, student_paths, plan.label_weight)
    teacher.to(trainer.engine.device).eval()

    def draw() -> tuple[Tensor, ...]:
        view, _ = views.draw()
        images, labels = known.draw()
        with torch.no_grad():
            wanted = watched(view.to(trainer.engine.device))
        return view, images, labels, wanted.logits, *wanted.features

    return Course(name, plan, lesson, (views, known), draw)


def paired_paths(
    recipe: Recipe, terms: Sequence[Term], student: nn.Module, teacher: nn.Module
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the module paths of teacher and student that the terms compare; none where no term can."""
    from kdbench.distill.methods import METHODS

    methods = [METHODS[term.method] for term in terms if term.method in METHODS]
    if not any(method.takes_features for method in methods):
        return (), ()
    # In self-training both are of the student's kind.
    alike = type(student) is type(teacher) and _shapes(student) == _shapes(teacher)
    ours = recipe.student.features
    theirs = ours if alike else recipe.teacher.features
    if len(ours) != len(theirs) or (not ours and any(method.needs_features for method in methods)):
        raise RecipeError(
            "A method that compares features needs as many module paths of the teacher as of the student, "
            f"at least one; there are {len(theirs)} and {len(ours)}.",
            hint='Name them as teacher.features = ["…"] and student.features = ["…"], shallow to deep.',
        )
    return theirs, ours


def build_terms(
    trainer: Trainer,
    terms: Sequence[Term],
    student: nn.Module,
    teacher: nn.Module,
    student_paths: Sequence[str],
    teacher_paths: Sequence[str],
    split: Split,
) -> list[tuple[float, nn.Module]]:
    """Make the terms of the loss with their weights, their own parameters drawn from the seed."""
    import torch

    from kdbench.distill.features import Watched
    from kdbench.distill.methods import METHODS, checked, term as method_term

    sample = scale(torch.from_numpy(split.images[:2]))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        answers = [
            Watched(network.cpu().eval(), paths)(sample)
            for network, paths in ((student, student_paths), (teacher, teacher_paths))
        ]
        given, wanted = (answer.shapes for answer in answers)
        torch.manual_seed(trainer.recipe.seed)
        classes = answers[0].logits.shape[1]
        made = []
        for one in terms:
            settings = checked(one.method, one.settings, classes)
            with torch.enable_grad():
                module = method_term(one.method, settings, given, wanted)
            weight = METHODS[one.method].weight if one.weight is None else one.weight
            made.append((weight, module))
    return made


def follow(trainer: Trainer, course: Course) -> None:
    """Take the stage's steps with AdamW under a one-cycle schedule; the last step is the outcome.

    Where the store has the stage, its outcome is taken from there; where it has it halfway, it goes on.
    Raises RecipeError at the first loss that is no number: nothing good comes after it.
    """
    import torch

    steps, seed = course.training.steps, trainer.recipe.seed
    found = trainer.store.finished(course.name)
    if found is not None and _fits(found, course.lesson):
        course.lesson.load_state_dict(found)
        course.lesson.eval()
        trainer.progress(Update(course.name, steps, steps, None, 0.0, seed))
        return
    course.lesson.to(trainer.engine.device)
    rate = course.training.learning_rate
    inner = torch.optim.AdamW(
        course.lesson.parameters(), rate, weight_decay=trainer.recipe.optimiser.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(inner, rate, steps)
    lesson, optimiser = trainer.engine.setup(course.lesson, inner)
    begun = _take_up(trainer.store, course, inner, schedule)
    lesson.train()
    started = kept = time.monotonic()
    for step in range(begun + 1, steps + 1):
        optimiser.zero_grad()
        value = lesson(*(part.to(trainer.engine.device) for part in course.draw()))
        trainer.engine.backward(value)
        optimiser.step()
        schedule.step()
        loss, now = value.item(), time.monotonic()
        if trainer.strict and not math.isfinite(loss):
            raise _diverged(course.name, step, steps, loss)
        left = (now - started) / (step - begun) * (steps - step)
        trainer.progress(Update(course.name, step, steps, loss, left, seed))
        if now - kept >= KEPT_S and step < steps:
            _keep(trainer.store, course, inner, schedule, step)
            kept = now
    course.lesson.cpu().eval()
    trainer.engine.together()
    trainer.store.finish(course.name, course.lesson.state_dict())


def predict(network: nn.Module, images: Array, batch: int = 256) -> Array:
    """Give the logits (N, classes) float32 of stored images uint8, in inference mode, on the CPU."""
    import torch

    network.cpu().eval()
    with torch.inference_mode():
        stored = torch.from_numpy(images)
        batches = [network(scale(stored[at : at + batch])) for at in range(0, len(stored), batch)]
        logits: Array = torch.cat(batches).numpy()
    return logits


def settle_norms(network: nn.Module, images: Array, batch: int = 64) -> bool:
    """Take the statistics of batch normalisation anew from these images uint8, without any label, in place.

    The mean over batches, each counting alike. Y. Li et al., "Revisiting Batch Normalization For Practical
    Domain Adaptation", 2016, arXiv 1603.04779. Answers whether the network has such statistics at all.
    """
    import torch
    from torch import nn

    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for at in range(0, max(1, len(images) - 1), batch):
            if norms and len(images[at : at + batch]) > 1:
                network(scale(torch.from_numpy(images[at : at + batch])))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return bool(norms)


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Let torch compute the same bits each time, on this many threads; put back what was set before."""
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _seed(trainer: Trainer, stage: str) -> tuple[int, ...]:
    return trainer.recipe.seed, *stage.encode()


def _shared(batch: int, trainer: Trainer, stage: str) -> int:
    processes = trainer.engine.processes
    if batch % processes:
        raise RecipeError(
            f"A batch of {batch} in the stage {stage} cannot be shared evenly by {processes} processes.",
            hint=f"Choose a batch size that {processes} divides, or another number of processes.",
        )
    return batch


def _diverged(stage: str, step: int, steps: int, loss: float) -> RecipeError:
    return RecipeError(
        f"The loss of the stage {stage} is {loss} at step {step} of {steps}: training has diverged.",
        hint="Lower that stage's learning_rate, or the weights of its terms.",
    )


def _fits(tensors: Mapping[str, Tensor], lesson: nn.Module) -> bool:
    """Tell whether what was kept is of this very network: its code may have changed since."""
    own = lesson.state_dict()
    return {name: one.shape for name, one in tensors.items()} == {
        name: one.shape for name, one in own.items()
    }


def _shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in network.parameters()]


def _keep(store: Store, course: Course, optimiser: Any, schedule: Any, step: int) -> None:
    moments, groups = optimiser_state(optimiser)
    tensors = {f"lesson.{name}": value for name, value in course.lesson.state_dict().items()}
    tensors |= {f"optimiser.{name}": value for name, value in moments.items()}
    plain = {key: value for key, value in schedule.state_dict().items() if not callable(value)}
    facts = {
        "step": step,
        "optimiser": groups,
        "schedule": plain,
        "batches": [one.position for one in course.batches],
    }
    store.keep(course.name, tensors, facts)


def _take_up(store: Store, course: Course, optimiser: Any, schedule: Any) -> int:
    """Put back what `_keep` kept of a stage; answers the step that it had reached."""
    found = store.halfway(course.name)
    if found is None:
        return 0
    tensors, facts = found
    parts: dict[str, dict[str, Tensor]] = {"lesson": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    if not _fits(parts["lesson"], course.lesson):
        return 0
    course.lesson.load_state_dict(parts["lesson"])
    restore_optimiser(optimiser, parts["optimiser"], facts["optimiser"])
    schedule.load_state_dict(facts["schedule"])
    for one, position in zip(course.batches, facts["batches"], strict=True):
        one.position = position
    return int(facts["step"])
