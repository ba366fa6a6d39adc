"""Where the better of two becomes the worse as batches grow: doubling, then bisection.

Nothing here measures. `search` asks a function who is ahead at a batch size; what it asks next follows from
the answers alone, so the same answers lead to the same questions, and an interrupted search goes on where it
stopped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

Sign = Literal[-1, 0, 1]
"""Who of a pair is ahead: 1 the first, -1 the second, 0 nobody can tell."""

Pair = tuple[int, int]
Signs = dict[Pair, dict[int, Sign]]
"""Of each pair, the lower number first, who is ahead at each batch size at which both were measured."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What measuring at one batch size told. ended: who cannot go on to larger batches."""

    signs: Mapping[Pair, Sign]
    ended: Collection[int] = ()


Measure = Callable[[int, tuple[int, ...]], Answer]
"""Measure some configurations, given by number, side by side at one batch size."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Two batch sizes at which different ones are ahead, and no sign between them tells more."""

    low: int
    high: int
    below: Sign
    above: Sign
    untold: tuple[int, ...] = ()
    """Sizes between them at which nobody can tell."""


def ladder(batches: Sequence[int], largest: int) -> tuple[int, ...]:
    """Give the batch sizes that are tried first: those given, then double the last, up to the largest."""
    sizes = sorted(set(batches))
    while 2 * sizes[-1] <= largest:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def search(count: int, rungs: Sequence[int], measure: Measure, *, resolution: float, changes: int) -> Signs:
    """Find where the pairs of `count` configurations change places.

    rungs: batch sizes to begin with, in ascending order; whoever cannot be measured at one is asked for no
    larger one. resolution, changes: as of `questions`.
    """
    signs: Signs = {pair: {} for pair in combinations(range(count), 2)}
    going = set(range(count))
    for rung in rungs:
        if len(going) < 2:
            break
        answer = measure(rung, tuple(sorted(going)))
        _noted(signs, rung, answer, going)
        going -= set(answer.ended)
    while asked := questions(signs, resolution, changes):
        for batch, wanted in asked.items():
            _noted(signs, batch, measure(batch, wanted), wanted, in_vain=0)
    return signs


def _noted(
    signs: Signs, batch: int, answer: Answer, wanted: Collection[int], *, in_vain: Sign | None = None
) -> None:
    """Keep what an answer tells of those who were wanted. in_vain: what counts where it tells nothing."""
    for pair, known in signs.items():
        sign = answer.signs.get(pair, in_vain)
        if sign is not None and set(pair) <= set(wanted):
            known[batch] = sign


def questions(signs: Signs, resolution: float, changes: int) -> dict[int, tuple[int, ...]]:
    """Give the batch sizes to be measured next, ascending, each with those who are to be measured there.

    resolution: share of its lower end that a bracket may be wide; one whole batch size always may. changes:
    of how many brackets of each pair the ends are sought more closely.
    """
    wanted: dict[int, set[int]] = defaultdict(set)
    for pair, known in signs.items():
        for bracket in brackets(known)[:changes]:
            middle = probe(bracket, resolution)
            if middle is not None:
                wanted[middle] |= set(pair)
                break
    return {batch: tuple(sorted(wanted[batch])) for batch in sorted(wanted)}


def brackets(known: Mapping[int, Sign]) -> tuple[Bracket, ...]:
    """Give every change of sign of a pair, from the smallest batch size to the largest."""
    told = [(batch, known[batch]) for batch in sorted(known) if known[batch]]
    untold = [batch for batch in sorted(known) if not known[batch]]
    return tuple(
        Bracket(low, high, below, above, tuple(batch for batch in untold if low < batch < high))
        for (low, below), (high, above) in pairwise(told)
        if below != above
    )


def probe(bracket: Bracket, resolution: float) -> int | None:
    """Give the batch size that narrows a bracket best, or None where it is as narrow as can be.

    Where nobody can tell in the middle, each end is moved towards that middle by itself.
    """
    inner = bracket.untold or (bracket.high,)
    gaps = [(bracket.low, inner[0])]
    if bracket.untold:
        gaps.append((inner[-1], bracket.high))
    for low, high in gaps:
        if not _narrow(low, high, resolution):
            return (low + high) // 2
    return None


def _narrow(low: int, high: int, resolution: float) -> bool:
    return high - low <= max(1, math.floor(resolution * low))


def most_steps(rungs: Sequence[int], resolution: float, changes: int) -> int:
    """Count the batch sizes that are measured at most, beside the rungs, for one pair.

    A bracket between two rungs takes as many steps as its width can be halved, and up to twice as many where
    nobody can tell in its middle.
    """
    halvings = [_halvings(low, high, resolution) for low, high in pairwise(rungs)]
    return sum(2 * steps for steps in sorted(halvings, reverse=True)[:changes])


def _halvings(low: int, high: int, resolution: float) -> int:
    """Count the probes of a gap whose lower end stays: the narrowest limit counts."""
    steps = 0
    while not _narrow(low, high, resolution):
        high -= (high - low) // 2
        steps += 1
    return steps
