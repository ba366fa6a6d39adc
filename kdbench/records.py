"""What a result file holds, as frozen structs; `kdbench.results` reads and writes them.

Units stand in the names: `_ns` integer nanoseconds, `_s` seconds, `_bytes`, `_per_s`. What was not
measured is None, and where a reason is worth telling it stands beside it. Raw measurements (`slices`,
`samples`, `windows`) are the truth; `CellRecord.summary`, `leads`, `gains` and `crossings` are derived from
them when the run is assembled, by `kdbench.summary`, and can be derived again.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from kdbench.raw import (
    Count as Count,
    Deviation as Deviation,
    Nanoseconds as Nanoseconds,
    Record as Record,
    Samples as Samples,
    Seconds as Seconds,
    Slice as Slice,
    Stretch as Stretch,
    Window as Window,
    Yardstick as Yardstick,
)
from kdbench.spec import Boundary, Cell, Precision, Scenario

MAJOR, MINOR = 1, 3
"""Schema of the result file. History: 1.0 the first; 1.1 teachers beside students, accuracy's `reason`;
1.2 two sides of a trial, labels of the split, yardsticks, floors, and more of what disturbs a slice;
1.3 device time, conditions of GPUs, leads of cells that were not alternated, crossings, artifacts that were
compiled elsewhere, what observers wrote."""

Status = Literal["measured", "invalid", "unavailable", "unsupported", "failed", "timed out"]
Outcome = Literal["ok", "doubtful", "bad"]
Verdict = Literal["ahead", "tie", "alone"]


class Schema(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Which format this file has; a newer major is refused, an older one migrated."""

    name: Literal["kdbench.result"] = "kdbench.result"
    major: int = MAJOR
    minor: int = MINOR


class ParcelRecord(Record, frozen=True, kw_only=True):
    """A parcel that artifacts were brought in: its folder, its manifest's sha256, and where it was made."""

    folder: str
    sha256: str
    created_utc: str = ""
    kdbench: str = ""
    python: str = ""
    machine: str = ""
    cpu: str = ""


class Run(Record, frozen=True, kw_only=True):
    """What was asked for, when, and whether it came to its end.

    profile: the measurement plan, resolved, as plain JSON.
    resumed: how many times the run was taken up again after an interruption.
    room: by the UUID of a GPU, how many workers its free memory had room for at once, where that is fewer
    than alternate elsewhere. A resumed run keeps to it.
    parcels: where its artifacts were brought from, if they were not compiled here.
    """

    id: str
    started_utc: str
    finished_utc: str | None = None
    status: Literal["complete", "partial"] = "partial"
    argv: tuple[str, ...] = ()
    kdbench: str = ""
    profile: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0
    notes: tuple[str, ...] = ()
    room: dict[str, Count] = field(default_factory=dict)
    parcels: tuple[ParcelRecord, ...] = ()


class Subject(Record, frozen=True, kw_only=True):
    """What was measured: the student, its data, and the teacher that it came from, each by sha256.

    labels: the right class of each image of the evaluation split, in the order of `predictions`; empty where
    nobody knows them, and in files before 1.2.
    """

    student: str
    student_sha256: str
    task: str
    classes: tuple[str, ...]
    trained: bool = True
    labelled: bool = True
    parameters: int | None = None
    macs: int | None = None
    data: str = ""
    data_sha256: str = ""
    images: int = 0
    labels: tuple[int, ...] = ()
    teacher: str = ""
    teacher_sha256: str = ""
    teacher_parameters: int | None = None
    ladder: tuple[dict[str, Any], ...] = ()


class BackendRecord(Record, frozen=True, kw_only=True):
    """A backend as it was found: what it is, or why it cannot run here and how to mend that.

    devices: id and name of each. uuids: by id, of those whose driver tells one.
    """

    name: str
    status: Literal["available", "unavailable", "failed"]
    title: str = ""
    distribution: str = ""
    version: str = ""
    runtime_version: str = ""
    devices: tuple[tuple[str, str], ...] = ()
    uuids: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    phase: str = ""
    reason: str = ""
    fix: str = ""
    log: str = ""


class PlacementRecord(Record, frozen=True, kw_only=True):
    """Where the session really ran, read back from the runtime. uuid: of the GPU, by its driver."""

    requested: str
    device: str
    device_name: str = ""
    uuid: str = ""
    precision: Precision
    provider: str = ""
    threads: int | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    fallback: bool = False


class ArtifactRecord(Record, frozen=True, kw_only=True):
    """The compiled artifact: its key in the cache, its size, and what making it took.

    origin: `elsewhere` where it was not compiled for this run, but brought in a parcel; `compile_s` is then
    of the machine that compiled it, and `key` of its cache.
    """

    key: str
    bytes: Count
    compile_s: Seconds
    cached: bool
    origin: Literal["here", "elsewhere"] = "here"


