"""What is compared and by which margins: the options of a comparison as inert data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdbench.compare.spread import Floors, no_floors
from kdbench.metric import METRICS, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How results are compared.

    metrics: names of those that are looked at, empty for all that exist. margin: for metrics of time, in
    place of their own. gates: the metrics that alone decide the exit code, with their margins; empty for
    all. unlimited: those of them that were named without a limit. allow_mismatch: judge even what was not the
    same thing. floors: gives what self-tests stored.
    """

    metrics: tuple[str, ...] = ()
    margin: float | None = None
    gates: Mapping[str, float] = field(default_factory=dict)
    unlimited: frozenset[str] = frozenset()
    allow_mismatch: bool = False
    floors: Floors = no_floors

    def margin_of(self, metric: Metric) -> float:
        """Give the margin by which a metric is judged."""
        if metric.name in self.gates:
            return self.gates[metric.name]
        return self.margin if self.margin is not None and metric.timed else metric.margin

    def limits(self, metric: Metric) -> bool:
        """Tell whether somebody chose the margin of a metric itself."""
        return metric.name in self.gates and metric.name not in self.unlimited

    def asks_for(self, metric: Metric) -> bool:
        """Tell whether a metric was named: then it is worth telling why there is nothing of it."""
        return metric.name in self.metrics or metric.name in self.gates

    def wants(self, metric: Metric) -> bool:
        """Tell whether a metric is looked at."""
        return not self.metrics or self.asks_for(metric)

    def counts(self, name: str) -> bool:
        """Tell whether what is found of a metric decides the exit code; a status always does.

        It does where it is gated, else where it is judged unasked or was asked for.
        """
        metric = METRICS.get(name)
        if metric is None:
            return True
        return name in self.gates if self.gates else metric.judged or self.asks_for(metric)
