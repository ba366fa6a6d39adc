"""Figures of a result that other tools keep a history of: a name per configuration, a value per measure.

Latency and throughput of one configuration stand under one name, as their measures tell them apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kdbench import stats
from kdbench.export.tidy import subject
from kdbench.records import CellRecord, Result, Slice
from kdbench.spec import Cell, Scenario
from kdbench.strict import clean
from kdbench.summary import over_blocks

LONGEST_NAME = 200

_DEPTH: Mapping[Scenario, int | str] = MappingProxyType({"latency": 1, "throughput": "auto"})
"""The depth that goes without saying, so that latency and throughput of one configuration have one name."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one configuration.

    measure: a slug. low, high: its 95 % interval over the blocks of the run, None where there is none.
    bigger: whether more of it is better.
    """

    benchmark: str
    measure: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    bigger: bool = False


def figures(results: Sequence[Result]) -> Iterator[Figure]:
    """Give the figures of all cells that were measured, each measure of a name once.

    Of several results that measured the same, the last one counts.
    """
    found: dict[tuple[str, str], Figure] = {}
    for result in results:
        slices: dict[int, list[Slice]] = defaultdict(list)
        for one in result.slices:
            slices[one.cell].append(one)
        own: dict[tuple[str, str], Figure] = {}
        for index, record in enumerate(result.cells):
            if record.status == "measured" and record.summary is not None:
                for figure in _of(name(record.cell, result), record, slices[index]):
                    own.setdefault((figure.benchmark, figure.measure), figure)
        found.update(own)
    yield from found.values()


def name(cell: Cell, result: Result) -> str:
    """Name a configuration the same way in every run: student, backend, and the rest of its key.

    The depth is told where somebody chose it, as two cells may differ in nothing else.
    """
    parts = [
        subject(result, cell).student,
        cell.side.upper(),
        "teacher" if cell.network == "teacher" else "",
        cell.backend,
        cell.device,
        cell.precision,
        f"batch {cell.batch}",
        f"depth {cell.depth}" if cell.depth != _DEPTH[cell.scenario] else "",
        f"threads {cell.threads}",
        cell.boundary if cell.boundary != "host" else "",
        cell.variant,
    ]
    return clean(" / ".join(part for part in parts if part))[:LONGEST_NAME]


def _of(benchmark: str, record: CellRecord, slices: Sequence[Slice]) -> Iterator[Figure]:
    summary, accuracy, first = record.summary, record.accuracy, record.first_output
    if summary is not None and summary.median_ns is not None:
        yield Figure(benchmark, "latency", "ns", summary.median_ns, *_interval(slices))
        for one in summary.percentiles:
            if one.value_ns is not None and one.p >= 90:
                yield Figure(benchmark, f"latency-p{f'{one.p:g}'.replace('.', '-')}", "ns", one.value_ns)
    if summary is not None and summary.device_ns is not None:
        yield Figure(benchmark, "device-time", "ns", summary.device_ns)
    if summary is not None and summary.throughput_per_s is not None:
        low, high = summary.throughput_low_per_s, summary.throughput_high_per_s
        rate = summary.throughput_per_s
        yield Figure(benchmark, "throughput", "images/s", rate, low, high, bigger=True)
    if accuracy is not None and accuracy.correct is not None and accuracy.images:
        low, high = stats.wilson(accuracy.correct, accuracy.images)
        share = 100 * accuracy.correct / accuracy.images
        yield Figure(benchmark, "accuracy", "%", share, 100 * low, 100 * high, bigger=True)
    if accuracy is not None:
        yield Figure(benchmark, "label-flips", "images", accuracy.flips)
    if record.memory is not None and record.memory.peak_bytes is not None:
        yield Figure(benchmark, "peak-memory", "bytes", record.memory.peak_bytes)
    if record.artifact is not None:
        yield Figure(benchmark, "artifact-size", "bytes", record.artifact.bytes)
    if first is not None and first.warm_ns is not None:
        yield Figure(benchmark, "warm-start", "ns", first.warm_ns)


def _interval(slices: Sequence[Slice]) -> tuple[float | None, float | None]:
    """Give the t interval of the blocks' own medians: what this run tells, not what the next one will."""
    blocks: dict[int, list[Slice]] = defaultdict(list)
    for one in slices:
        blocks[one.block].append(one)
    logs = [math.log(max(1.0, over_blocks(own, "median_ns"))) for own in blocks.values()]
    if len(logs) < 2:
        return None, None
    interval = stats.t_interval(logs)
    low, high = math.exp(interval.low), math.exp(min(interval.high, 700.0))
    return low, high