class AccuracyRecord(Record, frozen=True, kw_only=True):
    """The whole evaluation split through the very runner that was then timed.

    correct, images: right answers, and how many there could be; None, for the `reason` beside it, where
        nobody can tell.
    reference_correct: right answers of the reference logits on the same images.
    lost, gained: images right only in the reference, right only here (McNemar's discordant pairs).
    p: exact two-sided McNemar probability of these.
    disagreements: images whose label differs from the reference's.
    flips: those of them where the reference's margin exceeds twice the tolerance.
    deviation: largest difference of a logit from the reference, in units of the logits' spread
        (their standard deviation over the split).
    predictions: the class index of every image, in the split's order.
    """

    images: Count
    correct: Count | None = None
    reason: str = ""
    reference_correct: Count | None = None
    lost: Count = 0
    gained: Count = 0
    p: float = 1.0
    disagreements: Count = 0
    flips: Count = 0
    deviation: float | None = None
    tolerance: float
    non_finite: Count = 0
    predictions: tuple[int, ...] = ()


class FirstOutput(Record, frozen=True, kw_only=True):
    """Time from nothing to the first output, in fresh processes.

    load_ns, call_ns: of each fresh process, in order; `load` includes importing the vendor library.
    cold_ns: compile, load and first call of the first block, as on a machine that never saw the student.
    reason: why there is no `cold_ns` although there is a first call.
    warm_ns: median over the later ones of load and first call, the artifact being there.
    """

    load_ns: tuple[int, ...] = ()
    call_ns: tuple[int, ...] = ()
    cold_ns: int | None = None
    reason: str = ""
    warm_ns: int | None = None


class Check(Record, frozen=True, kw_only=True):
    """One validity check: what was seen, the limit, and what that means."""

    id: str
    outcome: Outcome
    value: float | None = None
    limit: float | None = None
    message: str = ""


class Percentile(Record, frozen=True, kw_only=True):
    """A percentile, or why it is withheld: `have` samples where `need` are needed."""

    p: float
    value_ns: int | None = None
    need: int = 0
    have: int = 0


class Summary(Record, frozen=True, kw_only=True):
    """Derived from the slices, samples and windows of a cell; None where nothing was measured.

    device_ns: what the device's own clock tells of a call; a column of its own, never ranked.
    """

    calls: Count = 0
    median_ns: float | None = None
    p10_ns: float | None = None
    percentiles: tuple[Percentile, ...] = ()
    spread: float | None = None
    throughput_per_s: float | None = None
    throughput_low_per_s: float | None = None
    throughput_high_per_s: float | None = None
    depth: int | None = None
    device_ns: float | None = None


class MemoryRecord(Record, frozen=True, kw_only=True):
    """Peak of resident memory of a fresh process that runs this cell alone.

    base_bytes: what that process held before it loaded a runtime; the rest is the cell's own.
    """

    peak_bytes: int | None = None
    base_bytes: int | None = None
    reason: str = ""


class ObservedFile(Record, frozen=True, kw_only=True):
    """A file that an observer wrote; `path` is relative to the folder of the result."""

    path: str
    bytes: Count
    sha256: str


class ObservedRecord(Record, frozen=True, kw_only=True):
    """What an observer wrote of a cell in a pass of its own, or why it could not; no figure is from there."""

    observer: str
    distribution: str = ""
    version: str = ""
    files: tuple[ObservedFile, ...] = ()
    reason: str = ""
    log: str = ""


class CellRecord(Record, frozen=True, kw_only=True):
    """One cell: its key, what became of it, and all that was found out about it beside raw timings.

    pair: in a trial, the number that it shares with the cell of the other side that it is held against.
    """

    cell: Cell
    status: Status
    phase: str = ""
    reason: str = ""
    fix: str = ""
    log: str = ""
    placement: PlacementRecord | None = None
    artifact: ArtifactRecord | None = None
    accuracy: AccuracyRecord | None = None
    first_output: FirstOutput | None = None
    memory: MemoryRecord | None = None
    observed: tuple[ObservedRecord, ...] = ()
    warm_up_settled: bool | None = None
    pair: Count | None = None
    eligible: bool | None = None
    summary: Summary | None = None
    checks: tuple[Check, ...] = ()


