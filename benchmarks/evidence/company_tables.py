"""The tables beside the trials: company in a block, the ranking of a run, and separate runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.evidence import chance, reading
from benchmarks.evidence.chance import Share
from benchmarks.evidence.doubling import ALIKE, CROWD
from benchmarks.evidence.reading import Record
from benchmarks.evidence.separate import PLANTED, Separate, separate
from benchmarks.evidence.tables import BOUNDS, Table, bounded, interval, percent
from kdbench import stats

Records = Mapping[str, Record]

PACE = 100
"""Milliseconds of a slice that the other lengths are compared with."""


def neighbours(records: Records) -> Table:
    """Tell whether company in a block biases: an idler, three twins, unlike binaries at another pace."""
    table = Table(
        "Company in a block (log ratios, times 100: about %)",
        ("what", "threads", "blocks", "estimate", "one block is off by"),
        notes=(
            f"Crowd: takes turns among {CROWD} sessions of its own; single: the same with one. Truth is",
            "not known there, but does not depend on the pace unless alternating taxes the larger footprint.",
        ),
    )
    for name, title in (("ranking-2", "a pair, no third"), ("neighbour-2", "a pair beside a spinning idler")):
        if record := records.get(name):
            _tell(table, title, record.line.threads, record.blocks)
    if record := records.get("neighbour-2"):
        _tell(table, "a visit after the idler / one after the twin", record.line.threads, _carried(record))
    for threads in (1, 2):
        if record := records.get(f"four-{threads}"):
            for a, b in itertools.combinations(ALIKE, 2):
                blocks = [one for trial in record.trials for one in trial.estimates(a, b)]
                _tell(table, f"of four alike: {b} / {a}", threads, blocks)
    _tell_unlike(table, [one for one in records.values() if one.line.kind == "unlike" and one.trials])
    return table


def ranked(records: Records) -> Table:
    """Count how often `kdbench run` declares a leader among two that are one backend."""
    table = Table(
        "`kdbench run` of one backend under two names: is a leader declared?",
        ("threads", "whole runs", "blocks each", "declared ahead", "by more than 3 %"),
        notes=(BOUNDS,),
    )
    kept = [record for record in records.values() if record.line.kind == "ranking" and record.trials]
    for some in [*([one] for one in kept), *([kept] if len(kept) > 1 else [])]:
        leads = [lead for record in some for trial in record.trials for lead in trial.result.leads]
        ahead = [lead for lead in leads if lead.verdict == "ahead"]
        far = [lead for lead in ahead if (lead.ratio or 1.0) > 1 + chance.MARGIN]
        table.rows.append(
            (
                "/".join(str(record.line.threads) for record in some),
                str(len(leads)),
                str(some[0].usual_blocks),
                bounded(Share(len(ahead), len(leads))),
                bounded(Share(len(far), len(leads))),
            )
        )
    return table


def apart(records: Records) -> Table:
    """Tell what `kdbench compare` makes of separate runs, alike and with a change planted."""
    table = Table(
        "`kdbench compare` of separate runs: the interval excludes none / called a change",
        (
            "runs",
            "pairs",
            "min apart",
            "differ by",
            "could see",
            "false alarms",
            *(f"+{percent(share, 0)}" for share in PLANTED if share),
        ),
        notes=(
            "With nothing known of the machine but kdbench's prior. Differ by: root mean square of the log",
            "ratio of two alike runs, times 100. Slow-downs are planted: found / called worse. Each run is",
            "one cell of a run or trial; pairs are neighbours in time within a line.",
            BOUNDS,
        ),
    )
    for title, some in _groups(records):
        if found := separate(some):
            table.rows.append((title, *_row(found)))
    return table


def _groups(records: Records) -> Iterable[tuple[str, list[Record]]]:
    """Give the lines of alike runs by backend and threads, and all of so many threads."""
    for threads in (1, 2):
        alike = [
            record
            for record in records.values()
            if record.line.kind in ("alike", "ranking") and record.line.threads == threads
        ]
        times = f"{threads} thread{'s' if threads > 1 else ''}"
        backends = dict.fromkeys(record.line.backend for record in alike)
        for backend in backends:
            yield f"{backend}, {times}", [record for record in alike if record.line.backend == backend]
        if len(backends) > 1:
            yield f"all, {times}", alike


def _row(found: Separate) -> list[str]:
    planted = [
        f"{percent(found.found[share].value, 0)} / {percent(found.beyond[share].value, 0)}"
        for share in PLANTED
        if share
    ]
    return [
        str(found.found[0.0].trials),
        f"{found.minutes:.1f}",
        f"{100 * chance.root_mean_square(found.apart):.1f}",
        percent(found.detectable) if found.detectable is not None else "",
        f"{bounded(found.found[0.0])} / {bounded(found.beyond[0.0])}",
        *planted,
    ]


def _carried(record: Record) -> list[float]:
    found: list[float] = []
    for trial in record.trials:
        pair = [trial.cell(name) for name in record.line.pair]
        found += reading.carry_over(trial.result, pair, trial.cell("idler")).values()
    return found


def _tell_unlike(table: Table, unlike: Sequence[Record]) -> None:
    """Tell the ratio at each pace, how slow the calls are that are dropped, and whether pace matters."""
    by_pace = {round(1e3 * (record.line.slice_s or 0)): record for record in unlike}
    for pace, record in by_pace.items():
        single, crowd = (
            max(reading.settling(trial.result, trial.cell(name)) for trial in record.trials)
            for name in record.line.pair
        )
        dropped = f"calls after a switch take {single:.1f} and {crowd:.1f} times as long"
        _tell(table, f"crowd / single, slices of {pace} ms; {dropped}", 1, record.blocks, alike=False)
    usual = by_pace[PACE].blocks if PACE in by_pace else []
    for pace, record in by_pace.items():
        if pace != PACE and min(len(record.blocks), len(usual)) > 1:
            gap = chance.difference(record.blocks, usual)
            told = f"the same, at {pace} ms less that at {PACE} ms"
            table.rows.append((told, "1", str(gap.blocks), interval(gap), ""))


def _tell(table: Table, title: str, threads: int, blocks: Sequence[float], *, alike: bool = True) -> None:
    if len(blocks) > 1:
        off = f"{100 * chance.root_mean_square(blocks):.2f}" if alike else ""
        found = interval(stats.t_interval(blocks))
        table.rows.append((title, str(threads), str(len(blocks)), found, off))
