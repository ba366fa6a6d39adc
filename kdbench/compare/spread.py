"""How far apart two runs of one and the same thing lie: what any comparison of two files has to allow for.

It is known from this machine's self-test, from floors in the files themselves, or else from a prior.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kdbench.compare.evidence import Evidence, threads
from kdbench.metric import Metric
from kdbench.ranking import at_settled_depth
from kdbench.records import Floor

Floors = Callable[[str], tuple[Floor, ...]]
"""Gives the floors that are stored for the machine of a host hash, none where there are none."""

PRIOR_ONE, PRIOR_MORE, PRIOR_DF = 0.065, 0.20, 30.0
"""Standard deviation of the log of a run's own median, with one thread and with more, on a shared machine of
two CPUs: separate runs lay 8 to 9 % and 25 to 31 % apart (root mean square), a root of two of it each."""

BLOCK_ONE, BLOCK_MORE, BLOCK_S = 0.01, 0.03, 2.5
"""The like of the estimate of one block of a trial, and how long a block takes."""

TAIL_FACTOR = 2.0
"""Tails wander more than medians from run to run; that it is twice as much is an assumption."""

FEW_RUNS = 5
"""A scatter of fewer runs may be small by luck: then the prior holds where it is larger."""

TESTED = ("slices", "windows")
"""Where values come from whose scatter a self-test measures. That of tails, p90 and loading it does not: they
scatter no less than medians, so there its scatter holds only where it is larger than the prior."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations in log terms: `run_sd` from run to run, `block_sd` of a trial's blocks.

    df: degrees of freedom of `run_sd`. source: where it is known from.
    """

    run_sd: float
    df: float
    source: str
    block_sd: float
    block_s: float


def no_floors(host_hash: str) -> tuple[Floor, ...]:
    """Give none: nothing is stored."""
    return ()


def spread(metric: Metric, found: Evidence, floors: Iterable[Floor]) -> Spread:
    """Give the spread that holds for a cell: that of the nearest floor, else the prior."""
    prior, floor = _prior(metric, found), nearest(found, floors)
    if floor is None:
        return prior
    block_sd, block_s = floor.block_sd, floor.block_s or BLOCK_S
    if floor.run_sd is None or floor.runs < 2:
        return Spread(prior.run_sd, prior.df, prior.source, block_sd, block_s)
    run_sd = floor.run_sd * (TAIL_FACTOR if metric.origin == "tail" else 1.0)
    believed = floor.runs >= FEW_RUNS and metric.origin in TESTED
    if run_sd < prior.run_sd and not believed:
        return Spread(prior.run_sd, prior.df, prior.source, block_sd, block_s)
    source = f"{floor.runs} runs of this machine's self-test"
    return Spread(run_sd, floor.runs - 1.0, source, block_sd, block_s)


def nearest(found: Evidence, floors: Iterable[Floor]) -> Floor | None:
    """Choose the floor of a cell: same backend, device, scenario and threads; the nearest batch size.

    Of equals, one of the same version of the runtime goes before another, and a later one before an earlier.
    """
    cell, used = found.record.cell, threads(found)
    version = next((one.runtime_version for one in found.result.backends if one.name == cell.backend), "")
    fitting = [
        floor
        for floor in floors
        if (floor.backend, floor.device, floor.scenario) == (cell.backend, cell.device, cell.scenario)
        and floor.threads == used
    ]

    def rank(floor: Floor) -> tuple[float, bool, str]:
        apart = max(floor.batch, cell.batch) / max(1, min(floor.batch, cell.batch))
        return -apart, floor.runtime_version == version, floor.until_utc

    return max(fitting, key=rank, default=None)


def _prior(metric: Metric, found: Evidence) -> Spread:
    alone = threads(found) == 1 and not _several_in_flight(found)
    run_sd, block_sd = (PRIOR_ONE, BLOCK_ONE) if alone else (PRIOR_MORE, BLOCK_MORE)
    lie = "of one thread lie about 9 %" if alone else "of two threads or more lie about 28 %"
    source = f"a prior: two runs {lie} apart on a shared machine"
    if metric.origin != "tail":
        return Spread(run_sd, PRIOR_DF, source, block_sd, BLOCK_S)
    source += ", and tails twice as far, which is an assumption"
    return Spread(TAIL_FACTOR * run_sd, PRIOR_DF, source, block_sd, BLOCK_S)


def _several_in_flight(found: Evidence) -> bool:
    """Requests side by side use more than one CPU, however many threads each has."""
    settled = at_settled_depth(found.windows)
    return bool(settled) and settled[0].depth > 1
