"""What whoever reads a comparison should know beside its table, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kdbench.compare.verdict import Finding, ratio
from kdbench.comparison import Change, Row
from kdbench.records import Result
from kdbench.strict import clean

Judged = Sequence[tuple[Row, Finding, Change]]

FEW_BLOCKS = 3


def of_runs(base: Result, new: Result) -> Iterator[str]:
    """Note what two files are: unfinished, in the wrong order, of two machines."""
    for side, result in (("Base", base), ("New", new)):
        if result.run.status != "complete":
            yield f"{side} is a run that did not end; what it had finished is compared."
    if new.run.started_utc and base.run.started_utc > new.run.started_utc:
        yield "Base is newer than new: are they the right way round?"
    hosts = [result.environment.get("host_hash") for result in (base, new)]
    if all(hosts) and hosts[0] != hosts[1]:
        yield "They ran on two machines: what differs is the machines as much as what ran on them."
    for side, result in (("Base", base), ("New", new)):
        names = {
            clean(one.cell.backend)
            for one in result.cells
            if one.artifact is not None and one.artifact.origin == "elsewhere"
        }
        if names:
            yield (
                f"{side} ran artifacts that were compiled elsewhere ({', '.join(sorted(names))}); their "
                "cells are held against those of the same key, wherever these were compiled."
            )


def of_trial(result: Result) -> Iterator[str]:
    """Note what a trial's verdict is conditional on, and whether it came to its end."""
    if result.run.status != "complete":
        yield "The trial did not end; what it had finished is compared."
    built = any(one.artifact is not None and one.artifact.compile_s > 0 for one in result.cells)
    if result.trial is not None and built and not result.trial.rebuild:
        yield "The verdict is about these two builds; --rebuild compiles anew for each block."


def of_changes(judged: Judged) -> Iterator[str]:
    """Note what is weak about the evidence, each kind once with its first example."""
    for kind in (_few_blocks, _coarse, _by_a_prior, _by_p10, _unweighted):
        if told := kind(judged):
            yield told


def _few_blocks(judged: Judged) -> str:
    rows = [
        row
        for row, finding, change in judged
        if finding.metric.origin == "slices" and 0 < min(change.blocks) < FEW_BLOCKS
    ]
    if not rows:
        return ""
    return f"{_in_rows(rows)} there are fewer than {FEW_BLOCKS} blocks, and little can be told from them."


def _coarse(judged: Judged) -> str:
    """A margin below what could have shown: a promise that the data cannot keep."""
    blind = [
        (change.detectable, row, change)
        for row, finding, change in judged
        if finding.metric.origin in ("slices", "windows")
        and change.detectable is not None
        and change.detectable > change.margin
    ]
    if not blind:
        return ""
    best, row, change = min(blind, key=lambda one: one[0])
    finer = "" if change.paired else " `kdbench ab` sees finer: it alternates the two in one run."
    return (
        f"{_in_rows([one for _, one, _ in blind])} the margin of {100 * change.margin:g} % is less than what "
        f"could have shown: at best {100 * best:.1f} %, in {row.new}.{finer}"
    )


def _by_a_prior(judged: Judged) -> str:
    if not any(change.run_sd_from.startswith("a prior") for _, _, change in judged):
        return ""
    return "How far apart this machine puts two runs is a guess; `kdbench doctor --selftest` measures it."


def _by_p10(judged: Judged) -> str:
    """Medians and first deciles tell two stories where only some states of the machine changed."""
    apart = [
        (row, finding, change)
        for row, finding, change in judged
        if finding.p10 is not None and finding.effect is not None and _disagree(finding, change)
    ]
    if not apart:
        return ""
    row, finding, change = apart[0]
    return (
        f"{_in_rows([one for one, _, _ in apart])} median and fastest tenth of the calls disagree: it "
        f"is a change of the slower calls, or of the machine's state; {row.new} changed by "
        f"{100 * ((change.effect or 1) - 1):+.1f} % and {100 * (ratio(finding.p10 or 0.0) - 1):+.1f} %."
    )


def _unweighted(judged: Judged) -> str:
    """Windows tell of no contention: beside rows that count for less, theirs may be no better."""
    contended = any(change.contended for _, _, change in judged)
    if not contended or not any(finding.metric.origin == "windows" for _, finding, _ in judged):
        return ""
    return "Whether throughput was disturbed as well is not known: contention is seen in slices only."


def _disagree(finding: Finding, change: Change) -> bool:
    median, p10 = finding.effect.estimate if finding.effect else 0.0, finding.p10 or 0.0
    signs = change.verdict in ("better", "worse") and median * p10 < 0
    return signs or abs(median - p10) > math.log1p(finding.margin)


def _in_rows(rows: Sequence[Row]) -> str:
    return "In one row" if len(rows) == 1 else f"In {len(rows)} rows"
