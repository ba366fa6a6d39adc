"""What a comparison of results found, as frozen structs; `kdbench.compare` makes them.

Two sides, a base and what is new: two files, or the two sides of one trial, or two cells of one file. Units
stand in `Change.unit`. Nothing here is ever NaN; what is not known is None, with a `reason` beside it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import field

from kdbench.raw import Record
from kdbench.spec import Cell, Scenario

Verdict = Literal["better", "worse", "same", "inconclusive", "not comparable"]
Scale = Literal["ratio", "points", "count"]

VERDICTS: tuple[Verdict, ...] = ("worse", "not comparable", "inconclusive", "better", "same")
"""The gravest first, as the exit codes are: 1, 4, then 5 with `--strict` or 0, and 0.

So it is between comparisons. Within one, a change that is not comparable gives way to any that was judged.
"""

MAJOR, MINOR = 1, 0


class Format(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Which format the JSON of a comparison has."""

    name: Literal["kdbench.comparison"] = "kdbench.comparison"
    major: int = MAJOR
    minor: int = MINOR


class Source(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One side as a whole: the file that it comes from, and the run in it.

    label: what tables call it (`base`, `new`, or the label of a trial's side).
    """

    label: str
    file: str = ""
    run: str = ""
    started_utc: str = ""
    host_hash: str = ""
    student: str = ""
    student_sha256: str = ""
    kdbench: str = ""
    side: str = ""


class Change(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One metric of one cell: what it was, what it is, and what that means.

    metric: `latency.p50`, `throughput`, `accuracy.top1`, … as `kdbench.metric` lists them.
    unit: of `base` and `new`: `ns`, `per_s`, `%`, `images`, `bytes`, `s`, or empty.
    scale: how `effect`, `low`, `high`, `margin` and `detectable` are meant. `ratio`: new over base, margins
        as a share (0.03). `points`: new less base in percentage points. `count`: new less base.
    low, high: 95 % interval of `effect`, from blocks, never from calls; None where none can be given.
    p: two-sided probability of no difference; p_holm: the same, corrected for all that count or, of what is
        only shown beside them, for all of that. Cells that gave the same answers are one question.
    blocks: replications of base and new: blocks, of what is paired those that both have; the images of an
        accuracy; 1 of what was observed once; 0 where there is nothing to count.
    paired: whether piece was held against piece: neighbouring slices of one run, or image against image.
    floor: a difference below it, in `unit`, is none, whatever its share.
    detectable: smallest change that these data could have shown, on the scale of `margin`.
    run_sd: standard deviation between runs that widened the interval, in log terms; run_sd_from says where
        it is known from.
    normalised: `effect` after dividing by how much slower the yardstick was; a second opinion, never judged.
    contended: why this evidence counts for less, empty where it does not.
    settle_s: about how long a trial would take to decide it. command: that trial.
    """

    metric: str
    unit: str
    scale: Scale
    base: float | None = None
    new: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    blocks: tuple[int, int] = (0, 0)
    paired: bool = False
    margin: float
    floor: float = 0.0
    detectable: float | None = None
    run_sd: float | None = None
    run_sd_from: str = ""
    normalised: float | None = None
    contended: str = ""
    verdict: Verdict
    reason: str = ""
    settle_s: float | None = None
    command: str = ""


class Row(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One cell that both sides have, with what became of each metric that either has."""

    base: Cell
    new: Cell
    changes: tuple[Change, ...] = ()


class Unmatched(Record, frozen=True, kw_only=True):
    """A cell that only one side has; `status` is that of its record."""

    cell: Cell
    only: Literal["base", "new"]
    status: str


class Difference(Record, frozen=True, kw_only=True):
    """A fact of the environment that is not alike on both sides: `what` with both values as text."""

    what: str
    base: str
    new: str


class Mean(Record, frozen=True, kw_only=True):
    """Geometric mean of a metric's ratios over the rows that are valid on both sides."""

    metric: str
    effect: float
    rows: int


class Overtaking(Record, frozen=True, kw_only=True):
    """Where one cell overtakes another as batches grow.

    first, second: `first` is better up to batch `below`, `second` from batch `above` on.
    about: the batch size at which they are even, by interpolation on logarithmic scales.
    real: whether both leads are more than chance, by `p_holm` below 5 %, be they ever so small.
    """

    scenario: Scenario
    first: Cell
    second: Cell
    below: int
    above: int
    about: float
    real: bool


class Comparison(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Base against new.

    mismatches: what makes the two not comparable, a sentence each; judged all the same where `allowed`.
    verdict: the gravest of what counts for the exit code: of the gated metrics, else of all that are judged,
        and of the status. `not comparable` where none of it was judged, or some gate had nothing to judge.
        Across one file nothing has become worse or better: there it is `same` where every row is decided,
        whoever leads, and `inconclusive` where one is open; of its rows, `worse` means behind the leader.
    """

    base: Source
    new: Source
    across: str = ""
    rows: tuple[Row, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    differences: tuple[Difference, ...] = ()
    mismatches: tuple[str, ...] = ()
    allowed: bool = False
    means: tuple[Mean, ...] = ()
    overtakings: tuple[Overtaking, ...] = ()
    notes: tuple[str, ...] = ()
    verdict: Verdict = "same"


class Report(Record, frozen=True, kw_only=True, omit_defaults=False):
    """All comparisons of one command, each of one file with the first, and the exit code that follows.

    gates: the metrics and margins that decide the exit code, as they were asked for; empty for all.
    metrics: those that alone were looked at, beside the gates; empty for all.
    """

    schema: Format = field(default_factory=Format)
    comparisons: tuple[Comparison, ...] = ()
    gates: dict[str, float] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    strict: bool = False
    exit_code: int = 0
