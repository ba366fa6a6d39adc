"""How often chance alone is called a change, and how often a true change is found.

Two ways of counting. Whole verdicts are counted as they came, with Clopper and Pearson's bounds, which hold
whatever the rate is. Recorded blocks are drawn anew: that tells what verdicts of few or many blocks
would have been, but adds no independence to the blocks that there are.

"Found" means that the t interval over blocks excludes no difference; "beyond" that the estimate lies beyond
the margin as well, which is when kdbench calls a change better or worse. Estimates are log ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

import numpy as np

from kdbench import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Estimates = NDArray[np.float64]

MARGIN = 0.03
"""kdbench's own for times, as a share."""

DRAWS = 10_000
SEED = 20_261_124


@dataclass(frozen=True, slots=True)
class Share:
    """How many of all were so."""

    count: int
    trials: int

    @property
    def value(self) -> float:
        """The share itself; 0 of none is 0."""
        return self.count / self.trials if self.trials else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Clopper and Pearson's."""
        return clopper_pearson(self.count, self.trials)


@dataclass(frozen=True, slots=True)
class Rates:
    """Of verdicts of `blocks` blocks, drawn from those recorded: the shares found, and beyond the margin."""

    blocks: int
    found: float
    beyond: float


def clopper_pearson(count: int, trials: int, confidence: float = stats.CONFIDENCE) -> tuple[float, float]:
    """Give a lower and an upper bound of a rate, each one-sided.

    The rate lies above the lower in at least `confidence` of cases, and below the upper one in as many; both
    together hold in 90 % of cases. 0 of 59 bounds a rate at 5 %. C. J. Clopper and E. S. Pearson, The use of
    confidence or fiducial limits illustrated in the case of the binomial, Biometrika 26 (1934).
    """
    return stats.clopper_pearson(count, trials, 2 * confidence - 1)


def false_alarms(blocks: Sequence[float], size: int, margin: float = MARGIN) -> Rates:
    """Tell how often blocks of two alike sides would have been called a change.

    Which side is called the first does not matter to alike ones, so each block is as likely with its sign
    changed. `size` of the blocks are drawn without replacement, each with a sign by a coin.
    """
    chooser = np.random.default_rng(SEED)
    drawn = _drawn(chooser, np.asarray(blocks), size)
    return _rates(drawn * chooser.choice((-1.0, 1.0), drawn.shape), margin)


def power(blocks: Sequence[float], size: int, truth: float, margin: float = MARGIN) -> Rates:
    """Tell how often a true change, which these blocks met, would have been found with the right sign.

    truth: its log ratio, not 0. The right sign is that of the truth, whatever the blocks say. Drawn without
    replacement, so that a size near that of the record varies too little.
    """
    drawn = _drawn(np.random.default_rng(SEED), np.asarray(blocks), size)
    return _rates(drawn, margin, towards=math.copysign(1.0, truth))


def root_mean_square(blocks: Sequence[float], truth: float = 0.0) -> float:
    """Tell how far one block is off."""
    return math.sqrt(fmean((one - truth) ** 2 for one in blocks))


def difference(a: Sequence[float], b: Sequence[float]) -> stats.Interval:
    """Give the mean of `a` less that of `b`, from separate blocks, with Welch's interval.

    `blocks` of the answer are those of both.
    """
    parts = [(variance(one) / len(one), len(one) - 1.0) for one in (a, b)]
    return stats.Interval(fmean(a) - fmean(b), stats.t_half(*stats.combined(parts)), len(a) + len(b))


def _drawn(chooser: np.random.Generator, blocks: Estimates, size: int) -> Estimates:
    """Draw `size` of the blocks without replacement, `DRAWS` times: an array (DRAWS, size)."""
    order = np.argsort(chooser.random((DRAWS, len(blocks))), axis=1)[:, :size]
    drawn: Estimates = blocks[order]
    return drawn


def _rates(drawn: Estimates, margin: float, towards: float = 0.0) -> Rates:
    """Judge each row as a whole verdict; with `towards` only those with that sign are right."""
    size = drawn.shape[1]
    factor = stats.t_half(1 / math.sqrt(size), size - 1)
    means = drawn.mean(axis=1)
    sure = np.abs(means) > factor * drawn.std(axis=1, ddof=1)
    if towards:
        sure &= np.sign(means) == towards
    far = np.abs(means) > math.log1p(margin)
    return Rates(size, float(sure.mean()), float((sure & far).mean()))
