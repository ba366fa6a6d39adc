"""The tables of trials: what was recorded, what `kdbench ab` says, and what it would from other blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.evidence import chance
from benchmarks.evidence.chance import Share
from benchmarks.evidence.judging import CALLED, called, excludes_none, median_latency, tried
from benchmarks.evidence.reading import Record
from benchmarks.evidence.tables import BOUNDS, Table, bounded, interval, signed
from kdbench import stats
from kdbench.comparison import Comparison

SIZES = (3, 4, 5, 8, 10)
"""Numbers of blocks of a verdict."""

Records = Mapping[str, Record]

POOLS: Mapping[str, Callable[[Record], bool]] = {
    "all alike": lambda record: record.line.kind == "alike",
    "all alike, 1 thread": lambda record: record.line.kind == "alike" and record.line.threads == 1,
    "all alike, 2 threads": lambda record: record.line.kind == "alike" and record.line.threads == 2,
    "all 5 % slower, 1 thread": lambda record: record.line.slow == 0.05 and record.line.threads == 1,
    "all 5 % slower, 2 threads": lambda record: record.line.slow == 0.05 and record.line.threads == 2,
    "all 3 % slower": lambda record: record.line.slow == 0.03,
}
"""Lines that are counted together, too."""


def lines(records: Records) -> Table:
    """Tell of every line of trials what was recorded, how far one block is off, and the estimate of all."""
    table = Table(
        "Trials: what was recorded (log ratios, times 100: about %)",
        ("line", "threads", "truth", "trials", "blocks", "s a block", "one block is off by", "all blocks"),
        notes=("Off by: root mean square of a block's estimate less the truth.",),
    )
    for record in _trials(records):
        line, blocks = record.line, record.blocks
        table.rows.append(
            (
                _title(record),
                str(line.threads),
                signed(line.truth),
                str(len(record.trials)),
                str(len(blocks)),
                "" if record.block_s is None else f"{record.block_s:.1f}",
                f"{100 * chance.root_mean_square(blocks, line.truth):.2f}",
                interval(stats.t_interval(blocks)),
            )
        )
    return table


def whole(records: Records) -> Table:
    """Count whole verdicts as `kdbench ab` gives them."""
    table = Table(
        "Whole verdicts of `kdbench ab`, on the median latency and on all",
        ("line", "threads", "budget", "blocks", "found", "called", "any figure called", "exit code 1"),
        notes=(
            "Found: the interval of the median latency excludes none. Called: kdbench calls it better",
            "or worse. Any figure: of all that are judged, p90, load and so on. Exit code 1: some are worse.",
            BOUNDS,
        ),
    )
    told = {record.line.name: [tried(trial.result) for trial in record.trials] for record in _trials(records)}
    for record in _trials(records):
        place = (str(record.line.threads), _budget(record), str(record.usual_blocks))
        table.rows.append((_title(record), *place, *_counted([record], told)))
    for title, belongs in POOLS.items():
        pooled = [record for record in _trials(records) if belongs(record)]
        if len(pooled) > 1:
            threads = "/".join(sorted({str(record.line.threads) for record in pooled}))
            table.rows.append((title, threads, _budget(pooled[0]), "", *_counted(pooled, told)))
    return table


def drawn(records: Records) -> Table:
    """Tell what verdicts of several numbers of blocks would have been, from the blocks recorded."""
    table = Table(
        "Drawn from the recorded blocks: % found / % beyond the margin, by the number of blocks of a verdict",
        ("line", "threads", "recorded", *map(str, SIZES), "as many as a trial"),
        notes=(
            "Alike: false alarms, each block with a random sign. Slower: found with the right sign. Drawn",
            "without replacement, which adds no independence: of few blocks a figure is worth little. By the",
            "plain t interval over blocks, without the correction for all the figures that kdbench judges.",
        ),
    )
    for record in _trials(records):
        blocks, usual = record.blocks, record.usual_blocks
        told = [_rates(record, size) if len(blocks) >= size else "" for size in SIZES]
        own = f"{usual}: {_rates(record, usual)}" if 2 <= usual <= len(blocks) else ""
        table.rows.append((_title(record), str(record.line.threads), str(len(blocks)), *told, own))
    return table


def _trials(records: Records) -> list[Record]:
    return [
        record for record in records.values() if record.line.kind in ("alike", "slowed") and record.blocks
    ]


def _counted(some: Sequence[Record], told: Mapping[str, Sequence[Comparison]]) -> tuple[str, ...]:
    comparisons = [one for record in some for one in told[record.line.name]]
    changes = [median_latency(one) for one in comparisons]
    codes = [trial.exit_code for record in some for trial in record.trials]
    found = Share(sum(map(excludes_none, changes)), len(changes))
    beyond = Share(sum(change.verdict in CALLED for change in changes), len(changes))
    others = f"{sum(map(called, comparisons))} of {len(comparisons)}"
    return bounded(found), bounded(beyond), others, f"{codes.count(1)} of {len(codes)}"


def _rates(record: Record, size: int) -> str:
    count = chance.power if record.line.slow else chance.false_alarms
    rates = count(record.blocks, size)
    return f"{100 * rates.found:.1f} / {100 * rates.beyond:.1f}"


def _title(record: Record) -> str:
    slow = f"{100 * record.line.slow:.0f} % slower" if record.line.slow else "alike"
    return f"{record.line.backend}, {slow}"


def _budget(record: Record) -> str:
    command = record.line.command
    return command[command.index("--budget") + 1]
