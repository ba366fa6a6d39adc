"""The tiny networks in NumPy: weights folded once, a flat list of calls prepared for each batch size.

Inside, images are `(batch, height, width, channels)`, so that a convolution over all channels is one
matrix product for BLAS. Every call writes into an array that was allocated beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kdbench import Placement

if TYPE_CHECKING:
    from kdbench.spec import Array

EPSILON = 1e-5
"""What batch normalisation adds to the variance."""

Call = Callable[[], object]


def read_safetensors(path: Path) -> dict[str, Array]:
    """Read the float32 tensors of a safetensors file; those of other types are left out.

    The format is a length (8 bytes, little-endian), that many bytes of JSON, then the raw tensors.
    """
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    tensors = {}
    for name, facts in header.items():
        if facts.get("dtype") == "F32":
            first, last = facts["data_offsets"]
            values = np.frombuffer(raw[start + first : start + last], "<f4")
            tensors[name] = values.reshape(facts["shape"])
    return tensors


@dataclass(frozen=True, slots=True)
class Unit:
    """A convolution with its batch normalisation folded in, to be followed by ReLU.

    weight: (kernel, kernel, channels, outputs) float32, or (kernel, kernel, channels) if depthwise.
    """

    weight: Array
    bias: Array
    stride: int

    @property
    def margin(self) -> int:
        """How many zeros surround its input on each side."""
        return int(self.weight.shape[0]) // 2


def fold(tensors: dict[str, Array], index: int, stride: int, depthwise: bool) -> Unit:
    """Fold the batch normalisation of unit `index` into the weight and bias of its convolution."""
    conv, scale, offset, mean, variance = (
        tensors[f"features.{index}.{name}"]
        for name in ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    )
    gain = scale / np.sqrt(variance + np.float32(EPSILON))
    weight = (conv * gain[:, None, None, None]).transpose(2, 3, 1, 0)
    return Unit(np.ascontiguousarray(weight[:, :, 0] if depthwise else weight), offset - mean * gain, stride)


def convolve(unit: Unit, source: Array) -> tuple[Array, list[Call]]:
    """Prepare the convolution of `source` (batch, H + margins, W + margins, channels), without the bias.

    Answers the array (batch, ceil(H / stride), ceil(W / stride), outputs) and the calls that fill it.
    """
    kernel, stride = unit.weight.shape[0], unit.stride
    windows = sliding_window_view(source, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    sums = np.empty((*windows.shape[:3], unit.weight.shape[-1]), np.float32)
    if unit.weight.ndim == 3:
        taps = windows.transpose(4, 5, 0, 1, 2, 3)
        products = np.empty(taps.shape, np.float32)
        return sums, [
            partial(np.multiply, taps, unit.weight[:, :, None, None, None, :], out=products),
            partial(np.add.reduce, products, axis=(0, 1), out=sums),
        ]
    patches = windows.transpose(0, 1, 2, 4, 5, 3)
    matrix = unit.weight.reshape(-1, unit.weight.shape[-1])
    rows = np.empty((patches.size // len(matrix), len(matrix)), np.float32)
    return sums, [
        partial(np.copyto, rows.reshape(patches.shape), patches),
        partial(np.matmul, rows, matrix, out=sums.reshape(len(rows), -1)),
    ]


def framed(shape: Sequence[int], margin: int) -> tuple[Array, Array]:
    """Allocate images of `shape` with a frame of zeros around them; answers (all, the inside)."""
    batch, height, width, channels = shape
    frame = np.zeros((batch, height + 2 * margin, width + 2 * margin, channels), np.float32)
    return frame, frame[:, margin : margin + height, margin : margin + width]


class NumpyRunner:
    """Runs the network at one batch size in buffers of its own."""

    def __init__(self, session: NumpySession, batch_size: int) -> None:
        channels, height, width = session.image
        source, self._image = framed((batch_size, height, width, channels), session.units[0].margin)
        self._mean = session.mean
        self._calls: list[Call] = []
        margins = [*(unit.margin for unit in session.units[1:]), 0]
        for unit, margin in zip(session.units, margins, strict=True):
            sums, calls = convolve(unit, source)
            source, inside = framed(sums.shape, margin)
            self._calls += calls
            self._calls += [
                partial(np.add, sums, unit.bias, out=sums),
                partial(np.maximum, sums, 0, out=inside),
            ]
        features = np.empty((batch_size, source.shape[-1]), np.float32)
        logits = np.empty((batch_size, len(session.head_bias)), np.float32)
        average = session.head_weight.T / np.float32(source.shape[1] * source.shape[2])
        self._calls += [
            partial(np.add.reduce, source, axis=(1, 2), out=features),
            partial(np.matmul, features, average, out=logits),
            partial(np.add, logits, session.head_bias, out=logits),
        ]
        self._outputs = (logits,)

    def __call__(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Map (batch, channels, H, W) float32 to logits (batch, classes) float32, reused by the next call."""
        np.subtract(inputs[0].transpose(0, 2, 3, 1), self._mean, out=self._image)
        for call in self._calls:
            call()
        return self._outputs

    def upload(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Copy one batch: the memory of this device is the host's own, and a call reads it in place."""
        return _copied(inputs)

    def download(self, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Copy what the last call answered."""
        return _copied(outputs)

    def close(self) -> None:
        """Make every later call raise."""
        self._calls = [_refuse]


class NumpySession:
    """The folded network. `units` are (stride, depthwise) each; `image` is (channels, H, W)."""

    placement = Placement(device="cpu", precision="fp32")

    def __init__(
        self,
        weights: Path,
        *,
        units: Sequence[tuple[int, bool]],
        mean: float,
        std: float,
        image: Sequence[int],
    ) -> None:
        tensors = read_safetensors(weights)
        # Dividing the first weights by std spares dividing each image; its frame stays zero either way.
        tensors["features.0.conv.weight"] = tensors["features.0.conv.weight"] / np.float32(std)
        self.units = [fold(tensors, index, *unit) for index, unit in enumerate(units)]
        self.head_weight, self.head_bias = tensors["head.weight"], tensors["head.bias"]
        self.mean, self.image = mean, tuple(image)
        self._runners: list[NumpyRunner] = []
        self._closed = False

    def runner(self, batch_size: int) -> NumpyRunner:
        """Give a runner of its own buffers."""
        if self._closed:
            _refuse()
        self._runners.append(NumpyRunner(self, batch_size))
        return self._runners[-1]

    def close(self) -> None:
        """Close the runners too."""
        self._closed = True
        for runner in self._runners:
            runner.close()
        self._runners.clear()


def _copied(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(array.copy() for array in arrays)


def _refuse() -> NoReturn:
    raise RuntimeError("This session is closed.")
