"""Random images for a student that comes without any: smooth, all different, the same from the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.intake.ask import DEFAULT_IMAGES
from kdbench.intake.ports import FEWEST, Input, channels_first

if TYPE_CHECKING:
    import numpy as np

    from kdbench.spec import Array

BUDGET_BYTES = 256 << 20
OCTAVES = (3, 7, 15)
"""Points of the coarse noise grids along the longer side, each weighted with the inverse of its fineness."""


def how_many(port: Input, asked: int | None) -> int:
    """Give the number of random images: 128, or fewer where they would take more than 256 MiB as inputs."""
    import numpy as np

    size = int(np.prod(port.shape)) * np.dtype(port.dtype).itemsize
    room = max(FEWEST, BUDGET_BYTES // size)
    return asked or min(DEFAULT_IMAGES, room)


def random_images(port: Input, count: int, seed: int) -> Array:
    """Draw (count, *shape): uint8 for images of three axes and for integer inputs, else float32.

    An image is a gradient and noise of low frequency per channel, with its own brightness and contrast,
    so that a network answers each otherwise. What is no image is drawn from the normal distribution.
    """
    import numpy as np

    rng = np.random.default_rng([seed, 0x6B64])
    if port.layout == "any":
        if port.dtype.startswith("float"):
            return rng.standard_normal((count, *port.shape), dtype=np.float32)
        return rng.integers(0, 128 if port.dtype == "int8" else 256, (count, *port.shape), dtype=np.uint8)
    channels, height, width = channels_first(port)
    images = np.empty((count, channels, height, width), np.uint8)
    for image in images:
        image[:] = _smooth(rng, channels, height, width)
    return images if port.layout == "NCHW" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _smooth(rng: np.random.Generator, channels: int, height: int, width: int) -> Array:
    """Draw one image (channels, height, width) in 0..255."""
    import numpy as np

    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    slope = rng.normal(size=(2, channels, 1, 1))
    field = slope[0] * down + slope[1] * across
    for points in OCTAVES:
        grid = rng.normal(size=(channels, points, points))
        field += _enlarged(_enlarged(grid, 1, height), 2, width) * (3 / points)
    contrast, brightness = rng.uniform(15, 60), rng.uniform(60, 195, size=(channels, 1, 1))
    pixels: Array = np.rint(brightness + contrast * field).clip(0, 255)
    return pixels


def _enlarged(grid: Array, axis: int, size: int) -> Array:
    """Interpolate linearly along one axis to `size` points; not by BLAS, whose threads may wait long."""
    import numpy as np

    last = grid.shape[axis] - 1
    place = np.linspace(0, last, size)
    low = np.minimum(place.astype(np.int64), last - 1)
    shape = [1] * grid.ndim
    shape[axis] = size
    part = (place - low).reshape(shape)
    found: Array = grid.take(low, axis) * (1 - part) + grid.take(low + 1, axis) * part
    return found
