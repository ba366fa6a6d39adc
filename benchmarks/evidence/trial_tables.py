"""The tables of trials: what each line shows, and the whole verdicts counted together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.evidence import chance, judging
from benchmarks.evidence.chance import Rates, Share
from benchmarks.evidence.reading import Record
from benchmarks.evidence.tables import BOUNDS, Table, bounded, interval, percent, signed
from kdbench import stats
from kdbench.comparison import Comparison

SIZES = (3, 10)
"""Numbers of blocks of the verdicts that are drawn: about what 10 s and 30 s give."""

Records = Mapping[str, Record]
Told = Mapping[str, Sequence[Comparison]]
"""What `kdbench ab` says of each whole trial, by line."""

POOLS: Mapping[str, Callable[[Record], bool]] = {
    "alike": lambda record: record.line.kind == "alike",
    "alike, 1 thread": lambda record: record.line.kind == "alike" and record.line.threads == 1,
    "alike, 2 threads": lambda record: record.line.kind == "alike" and record.line.threads == 2,
    "5 % slower, 1 thread": lambda record: record.line.slow == 0.05 and record.line.threads == 1,
    "5 % slower, 2 threads": lambda record: record.line.slow == 0.05 and record.line.threads == 2,
    "3 % slower, 1 thread": lambda record: record.line.slow == 0.03,
}
"""Lines that are counted together."""


def judged(records: Records) -> dict[str, list[Comparison]]:
    """Have kdbench judge every whole trial of two sides."""
    return {
        name: [judging.tried(trial.result) for trial in record.trials]
        for name, record in records.items()
        if record.line.kind in ("alike", "slowed")
    }


def lines(records: Records, told: Told) -> Table:
    """Tell of every line how far off it is, and how often a verdict finds something."""
    table = Table(
        "`kdbench ab`, line by line (log ratios, times 100: about %)",
        (
            "line",
            "threads",
            "blocks",
            "contended",
            "truth",
            "estimate",
            "one block is off by",
            "s a block",
            *(f"{size} blocks" for size in SIZES),
            "budget: blocks",
            "whole verdicts",
        ),
        note="Estimate: of all blocks, with its 95 % interval. Off by: root mean square of a block's "
        "estimate less the truth. Where two figures stand: found / beyond. Found: the interval excludes "
        "no difference; beyond: the estimate lies beyond the margin of 3 %, too. For alike sides either "
        "is a false alarm; for slower ones only the right sign counts. Of 3 and of 10 blocks: % of "
        "verdicts that were drawn from the recorded blocks, alike ones with a random sign each. Drawing "
        "adds no independence, and a contended block weighs as much as another there. Whole verdicts "
        "are kdbench's own: they count a contended block as half, and beyond is what they call better "
        "or worse, corrected for all the figures that are judged.",
    )
    for record in _trials(records):
        table.rows.append(_row(record, told[record.line.name]))
    return table


def pooled(records: Records, told: Told) -> Table:
    """Count the whole verdicts of several lines together."""
    table = Table(
        "Whole verdicts of `kdbench ab`, all backends together",
        ("sides", "trials", "found", "beyond", "any figure called", "exit code 1"),
        note="Found and beyond: of the median latency, as above. Any figure: of all that are judged, p90, "
        "memory and so on, is one called better or worse? Exit code 1: one of them is worse. Both by the "
        f"rules of the kdbench that prints this. {BOUNDS}",
    )
    for title, belongs in POOLS.items():
        if some := [record for record in _trials(records) if belongs(record)]:
            table.rows.append((title, *_counted(some, told)))
    return table


def whole(some: Sequence[Record], told: Told) -> tuple[Share, Share]:
    """Count the whole verdicts on the median latency that found something, and that call it a change."""
    changes = [
        (judging.median_latency(one), record.line.slow) for record in some for one in told[record.line.name]
    ]
    found = sum(judging.found(change, slow) for change, slow in changes)
    called = sum(judging.called(change, slow) for change, slow in changes)
    return Share(found, len(changes)), Share(called, len(changes))


def rates(record: Record, size: int) -> Rates | None:
    """Tell what verdicts of so many of the recorded blocks would have been; None where there are fewer."""
    blocks = record.blocks
    if not 2 <= size <= len(blocks):
        return None
    if record.line.slow:
        return chance.power(blocks, size, record.line.truth)
    return chance.false_alarms(blocks, size)


def _trials(records: Records) -> list[Record]:
    return [
        record for record in records.values() if record.line.kind in ("alike", "slowed") and record.blocks
    ]


def _row(record: Record, told: Sequence[Comparison]) -> tuple[str, ...]:
    line, blocks = record.line, record.blocks
    found, called = whole([record], {line.name: told})
    again = f"; {len(record.failures)} failed" if record.failures else ""
    slower = f"{percent(line.slow, 0)} slower" if line.slow else "alike"
    return (
        f"{line.backend}, {slower}",
        str(line.threads),
        str(len(blocks)),
        str(record.contended),
        signed(line.truth),
        interval(stats.t_interval(blocks)),
        f"{100 * chance.root_mean_square(blocks, line.truth):.2f}",
        "" if record.block_s is None else f"{record.block_s:.1f}",
        *(_drawn(record, size) for size in SIZES),
        f"{_budget(record)}: {record.usual_blocks}",
        f"{found.count} / {called.count} of {found.trials}{again}",
    )


def _drawn(record: Record, size: int) -> str:
    found = rates(record, size)
    return f"{100 * found.found:.1f} / {100 * found.beyond:.1f}" if found else ""


def _counted(some: Sequence[Record], told: Told) -> tuple[str, ...]:
    found, called = whole(some, told)
    shown = (str(found.trials), bounded(found), bounded(called))
    if some[0].line.slow:
        return *shown, "", ""
    comparisons = [one for record in some for one in told[record.line.name]]
    others = Share(sum(map(judging.any_called, comparisons)), len(comparisons))
    failing = Share(sum(map(judging.fails, comparisons)), len(comparisons))
    return *shown, bounded(others), bounded(failing)


def _budget(record: Record) -> str:
    command = record.line.command
    return command[command.index("--budget") + 1].replace("s", " s")
