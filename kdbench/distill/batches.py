"""Random augmented batches of a split: the same seed draws the same ones, on any number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kdbench.distill.splits import Split
    from kdbench.distill.tables import Augmentation


class Batches:
    """Batches with replacement.

    share: (rank, processes). Every process draws the whole batch, so that all draw alike, and keeps each
        `processes`-th image of it, from its rank on.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        augmentation: Augmentation,
        seed: tuple[int, ...],
        share: tuple[int, int] = (0, 1),
    ) -> None:
        import numpy as np
        import torch

        self._images, self._labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
        self._size, self._augmentation, self._share = size, augmentation, share
        self._rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw images (size / processes, 3, H, W) float32 in 0..1 and their labels int64."""
        import torch

        rank, processes = self._share
        chosen = torch.from_numpy(self._rng.integers(len(self._labels), size=self._size))
        moves = self._rng.integers(2 * self._augmentation.shift + 1, size=(2, self._size, 1, 1))
        tones = self._rng.uniform(-1.0, 1.0, size=(2, self._size, 1, 1, 1))
        own = slice(rank, None, processes)
        images = augment(scale(self._images[chosen[own]]), self._augmentation, moves[:, own], tones[:, own])
        return images, self._labels[chosen[own]]

    @property
    def position(self) -> dict[str, Any]:
        """Where the generator stands, as plain values; setting it goes on from there."""
        return dict(self._rng.bit_generator.state)

    @position.setter
    def position(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state


def scale(images: Tensor) -> Tensor:
    """Turn stored images uint8 into the networks' input, float32 in 0..1, as every backend does."""
    return images.float() / 255.0


def augment(images: Tensor, plan: Augmentation, moves: np.ndarray, tones: np.ndarray) -> Tensor:
    """Move each image by up to `plan.shift` pixels, its border repeated, and vary brightness and contrast.

    images: (N, 3, H, W) in 0..1. moves: (2, N, 1, 1) integers in 0..2 * shift, down and right.
    tones: (2, N, 1, 1, 1) in -1..1, for brightness and contrast.
    """
    import torch
    from torch.nn.functional import pad

    count, _, height, width = images.shape
    padded = pad(images, (plan.shift,) * 4, mode="replicate")
    down, right = torch.from_numpy(moves)
    rows, columns = torch.arange(height)[:, None] + down, torch.arange(width) + right
    moved = padded[torch.arange(count)[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()
    spread = torch.tensor([plan.brightness, plan.contrast])[:, None, None, None, None]
    change = torch.from_numpy(tones).float() * spread
    return ((moved - 0.5) * (1.0 + change[1]) + 0.5 + change[0]).clamp(0.0, 1.0)
