"""One extractor a call, on inputs in ncnn's own memory.

A Mat made over a NumPy array shares its memory and has no count of its owners, which ncnn follows without a
look where the first layer works in place: the process ends. So inputs are copied, within the timed call.
A batch is an axis of a Mat beside its dimensions; most layers compute it image by image inside ncnn.
(github.com/Tencent/ncnn: src/net.cpp, do_forward_layer)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import ncnn  # noqa: TID253  # this module is imported inside hooks only
import numpy as np
from numpy.lib.stride_tricks import as_strided

from kdbench import TensorSpec

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

OUT_OF_MEMORY = -100
"""What ncnn answers where an allocation failed."""


class Batch:
    """Inputs in ncnn's memory: its `mats`, and the same as `arrays` of `(batch, *shape)`."""

    def __init__(self, specs: Sequence[TensorSpec], batched: Sequence[bool], batch_size: int) -> None:
        self.size = batch_size
        self.mats = [
            _allocate(spec.shape, batch_size) if apart else _allocate((batch_size, *spec.shape), 1)
            for spec, apart in zip(specs, batched, strict=True)
        ]
        self.arrays = [
            view(mat) if apart else view(mat)[0] for mat, apart in zip(self.mats, batched, strict=True)
        ]
        for array in self.arrays:
            array.fill(0)


class NcnnRunner:
    """Runs one batch at a time, in the thread that calls; the outputs are the same arrays at every call."""

    def __init__(
        self,
        net: Any,
        batch: Batch,
        blobs: tuple[Sequence[str], Sequence[str]],
        outputs: Sequence[TensorSpec],
    ) -> None:
        fed = dict(zip(net.input_names(), net.input_indexes(), strict=True))
        given = dict(zip(net.output_names(), net.output_indexes(), strict=True))
        self._net, self._arrays = net, batch.arrays
        self._feeds = [(fed[blob], mat) for blob, mat in zip(blobs[0], batch.mats, strict=True)]
        self._fetches = [given[blob] for blob in blobs[1]]
        self._results = tuple(np.empty((batch.size, *spec.shape), spec.dtype) for spec in outputs)
        first = self._compute()
        self._strides = [_image_stride(mat) for mat in first]
        # ncnn's output has the batch apart, or as its first dimension; in memory's order both are the same.
        self._targets = [
            result.reshape(_shape_of(mat, result, spec.name))
            for mat, result, spec in zip(first, self._results, outputs, strict=True)
        ]

    def __call__(self, inputs: Arrays) -> Arrays:
        """Map one array per input to one per output."""
        for index, given in enumerate(inputs):
            self._arrays[index][...] = given
        for index, mat in enumerate(self._compute()):
            self._targets[index][...] = view(mat, self._strides[index])
        return self._results

    def close(self) -> None:
        """Make every later call raise, and let go of the memory."""
        self._net = None
        self._feeds, self._arrays, self._targets = [], [], []

    def _compute(self) -> list[Any]:
        if self._net is None:
            refuse()
        extractor = self._net.create_extractor()
        for index, mat in self._feeds:
            check(extractor.input(index, mat), "take an input")
        fetched = []
        for index in self._fetches:
            mat = ncnn.Mat()
            check(extractor.extract(index, mat), "run the network")
            if mat.empty():
                raise RuntimeError("ncnn gave an empty output.")
            fetched.append(mat)
        return fetched


def check(code: int, what: str) -> None:
    """Raise what a number of ncnn's means; MemoryError where an allocation failed."""
    if code == OUT_OF_MEMORY:
        raise MemoryError(f"ncnn ran out of memory and could not {what}.")
    if code:
        raise RuntimeError(f"ncnn could not {what} (it answered {code}); what it printed is in the log.")


def refuse() -> NoReturn:
    """Say that the session is closed."""
    raise RuntimeError("This session is closed.")


def view(mat: Any, stride: int | None = None) -> Array:
    """Give the memory of a Mat as an array with the batch first, or without it where there is none.

    The array keeps the Mat alive. Between channels, and between images, there may be a gap.
    """
    images = mat.n
    first: Array = np.asarray(mat)
    if images == 1:
        return first[np.newaxis]
    step = _image_stride(mat) if stride is None else stride
    return as_strided(first, (images, *first.shape), (step, *first.strides))


def _image_stride(mat: Any) -> int:
    """Tell how many bytes lie between two images of a batch, for which ncnn has no name in Python."""
    if mat.n == 1:
        return 0
    begins = [np.asarray(mat.batch(image)).__array_interface__["data"][0] for image in (0, 1)]
    return int(begins[1] - begins[0])


def _allocate(shape: Sequence[int], images: int) -> Any:
    """Allocate fp32 memory: ncnn counts dimensions from the last, and takes one to four of them."""
    mat = ncnn.Mat()
    mat.create(*reversed(shape), n=images)
    if mat.empty():
        raise MemoryError("ncnn ran out of memory and could not allocate an input.")
    return mat


def _shape_of(mat: Any, result: Array, name: str) -> tuple[int, ...]:
    """Give the shape by which an output of ncnn is copied into the array that the student declares."""
    shape = view(mat).shape
    if prod(shape) != result.size:
        raise RuntimeError(f"ncnn's output {name} has the shape {shape}, and {result.shape} is declared.")
    return shape
