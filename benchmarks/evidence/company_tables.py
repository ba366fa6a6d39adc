"""The tables of company in a block: a spinning idler, binaries that differ, four alike."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.evidence import chance, reading
from benchmarks.evidence.doubling import ALIKE, CROWD
from benchmarks.evidence.reading import Record
from benchmarks.evidence.tables import Table, interval
from kdbench import stats

Records = Mapping[str, Record]

PACE = 100
"""Milliseconds of a slice that the other lengths are compared with."""


def beside(records: Records) -> Table:
    """Tell whether a neighbour whose threads spin on after its visits biases a pair that is alike."""
    table = Table(
        "A pair alike beside a busy idler (log ratios, times 100: about %)",
        ("what", "threads", "blocks", "contended", "estimate", "one block is off by"),
        note="The idler leaves threads spinning after each call; it is stopped while others are visited. The "
        "last row compares, within rounds, the visits just after the idler with those just after the twin.",
    )
    for name, title in (("ranking-2", "a pair, no third"), ("neighbour-2", "a pair beside the idler")):
        if record := records.get(name):
            _tell(table, title, record, record.blocks)
    if record := records.get("neighbour-2"):
        _tell(table, "a visit after the idler / one after the twin", record, _carried(record))
    return table


def unlike(records: Records) -> Table:
    """Tell whether alternating taxes the larger of two binaries: then their ratio depends on the pace."""
    table = Table(
        "Unlike binaries: a backend against itself with a larger footprint (log ratios, times 100: about %)",
        (
            "slices of",
            "blocks",
            "contended",
            "large / small",
            f"less that at {PACE} ms",
            "calls after a switch: small",
            "large",
        ),
        note=f"Large takes turns among {CROWD} sessions of its own, small has one. What the ratio truly is "
        "nobody knows, but it does not depend on the pace unless alternating taxes the larger footprint. "
        "Calls after a switch are left out of every figure; told is how many times as long as others they "
        "take, the median over slices and trials.",
    )
    by_pace = {
        round(1e3 * (record.line.slice_s or 0)): record
        for record in records.values()
        if record.line.kind == "unlike" and len(record.blocks) > 1
    }
    for pace, record in by_pace.items():
        gap = chance.difference(record.blocks, by_pace[PACE].blocks) if PACE in by_pace else None
        table.rows.append(
            (
                f"{pace} ms",
                str(len(record.blocks)),
                str(record.contended),
                interval(stats.t_interval(record.blocks)),
                interval(gap) if gap and pace != PACE else "",
                *(f"{settling(record, name):.2f}" for name in record.line.pair),
            )
        )
    return table


def settling(record: Record, name: str) -> float:
    """Tell how many times as long the calls after a switch take, the median over trials."""
    return median(reading.settling(trial.result, trial.cell(name)) for trial in record.trials)


def four(records: Records) -> Table:
    """Tell whether four alike in a block are told apart: all six pairs of each line together."""
    table = Table(
        "Four alike in a block (log ratios, times 100: about %)",
        (
            "threads",
            "blocks",
            "contended",
            "estimates of the six pairs",
            "widest interval",
            "one block is off by",
            "intervals that exclude no difference",
        ),
        note="Off by: root mean square over blocks and pairs. The six pairs are not independent.",
    )
    for record in records.values():
        if record.line.kind == "four" and len(record.blocks) > 1:
            table.rows.append(_six(record))
    return table


def _six(record: Record) -> tuple[str, ...]:
    blocks = [
        [one for trial in record.trials for one in trial.estimates(a, b)]
        for a, b in itertools.combinations(ALIKE, 2)
    ]
    found = [stats.t_interval(some) for some in blocks]
    estimates = [100 * one.estimate for one in found]
    apart = sum(one.low > 0 or one.high < 0 for one in found)
    return (
        str(record.line.threads),
        str(len(record.blocks)),
        str(sum(len(trial.contended(*ALIKE)) for trial in record.trials)),
        f"{min(estimates):+.2f} to {max(estimates):+.2f}",
        f"± {100 * max(one.half for one in found):.2f}",
        f"{100 * chance.root_mean_square(list(itertools.chain(*blocks))):.2f}",
        f"{apart} of {len(found)}",
    )


def _carried(record: Record) -> list[float]:
    found: list[float] = []
    for trial in record.trials:
        pair = [trial.cell(name) for name in record.line.pair]
        found += reading.carry_over(trial.result, pair, trial.cell("idler")).values()
    return found


def _tell(table: Table, title: str, record: Record, blocks: Sequence[float]) -> None:
    if len(blocks) > 1:
        table.rows.append(
            (
                title,
                str(record.line.threads),
                str(len(blocks)),
                str(record.contended),
                interval(stats.t_interval(blocks)),
                f"{100 * chance.root_mean_square(blocks):.2f}",
            )
        )
