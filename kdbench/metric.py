"""The metrics that results are compared by, as data: unit, scale, direction, margin, and what they come from.

`kdbench.compare` gets their values; tables and exporters take titles and units from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from kdbench.comparison import Scale
from kdbench.spec import Scenario

STATUS = "status"
"""What a change of status is called: no metric, but a row that was measured and is no longer is worse."""

Origin = Literal["slices", "calls", "tail", "windows", "loads", "predictions", "flips", "once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing to compare.

    unit: of its values, see `comparison.Change`. worse: in which direction it becomes worse.
    margin: a change that matters, on the scale: a share, percentage points, or a count.
    floor: an absolute difference, in `unit`, below which there is none, whatever its share.
    origin: how values are got. `slices`: log of slice medians, a block's median. `calls`: a block's
        percentile of all calls of its slices. `tail`: a percentile of an uninterrupted stretch. `windows`:
        log of images per second, a block's mean. `loads`: each process but the cold one. `predictions`:
        paired images. `flips`: images. `once`: one observation, or exact, so that the margin alone decides.
    scenario: of the cells that have it, None for any.
    timed: whether `--margin` is meant for it. judged: whether it counts unless it is asked for by name.
    """

    name: str
    title: str
    unit: str
    scale: Scale = "ratio"
    worse: Literal["up", "down"] = "up"
    margin: float
    floor: float = 0.0
    origin: Origin
    scenario: Scenario | None = None
    timed: bool = False
    judged: bool = True


_LATENCY_FLOOR_NS = 200.0
_ALL = (
    Metric(
        name="latency.p50",
        title="median latency",
        unit="ns",
        margin=0.03,
        floor=_LATENCY_FLOOR_NS,
        origin="slices",
        scenario="latency",
        timed=True,
    ),
    Metric(
        name="latency.p90",
        title="p90 latency",
        unit="ns",
        margin=0.05,
        floor=_LATENCY_FLOOR_NS,
        origin="calls",
        scenario="latency",
        timed=True,
    ),
    Metric(
        name="latency.p99",
        title="p99 latency",
        unit="ns",
        margin=0.10,
        floor=_LATENCY_FLOOR_NS,
        origin="tail",
        scenario="latency",
        timed=True,
    ),
    Metric(
        name="throughput",
        title="throughput",
        unit="per_s",
        worse="down",
        margin=0.03,
        origin="windows",
        scenario="throughput",
        timed=True,
    ),
    Metric(
        name="accuracy.top1",
        title="accuracy",
        unit="%",
        scale="points",
        worse="down",
        margin=0.5,
        origin="predictions",
    ),
    Metric(
        name="accuracy.flips",
        title="label flips",
        unit="images",
        scale="count",
        margin=1.0,
        origin="flips",
    ),
    Metric(name="memory.peak", title="peak memory", unit="bytes", margin=0.05, floor=1e6, origin="once"),
    Metric(name="artifact.bytes", title="artifact", unit="bytes", margin=0.01, floor=1e3, origin="once"),
    Metric(name="load.time", title="load", unit="ns", margin=0.10, floor=5e6, origin="loads", judged=False),
    Metric(
        name="compile.time",
        title="compile",
        unit="s",
        margin=0.10,
        floor=0.1,
        origin="once",
        judged=False,
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""By name, in the order in which a row tells them."""
