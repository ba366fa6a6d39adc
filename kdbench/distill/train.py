"""The steps of training: one loop, batches and their augmentation, and the two losses it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdbench.distill.data import Split
from kdbench.distill.losses import cross_entropy, soft_targets
from kdbench.distill.recipe import Augmentation, Recipe, Training

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from kdbench.spec import Array


@dataclass(frozen=True, slots=True)
class Update:
    """How far a stage is: its loss in nats and an estimate of its remaining time."""

    stage: str
    step: int
    steps: int
    loss: float
    left_s: float


Progress = Callable[[Update], None]


class Batches:
    """Random augmented batches of a split, with replacement; the same seed draws the same ones."""

    def __init__(self, split: Split, size: int, augmentation: Augmentation, seed: tuple[int, ...]) -> None:
        import numpy as np
        import torch

        self._images, self._labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
        self._size = size
        self._augmentation = augmentation
        self._rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw images (size, 3, H, W) float32 in 0..1 and labels (size,) int64."""
        import torch

        chosen = torch.from_numpy(self._rng.integers(len(self._labels), size=self._size))
        return augment(scale(self._images[chosen]), self._augmentation, self._rng), self._labels[chosen]


def scale(images: Tensor) -> Tensor:
    """Turn stored images uint8 into the networks' input, float32 in 0..1, as every backend does."""
    return images.float() / 255.0


def augment(images: Tensor, plan: Augmentation, rng: np.random.Generator) -> Tensor:
    """Move each image by up to `plan.shift` pixels, its border repeated, and vary brightness and contrast."""
    import torch
    from torch.nn.functional import pad

    count, _, height, width = images.shape
    padded = pad(images, (plan.shift,) * 4, mode="replicate")
    down, right = torch.from_numpy(rng.integers(2 * plan.shift + 1, size=(2, count, 1, 1)))
    rows, columns = torch.arange(height)[:, None] + down, torch.arange(width) + right
    moved = padded[torch.arange(count)[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()
    spread = torch.tensor([plan.brightness, plan.contrast])[:, None, None, None, None]
    change = torch.from_numpy(rng.uniform(-1.0, 1.0, size=(2, count, 1, 1, 1))).float() * spread
    return ((moved - 0.5) * (1.0 + change[1]) + 0.5 + change[0]).clamp(0.0, 1.0)


def fit_labels(
    network: nn.Module, split: Split, training: Training, recipe: Recipe, *, stage: str, progress: Progress
) -> None:
    """Train on labelled images with cross-entropy, in place."""
    batches = Batches(split, training.batch, recipe.augmentation, _seed(recipe, stage))

    def loss() -> Tensor:
        images, labels = batches.draw()
        return cross_entropy(network(images), labels)

    _descend(network, loss, training, recipe, stage=stage, progress=progress)


def fit_teacher(
    student: nn.Module,
    teacher: nn.Module,
    unlabelled: Split,
    labelled: Split,
    recipe: Recipe,
    *,
    stage: str,
    progress: Progress,
) -> None:
    """Train the student in place on what the teacher says of unlabelled images, and on the few labels.

    Both see the same augmented view. The labels of `unlabelled` are not used.
    """
    import torch

    plan = recipe.distill
    seed = _seed(recipe, stage)
    views = Batches(unlabelled, plan.batch, recipe.augmentation, (*seed, 0))
    known = Batches(labelled, plan.labelled_batch, recipe.augmentation, (*seed, 1))
    teacher.eval()

    def loss() -> Tensor:
        view, _ = views.draw()
        images, labels = known.draw()
        with torch.no_grad():
            wanted = teacher(view)
        given = student(torch.cat([view, images]))
        soft = soft_targets(given[: plan.batch], wanted, temperature=plan.temperature)
        return soft + plan.label_weight * cross_entropy(given[plan.batch :], labels)

    _descend(student, loss, plan, recipe, stage=stage, progress=progress)


def predict(network: nn.Module, images: Array) -> Array:
    """Give the logits (N, classes) float32 of stored images uint8, in inference mode."""
    import torch

    network.eval()
    with torch.inference_mode():
        stored = torch.from_numpy(images)
        batches = [network(scale(stored[at : at + 256])) for at in range(0, len(stored), 256)]
        logits: Array = torch.cat(batches).numpy()
    return logits


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


def _seed(recipe: Recipe, stage: str) -> tuple[int, ...]:
    return recipe.seed, *stage.encode()


def _descend(
    network: nn.Module,
    loss: Callable[[], Tensor],
    training: Training,
    recipe: Recipe,
    *,
    stage: str,
    progress: Progress,
) -> None:
    """Take the stage's steps with AdamW under a one-cycle schedule; the last step is the outcome."""
    import torch

    optimiser = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=recipe.optimiser.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, training.steps)
    network.train()
    started = time.monotonic()
    for step in range(1, training.steps + 1):
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]  # torch declares no types here
        optimiser.step()
        schedule.step()
        left = (time.monotonic() - started) / step * (training.steps - step)
        progress(Update(stage, step, training.steps, value.item(), left))
    network.eval()
