"""A result as tidy rows: one observation a row, every key field in a column of its own, units in the names.

What was not measured is None. Names of columns are those of `docs/results.md`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

from msgspec.structs import asdict

from kdbench.records import AccuracyRecord, CellRecord, Percentile, Result, Slice, Subject, Summary, Window
from kdbench.spec import Cell

What = Literal["cells", "slices", "windows", "samples"]
Row = dict[str, Any]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_SEVERITY = ("ok", "doubtful", "bad")
_RUN = ("run", "started_utc", "kdbench", "host_hash", "student", "student_sha256")
_ACCURACY = (
    "images",
    "correct",
    "reference_correct",
    "lost",
    "gained",
    "p",
    "disagreements",
    "flips",
    "deviation",
)


def select(result: Result, what: What) -> Iterator[Row]:
    """Give the rows of one kind; those of slices, windows and samples bear the key of their cell."""
    return ROWS[what](result)


def rows(result: Result) -> Iterator[Row]:
    """Give one row per cell: its key, what became of it, and every figure of its summary."""
    for record in result.cells:
        yield {**_run(result, record.cell), **_cell(record)}


def _cell(record: CellRecord) -> Row:
    return {
        **key(record.cell),
        "status": record.status,
        "phase": record.phase,
        "reason": record.reason,
        "eligible": record.eligible,
        **_placement(record),
        **_summary(record.summary or Summary()),
        **_accuracy(record.accuracy),
        **_costs(record),
        "warm_up_settled": record.warm_up_settled,
        "worst_check": _worst(record),
    }


def key(cell: Cell) -> Row:
    """Give the fields that results are joined on, each under its own name."""
    return dataclasses.asdict(cell)


KEY = tuple(field.name for field in dataclasses.fields(Cell))
"""The names of these fields."""


def columns(what: What) -> tuple[str, ...]:
    """Give the columns of one kind of row in their order, which a table without a row has too."""
    raw: tuple[str, ...]
    match what:
        case "cells":
            nobody = Cell(backend="", device="", precision="fp32", batch=1, scenario="latency")
            return (*_RUN, *_cell(CellRecord(cell=nobody, status="failed")))
        case "slices":
            raw = Slice.__struct_fields__
        case "windows":
            raw = (*Window.__struct_fields__, "in_flight")
        case "samples":
            raw = ("cell", "block", "kind", "value_ns", "weight")
    return tuple(dict.fromkeys(("run", *KEY, *raw)))


def subject(result: Result, cell: Cell) -> Subject:
    """Give what was measured in a cell; a trial may have two students."""
    own = [one.subject for one in result.trial.sides if one.side == cell.side] if result.trial else []
    return next((one for one in own if one is not None), result.subject)


def _run(result: Result, cell: Cell) -> Row:
    run, measured = result.run, subject(result, cell)
    host = result.environment.get("host_hash")
    told = (run.id, run.started_utc, run.kdbench, host, measured.student, measured.student_sha256)
    return dict(zip(_RUN, told, strict=True))


def _placement(record: CellRecord) -> Row:
    placed = record.placement
    return {
        "placed_device": placed.device if placed else None,
        "placed_precision": placed.precision if placed else None,
        "placed_threads": placed.threads if placed else None,
        "fallback": placed.fallback if placed else None,
    }


def _summary(summary: Summary) -> Row:
    known = {one.p: one for one in summary.percentiles}
    return {
        "calls": summary.calls,
        "median_ns": summary.median_ns,
        "p10_ns": summary.p10_ns,
        **{f"p{f'{p:g}'.replace('.', '_')}_ns": known.get(p, Percentile(p=p)).value_ns for p in PERCENTILES},
        "spread": summary.spread,
        "throughput_per_s": summary.throughput_per_s,
        "throughput_low_per_s": summary.throughput_low_per_s,
        "throughput_high_per_s": summary.throughput_high_per_s,
        "settled_depth": summary.depth,
        "device_ns": summary.device_ns,
    }


def _accuracy(accuracy: AccuracyRecord | None) -> Row:
    return {
        f"accuracy_{name}": None if accuracy is None else getattr(accuracy, name) for name in _ACCURACY
    } | {
        "accuracy_percent": 100 * accuracy.correct / accuracy.images
        if accuracy and accuracy.correct is not None and accuracy.images
        else None
    }


def _costs(record: CellRecord) -> Row:
    first, memory, artifact = record.first_output, record.memory, record.artifact
    return {
        "cold_ns": first.cold_ns if first else None,
        "warm_ns": first.warm_ns if first else None,
        "memory_peak_bytes": memory.peak_bytes if memory else None,
        "memory_base_bytes": memory.base_bytes if memory else None,
        "artifact_bytes": artifact.bytes if artifact else None,
        "artifact_origin": artifact.origin if artifact else None,
        "compile_s": artifact.compile_s if artifact else None,
        "compile_cached": artifact.cached if artifact else None,
    }


def _worst(record: CellRecord) -> str | None:
    """Give the outcome of the worst check with its id, None where nothing was judged."""
    if not record.checks:
        return None
    worst = max(record.checks, key=lambda check: _SEVERITY.index(check.outcome))
    return worst.outcome if worst.outcome == "ok" else f"{worst.outcome}: {worst.id}"


def slices(result: Result) -> Iterator[Row]:
    """Give one row per slice."""
    return _raw(result, result.slices)


def windows(result: Result) -> Iterator[Row]:
    """Give one row per throughput window; `in_flight` is the depth that the window was kept at."""
    for row, window in zip(_raw(result, result.windows), result.windows, strict=True):
        yield row | {"depth": result.cells[window.cell].cell.depth, "in_flight": window.depth}


def samples(result: Result) -> Iterator[Row]:
    """Give one row per timed call, or per bin of a histogram: `weight` is how many calls it stands for."""
    for one in result.samples:
        where = {"run": result.run.id, **key(result.cells[one.cell].cell), "cell": one.cell}
        where |= {"block": one.block, "kind": one.kind}
        if one.growth is None:
            yield from ({**where, "value_ns": value, "weight": 1} for value in one.values_ns)
        else:
            for k, weight in zip(one.bins, one.counts, strict=True):
                yield {**where, "value_ns": round(one.growth**k), "weight": weight}


def _raw(result: Result, records: Any) -> Iterator[Row]:
    for one in records:
        facts = {
            name: ", ".join(fact) if isinstance(fact, tuple) else fact for name, fact in asdict(one).items()
        }
        yield {"run": result.run.id, **key(result.cells[one.cell].cell), **facts}


ROWS: Mapping[What, Callable[[Result], Iterator[Row]]] = MappingProxyType(
    {"cells": rows, "slices": slices, "windows": windows, "samples": samples}
)
"""Every kind of row, by its name."""
