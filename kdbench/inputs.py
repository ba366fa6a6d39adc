"""The ring: distinct real inputs that take turns, where the timed call finds them.

At the boundary `host` that is the runner's own memory where it allocates some, at the boundary `device` what
its `upload` gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.errors import ContractError
from kdbench.measure import Ring
from kdbench.spec import Allocating
from kdbench.transfer import HOST, Transfer

if TYPE_CHECKING:
    from kdbench.spec import Array, Runner, TensorSpec

    Inputs = tuple[Array, ...]

ENTRIES = 64
"""One input that is always the same hides slow paths and feeds caches; this many distinct ones do not."""

RING_BYTES = 64 << 20
"""What a ring may take, on the host or on the device; `FEWEST` entries take turns whatever they take."""

FEWEST = 4
ALIGNMENT_BYTES = 64


def image_rows(entry: int, batch: int, images: int) -> Array:
    """Tell which images of the split make up entry `entry`: `(batch,)` indices, each entry another choice."""
    stride = max(1, min(batch, images // ENTRIES))
    return (np.arange(batch) + entry * stride) % images


def ring_of(
    runner: Runner,
    split: Sequence[Array],
    specs: Sequence[TensorSpec],
    batch: int,
    transfer: Transfer = HOST,
) -> Ring:
    """Fill a ring with batches of the split and touch every byte of it.

    As many entries as fit in `RING_BYTES`, `ENTRIES` at most. Raises `ContractError` when the runner's
    own memory is not what `Allocating` or `Resident` promises.
    """
    entry_bytes = sum(batch * array[:1].nbytes for array in split)
    count = int(np.clip(RING_BYTES // entry_bytes, FEWEST, ENTRIES))
    if transfer.boundary == "device":
        return Ring(_uploaded(transfer, split, specs, batch, count))
    if isinstance(runner, Allocating):
        entries = runner.allocate_inputs(count)
        _check(entries, specs, batch, count)
    else:
        entries = [_allocated(specs, batch) for _ in range(count)]
    for index, entry in enumerate(entries):
        fill(entry, split, index)
    return Ring(entries)


def fill(entry: Inputs, split: Sequence[Array], index: int) -> None:
    """Put the images of entry `index` into host arrays."""
    rows = image_rows(index, len(entry[0]), len(split[0]))
    for array, source in zip(entry, split, strict=True):
        array[...] = source[rows]


def _uploaded(
    transfer: Transfer, split: Sequence[Array], specs: Sequence[TensorSpec], batch: int, count: int
) -> list[Any]:
    """Upload every entry from the same host arrays, which are filled anew as soon as `upload` returns."""
    staged = _allocated(specs, batch)
    entries = []
    for index in range(count):
        fill(staged, split, index)
        entries.append(transfer.upload(staged))
    if len({id(entry) for entry in entries}) != count:
        raise ContractError("upload() answered the same object twice.", phase="run")
    return entries


def _allocated(specs: Sequence[TensorSpec], batch: int) -> Inputs:
    return tuple(_aligned((batch, *spec.shape), spec.dtype) for spec in specs)


def _aligned(shape: tuple[int, ...], dtype: str) -> Array:
    """Allocate an array whose data begin on a cache line, as vector units like it."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(count + ALIGNMENT_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + count].view(dtype).reshape(shape)


def _check(entries: object, specs: Sequence[TensorSpec], batch: int, count: int) -> None:
    if not isinstance(entries, list) or len(entries) != count:
        raise ContractError(f"allocate_inputs({count}) did not answer a list of {count}.", phase="run")
    for entry in entries:
        if not isinstance(entry, tuple) or len(entry) != len(specs):
            raise ContractError(
                f"allocate_inputs() did not answer tuples of {len(specs)} arrays each.", phase="run"
            )
        for array, spec in zip(entry, specs, strict=True):
            found = _differing(array, (batch, *spec.shape), spec.dtype)
            if found:
                raise ContractError(
                    f"allocate_inputs() answered {found} for {spec.name!r}; writable, C-contiguous "
                    f"{spec.dtype} {[batch, *spec.shape]} is promised.",
                    phase="run",
                )
    starts = {array.ctypes.data for entry in entries for array in entry}
    if len(starts) != count * len(specs):
        raise ContractError("allocate_inputs() answered the same memory twice.", phase="run")


def _differing(array: object, shape: tuple[int, ...], dtype: str) -> str:
    """Name what an array is, if that is not what was promised."""
    if not isinstance(array, np.ndarray):
        return f"a value of type {type(array).__name__}"
    if array.shape != shape or array.dtype != np.dtype(dtype):
        return f"{array.dtype} {list(array.shape)}"
    if not (array.flags.c_contiguous and array.flags.writeable):
        return "an array that is read-only or not C-contiguous"
    return ""
