"""The tables of `kdbench run` and of `kdbench compare`: the ranking of one run, and separate runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.evidence import chance, separate
from benchmarks.evidence.chance import Share
from benchmarks.evidence.reading import Record
from benchmarks.evidence.separate import PLANTED, Pair, Separate
from benchmarks.evidence.tables import BOUNDS, Table, bounded, percent

Records = Mapping[str, Record]
Pairs = Mapping[str, Sequence[Pair]]
"""Separate runs of alike sides, two by two and judged, by line."""


def paired(records: Records) -> dict[str, tuple[Pair, ...]]:
    """Pair the runs of all lines of alike sides, and have kdbench judge them."""
    return {
        name: separate.pairs(record)
        for name, record in records.items()
        if record.line.kind in ("alike", "ranking")
    }


def ranked(records: Records) -> Table:
    """Count how often `kdbench run` declares a leader among two that are one backend."""
    table = Table(
        "`kdbench run` of one backend under two names: is a leader declared?",
        ("threads", "whole runs", "blocks each", "contended", "declared ahead", "by more than 3 %"),
        note=BOUNDS,
    )
    kept = [record for record in records.values() if record.line.kind == "ranking" and record.trials]
    for some in [*([one] for one in kept), *([kept] if len(kept) > 1 else [])]:
        ahead, far = leads(some)
        table.rows.append(
            (
                " and ".join(str(record.line.threads) for record in some),
                str(ahead.trials),
                str(some[0].usual_blocks),
                f"{sum(one.contended for one in some)} of {sum(len(one.blocks) for one in some)}",
                bounded(ahead),
                bounded(far),
            )
        )
    return table


def leads(some: Iterable[Record]) -> tuple[Share, Share]:
    """Count the runs that declare a leader, and those by more than the margin."""
    every = [lead for record in some for trial in record.trials for lead in trial.result.leads]
    ahead = [lead for lead in every if lead.verdict == "ahead"]
    far = [lead for lead in ahead if (lead.ratio or 1.0) > 1 + chance.MARGIN]
    return Share(len(ahead), len(every)), Share(len(far), len(every))


def apart(records: Records, pairs: Pairs) -> Table:
    """Tell what `kdbench compare` makes of separate runs, alike and with a slow-down planted."""
    table = Table(
        "`kdbench compare` of separate runs: found / beyond the margin as well",
        (
            "runs",
            "pairs",
            "min apart",
            "differ by",
            "could see",
            "false alarms: found",
            "beyond",
            *(f"{percent(slow, 0)} slower" for slow in PLANTED if slow),
        ),
        note="Each run is one cell of a run or trial; pairs are neighbours in time within a line. Nothing is "
        "known of the machine but kdbench's prior. Differ by: root mean square of the log ratio of two alike "
        "runs, times 100. Could see: what compare says it could have, the median. Slow-downs are planted, by "
        "scaling all times of the later run: % of pairs in which it is found, and called worse. "
        f"{BOUNDS}",
    )
    for title, some in _groups(records, pairs):
        if counted := separate.separate(some):
            table.rows.append((title, *_row(counted)))
    return table


def _groups(records: Records, pairs: Pairs) -> Iterable[tuple[str, list[Pair]]]:
    """Give the pairs by backend and threads, all of so many threads, and all."""
    lines = [records[name].line for name in pairs]
    for threads in (1, 2):
        own = [line for line in lines if line.threads == threads]
        times = f"{threads} thread{'s' if threads > 1 else ''}"
        backends = dict.fromkeys(line.backend for line in own)
        for backend in backends:
            yield (
                f"{backend}, {times}",
                [one for line in own if line.backend == backend for one in pairs[line.name]],
            )
        if len(backends) > 1:
            yield f"all, {times}", [one for line in own for one in pairs[line.name]]


def _row(counted: Separate) -> list[str]:
    planted = [
        f"{100 * counted.found[slow].value:.0f} / {100 * counted.called[slow].value:.0f}"
        for slow in PLANTED
        if slow
    ]
    return [
        str(counted.found[0.0].trials),
        f"{counted.minutes:.1f}",
        f"{100 * chance.root_mean_square(counted.apart):.1f}",
        percent(counted.detectable) if counted.detectable is not None else "",
        bounded(counted.found[0.0]),
        bounded(counted.called[0.0]),
        *planted,
    ]
