"""Whether a runner computes: images that no call has had must not take longer than those that had their turn.

A runner that remembers answers by the content of its inputs is right and fast as long as the same images come
again, as they do in every benchmark; only what is new to it tells.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.errors import ContractError
from kdbench.inputs import image_rows
from kdbench.lane import Lane, Loaded, phase
from kdbench.measure import Clock

if TYPE_CHECKING:
    from kdbench.spec import Array

PAIRS, FEWEST = 7, 3
"""A look is so many calls of either kind, the order within each pair by chance; fewer where they are long."""

LOOKS, TRIES = 4, 6
"""So many looks must say the same, in so many tries: where chance alone orders the calls, one look with 6
does in 20, four of six in 10,000. A call that the machine held up spoils a look, and must not acquit."""

FACTOR, SLACK_NS = 2.0, 2_000


def refuse_memory(loaded: Loaded, lane: Lane, clock: Clock = perf_counter_ns) -> None:
    """Time calls with images that are new beside calls with known ones.

    Raises ContractError where, look after look, every new one takes more than twice as long as any known one.
    A look in which not even the typical new one does ends it at once, as for any runner that computes.
    """
    random = np.random.default_rng()  # a memory on disk must not know them from the run before
    ratios: list[float] = []
    for _ in range(TRIES):
        known, new = _look(loaded, lane, random, clock)
        if not known or median(new) <= FACTOR * median(known) + SLACK_NS:
            return
        if min(new) > FACTOR * max(known) + SLACK_NS:
            ratios.append(min(new) / max(known))
        if len(ratios) == LOOKS:
            break
    else:
        return
    raise ContractError(
        f"Images that it never had take {min(ratios):.1f} times as long as those that had their turn: "
        "it answers from a cache.",
        hint="A runner computes every call anew, and remembers no answer.",
        phase="run",
    )


def _look(
    loaded: Loaded, lane: Lane, random: np.random.Generator, clock: Clock
) -> tuple[list[int], list[int]]:
    """Give the times of calls with known images and with new ones, in ns."""
    times: dict[bool, list[int]] = {False: [], True: []}
    deadline = clock() + 2 * lane.plan.slice_s * 1e9
    for index in range(min(PAIRS, len(lane.rings[0].entries))):
        rows = image_rows(index, lane.batch, len(loaded.evaluation))
        images = tuple(array[rows] for array in loaded.evaluation.inputs)
        moved = tuple(_moved(array, random) for array in images)
        for is_new in random.permutation([False, True]):
            times[bool(is_new)].append(_call_ns(lane, index, moved if is_new else images, clock))
        _put(lane, index, images)
        if index + 1 >= FEWEST and clock() >= deadline:
            break
    return times[False], times[True]


def _call_ns(lane: Lane, index: int, images: tuple[Array, ...], clock: Clock) -> int:
    """Time one call with these images, just written to where calls begin."""
    with phase("run"):
        entry = _put(lane, index, images)
        begin = clock()
        lane.runner(entry)
        return clock() - begin


def _put(lane: Lane, index: int, images: tuple[Array, ...]) -> Any:
    """Put images into an entry of the ring, or upload them, so that new and known ones are alike."""
    if lane.transfer.boundary == "device":
        return lane.transfer.upload(images)
    for array, source in zip(lane.rings[0].entries[index], images, strict=True):
        array[...] = source
    return lane.rings[0].entries[index]


def _moved(images: Array, random: np.random.Generator) -> Array:
    """Turn each image by some pixels, over its edges: other content, the same values."""
    axes = tuple(range(1, images.ndim))[-2:]
    return np.roll(images, [int(random.integers(1, max(2, images.shape[axis]))) for axis in axes], axes)