class Lead(Record, frozen=True, kw_only=True):
    """Who is fastest in a group, and by how much over the next.

    ratio: runner-up over leader (time), or leader over runner-up (throughput): above 1 by construction.
    low, high: its 95 % interval, from one estimate per block. blocks: how many those were.
    detectable: the smallest lead that these blocks could have told from none (half the interval's
    width in log terms, as a ratio less 1). alternated: whether the two took turns; those of unlike devices
    are compared by the medians of their blocks, which is less sharp.
    """

    scenario: Scenario
    batch: int
    boundary: Boundary = "host"
    leader: int
    runner_up: int | None = None
    verdict: Verdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    blocks: int = 0
    detectable: float | None = None
    alternated: bool = True


class Gain(Record, frozen=True, kw_only=True):
    """What distillation buys on one backend: the teacher's time over its student's, all else being equal.

    student, teacher: their cells. ratio: cost of a call, or of an image, of the teacher over the student's.
    low, high: its 95 % interval, from one estimate per block. blocks: how many those were.
    """

    scenario: Scenario
    student: int
    teacher: int
    ratio: float
    low: float | None = None
    high: float | None = None
    blocks: int = 0


class Standing(Record, frozen=True, kw_only=True):
    """How two configurations stand to each other at one batch size.

    first, second: their cells. ratio: cost of a call, or of an image, of the second over the first's: above 1
    where the first is faster. low, high: its interval, from one estimate per block; its level is 95 % for all
    batch sizes of the search together. blocks: how many those were. alternated: as of `Lead`.
    """

    batch: Count
    first: int
    second: int
    ratio: float
    low: float | None = None
    high: float | None = None
    blocks: Count = 0
    alternated: bool = True


class Crossing(Record, frozen=True, kw_only=True):
    """Where one configuration overtakes another as batches grow, or that it does not; of a search only.

    verdict: `crosses`: the first is ahead at `low`, the second at `high`, and nothing in between tells more;
    `never`: the first is ahead at every batch size from `low` to `high`; `undecided`: nobody is seen to
    change places, but at some sizes nobody can tell (if any size tells, the first is ahead there).
    batches: the sizes at which both were compared; of several crossings of one pair, those up to the next
    one. untold: those of them at which nobody can tell.
    """

    scenario: Scenario
    verdict: Literal["crosses", "never", "undecided"]
    low: Standing
    high: Standing
    batches: tuple[Count, ...] = ()
    untold: tuple[Count, ...] = ()


class SideRecord(Record, frozen=True, kw_only=True):
    """One of the two sides of a trial: what is different about it.

    label: what a table calls it. subject: its student where that is not the other side's, else None.
    options: by backend, those that were asked for. python: version of the interpreter of its workers.
    backends: as they were found by that interpreter, with its versions.
    """

    side: Literal["a", "b"]
    label: str
    subject: Subject | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    python: str = ""
    backends: tuple[BackendRecord, ...] = ()


class Trial(Record, frozen=True, kw_only=True):
    """Two sides alternated slice by slice, the only comparison that cancels drift.

    budget_s: time that the number of blocks was fixed from, or None where that was asked for.
    block_s: how long a rehearsed block took, None where no budget asked for it. rebuild: whether every block
    compiled anew.
    """

    sides: tuple[SideRecord, SideRecord]
    budget_s: float | None = None
    block_s: Seconds | None = None
    rebuild: bool = False


class Floor(Record, frozen=True, kw_only=True):
    """How far apart this machine puts two runs of one and the same thing, from its self-test.

    block_sd: standard deviation of the log ratio of two alike sides, one per block, within a run.
    run_sd: standard deviation of the log of a run's own median from run to run. blocks, runs: how many each
    rests on. since_utc, until_utc: the time over which the runs were spread.
    """

    backend: str
    device: str
    scenario: Scenario
    batch: int
    threads: int
    runtime_version: str = ""
    block_sd: Deviation
    blocks: Count
    block_s: Seconds
    run_sd: Deviation | None = None
    runs: Count = 0
    since_utc: str = ""
    until_utc: str = ""


class Result(Record, frozen=True, kw_only=True):
    """One run. `environment` is what `kdbench.environment` found, as plain JSON."""

    schema: Schema = field(default_factory=Schema)
    run: Run
    subject: Subject
    environment: dict[str, Any]
    backends: tuple[BackendRecord, ...] = ()
    cells: tuple[CellRecord, ...] = ()
    slices: tuple[Slice, ...] = ()
    windows: tuple[Window, ...] = ()
    samples: tuple[Samples, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    leads: tuple[Lead, ...] = ()
    gains: tuple[Gain, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    yardsticks: tuple[Yardstick, ...] = ()
    trial: Trial | None = None
    floors: tuple[Floor, ...] = ()
    stages: tuple[tuple[str, float], ...] = ()
