"""What makes a domain unfamiliar: pictures turned, inverted, coloured, textured and made noisy."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import cos, radians, sin
from typing import TYPE_CHECKING

from kdbench.distill.sources.pixels import resized
from kdbench.distill.tables import Shift

if TYPE_CHECKING:
    import numpy as np

    from kdbench.spec import Array

CHUNK_ELEMENTS = 1 << 22
"""Pictures are shifted some at a time, 32 MiB of float64 in each of a few arrays."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What chance decides for each image: background and contrast (N, 3, 1, 1), the rest (N, 1, 1)."""

    background: Array
    contrast: Array
    direction: Array
    phase: Array
    cycles: Array


def render(
    pictures: Array,
    size: int,
    shift: Shift | None,
    rng: np.random.Generator,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Array:
    """Bring pictures (N, C, h, w), uint8 or float64 in 0..1, to (N, 3, size, size) uint8, shifted if asked.

    uint8 pictures are resized by Pillow's bilinear filter, which smooths where it reduces, and then turned;
    float64 ones are enlarged and turned in one step of bilinear sampling. The outcome does not depend on
    `chunk_elements`.
    """
    import numpy as np

    count = len(pictures)
    images = np.empty((count, 3, size, size), np.uint8)
    draws = None if shift is None else _draw(shift, count, rng)
    step = max(1, chunk_elements // (3 * size * size))
    for start in range(0, count, step):
        part = slice(start, start + step)
        chunk = pictures[part]
        if chunk.dtype == np.uint8:
            chunk = np.stack([resized(picture, (size, size)) for picture in chunk])
        if shift is None or draws is None:
            images[part] = chunk if chunk.dtype == np.uint8 else _stored(_sampled(chunk, size, 0.0))
        else:
            drawn = Draws(*(drawn[part] for drawn in astuple(draws)))
            images[part] = _stored(_shifted(_turned(chunk, size, shift), shift, drawn, rng))
    return images


def _draw(shift: Shift, count: int, rng: np.random.Generator) -> Draws:
    import numpy as np

    background = rng.uniform(*shift.background, size=(count, 3, 1, 1))
    contrast = rng.uniform(*shift.contrast, size=(count, 3, 1, 1))
    direction, phase = rng.uniform(0.0, 2 * np.pi, size=(2, count, 1, 1))
    return Draws(
        background, contrast, direction, phase, rng.uniform(*shift.texture_cycles, size=(count, 1, 1))
    )


def _turned(pictures: Array, size: int, shift: Shift) -> Array:
    """Give pictures (N, C, size, size) float64, turned, and inverted after that: their corners too."""
    import numpy as np

    if pictures.dtype != np.uint8:
        turned = _sampled(pictures, size, shift.rotation_degrees)
    elif shift.rotation_degrees:
        turned = _sampled(pictures / 255.0, size, shift.rotation_degrees)
    else:
        turned = pictures / 255.0
    return 1.0 - turned if shift.invert else turned


def _sampled(pictures: Array, size: int, degrees: float) -> Array:
    """Turn pictures (N, C, h, w) about their centre and sample them bilinearly to (N, C, size, size).

    What lies outside is 0.
    """
    import numpy as np
    from scipy.ndimage import affine_transform

    angle = radians(degrees)
    count, channels, height, width = pictures.shape
    turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    matrix = np.eye(3)
    matrix[1:, 1:] = turn * [height / size, width / size]
    offset = np.zeros(3)
    offset[1:] = np.array([height - 1, width - 1]) / 2 - matrix[1:, 1:] @ np.full(2, (size - 1) / 2)
    planes = pictures.reshape(-1, height, width)
    sampled: Array = affine_transform(
        planes, matrix, offset, output_shape=(len(planes), size, size), order=1, mode="grid-constant"
    )
    return sampled.reshape(count, channels, size, size)


def _shifted(pictures: Array, shift: Shift, draws: Draws, rng: np.random.Generator) -> Array:
    """Colour pictures (N, C, h, w) and their background per channel, add a sinusoid and noise: (N, 3, h, w).

    background + contrast * picture + texture + noise; where C is 1, the picture is in every channel.
    """
    import numpy as np

    count, _, height, width = pictures.shape
    rows, columns = np.mgrid[:height, :width]
    along = columns / width * np.cos(draws.direction) + rows / height * np.sin(draws.direction)
    texture = shift.texture * np.sin(2 * np.pi * draws.cycles * along + draws.phase)
    noise = rng.normal(0.0, shift.noise, size=(count, 3, height, width))
    shifted: Array = draws.background + draws.contrast * pictures + texture[:, None] + noise
    return shifted


def _stored(images: Array) -> Array:
    import numpy as np

    stored: Array = np.rint(images.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    return stored
