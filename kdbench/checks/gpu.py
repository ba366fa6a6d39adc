"""What is measured about the GPU under a cell; a cell without one has none of these checks."""

from __future__ import annotations

from collections.abc import Sequence

from kdbench.checks.evidence import Evidence
from kdbench.checks.rule import Rule
from kdbench.raw import Slice, Window

SEVERAL = 3
"""Fewer visits than this say nothing about what all of them have in common."""

HELD = 0.01
"""Share of a visit for which power or heat may have held the clock back and it still counts as free of
that."""


def _throttled(evidence: Evidence) -> float | None:
    """Give the share of visits in which hardware, heat or power lowered the clock."""
    known = [
        one for one in evidence.visits if one.gpu_throttle is not None or one.gpu_throttled_ns is not None
    ]
    if not known:
        return None
    return sum(map(_lowered, known)) / len(known)


def _lowered(visit: Slice | Window) -> bool:
    return bool(visit.gpu_throttle) or (visit.gpu_throttled_ns or 0) > HELD * visit.duration_ns


def _throttled_stretch(evidence: Evidence) -> float | None:
    """Give the share of a long stretch for which power or heat held the clock back."""
    longest = max(evidence.stretches, key=lambda one: one.duration_ns, default=None)
    if longest is None or longest.gpu_throttled_ns is None or not longest.duration_ns:
        return None
    return longest.gpu_throttled_ns / longest.duration_ns


def _foreign(evidence: Evidence) -> float | None:
    return max((one.gpu_foreign for one in evidence.visits if one.gpu_foreign is not None), default=None)


def _clocks(visits: Sequence[Slice | Window]) -> list[float]:
    return sorted(one.gpu_clock_mhz for one in visits if one.gpu_clock_mhz)


def _unsteady_clock(evidence: Evidence) -> float | None:
    """By what share the SM clock differs from visit to visit, a tenth of them left out at either end."""
    clocks = _clocks(evidence.visits)
    if len(clocks) < SEVERAL:
        return None
    tenth = len(clocks) // 10
    return clocks[-1 - tenth] / clocks[tenth] - 1


def _unsettled(evidence: Evidence) -> float | None:
    known = [one.gpu_settled for one in evidence.visits if one.gpu_settled is not None]
    return known.count(False) / len(known) if known else None


def _link(evidence: Evidence) -> float | None:
    """Give the share of the bandwidth of its PCIe link that was missing under load, at the best visit.

    A lane of a generation carries about twice what one of the generation before does.
    """
    best = max(
        (
            one.gpu_pcie_width * 2.0**one.gpu_pcie_generation
            for one in evidence.visits
            if one.gpu_pcie_width and one.gpu_pcie_generation and one.gpu_pcie_generation < 64
        ),
        default=None,
    )
    lanes, generation = (evidence.gpu.get(f"pcie_{name}_max") for name in ("width", "generation"))
    if (
        best is None
        or not isinstance(lanes, int)
        or not isinstance(generation, int)
        or not 0 < generation < 64
    ):
        return None
    return max(0.0, 1 - best / (lanes * 2.0**generation)) if lanes > 0 else None


RULES = (
    # As a drift of the clock: one visit in twenty may meet a moment of it, half of them are another machine.
    Rule(
        "gpu-throttled",
        _throttled,
        0.05,
        0.50,
        "power or heat lowered the GPU's clock in {percent:.0f} % of visits",
    ),
    # As `throttled` of a CPU: time that somebody else's rule took away.
    Rule(
        "gpu-held-back",
        _throttled_stretch,
        0.01,
        0.10,
        "power or heat held the GPU's clock back for {percent:.0f} % of its long stretch",
    ),
    # A process with a context may be idle, so one is a doubt; from two on the GPU is shared.
    Rule("gpu-foreign", _foreign, 0.5, 1.5, "other processes on its GPU: {value:.0f}"),
    # What changes the clock by 5 % changes the time by as much: the limit of drift.
    Rule(
        "gpu-clock-steady",
        _unsteady_clock,
        0.05,
        0.25,
        "the GPU's clock varied by {percent:.0f} % between visits",
    ),
    # As `gpu-throttled`. What has not settled in half a second is slowed, or too little to keep a clock up.
    Rule(
        "gpu-unsettled",
        _unsettled,
        0.05,
        0.50,
        "the GPU's clock had not settled before {percent:.0f} % of visits",
    ),
    # Half the lanes, or a generation less, halve the rate of copies, which are within the boundary `host`.
    Rule(
        "gpu-link", _link, 0.25, 0.70, "the GPU's PCIe link lacks {percent:.0f} % of its bandwidth under load"
    ),
)
