"""The tables of a profile, as frozen structs with the limits of every value.

The defaults are the plan `quick`: a profile says only what it does differently.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from kdbench.problems import PLAIN
from kdbench.spec import Boundary, Precision, Scenario

# The pattern keeps control characters, and so surprises on a terminal, out of what a file may name.
Text = Annotated[str, Meta(pattern=rf"\A{PLAIN}{{1,1000}}\Z")]
Setting = (
    bool
    | Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)]
    | Annotated[float, Meta(ge=-1e300, le=1e300)]
    | Annotated[str, Meta(pattern=rf"\A{PLAIN}{{0,1000}}\Z")]
)
Batch = Annotated[int, Meta(ge=1, le=65_536)]
Threads = Literal["cores", "vendor"] | Annotated[int, Meta(ge=1, le=4_096)]
Blocks = Annotated[int, Meta(ge=1, le=1_000)]
Calls = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Drop = Literal["resolution"] | Annotated[float, Meta(ge=0, le=100)]
Phase = Literal["describe", "probe", "compile", "load", "run"]


class Section(Struct, frozen=True):
    """A table of a profile; a key that it does not have is a problem."""


class Plan(Section, frozen=True, kw_only=True):
    """What is measured: these keys span the cells. No backend named: every available one.

    shapes: `static` builds one shape per batch size, `dynamic` one for all.
    boundary: where a timed call begins and ends (`host`: host array in, host array out; `device`: inputs and
        outputs stay on the device).
    with_teacher: whether the teacher of the student's bundle is measured beside it.
    allow_fallback: whether a session that runs elsewhere, or in another precision, than it was asked to is
        measured, marked and never ranked, instead of failing.
    """

    student: Text = "digits-2x5"
    backends: tuple[Text, ...] = ()
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=1)] = ("fp32",)
    batches: Annotated[tuple[Batch, ...], Meta(min_length=1)] = (1, 32)
    scenarios: Annotated[tuple[Scenario, ...], Meta(min_length=1)] = ("latency", "throughput")
    threads: Threads = "cores"
    shapes: Literal["static", "dynamic"] = "static"
    boundary: Boundary = "host"
    with_teacher: bool = False
    allow_fallback: bool = False


class Latency(Section, frozen=True, kw_only=True):
    """Blocks of alternated slices.

    blocks: how often fresh processes measure everything; the unit of replication.
    rounds: visits of each cell in a block, `slice_s` each, or `calls_min` calls if these take longer;
        `calls_aim` says from how many calls on a slice counts as a full one.
    settle_calls, settle_s: kept apart after each switch, whichever ends first.
    warm_up_s, warm_up_max_s: a worker warms up at least this long, and until settled, but no longer.
    """

    blocks: Blocks = 3
    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 8
    slice_s: Annotated[float, Meta(ge=0.001, le=60)] = 0.06
    calls_min: Calls = 5
    calls_aim: Calls = 40
    settle_calls: Calls = 10
    settle_s: SecondsOrNone = 0.02
    warm_up_s: SecondsOrNone = 0.12
    warm_up_max_s: SecondsOrNone = 1.0


class Throughput(Section, frozen=True, kw_only=True):
    """Windows with the queue kept full: `window_s` long, and at least `latencies` latencies.

    blocks: how often fresh processes measure. rounds: windows of each cell in one of them.
    depth: requests in flight; `auto` finds each backend's own best.
    """

    blocks: Blocks = 3
    rounds: Annotated[int, Meta(ge=1, le=1_000)] = 1
    window_s: Annotated[float, Meta(ge=0.01, le=3_600)] = 1.0
    latencies: Annotated[int, Meta(ge=1, le=100_000)] = 50
    depth: Literal["auto"] | Annotated[int, Meta(ge=1, le=1_024)] = "auto"


class Tail(Section, frozen=True, kw_only=True):
    """One uninterrupted stretch per latency cell, from which tails and heat are read; 0 for none."""

    duration_s: SecondsOrNone = 0.0
    step_s: Annotated[float, Meta(ge=0.01, le=3_600)] = 1.0


class Memory(Section, frozen=True, kw_only=True):
    """Whether peak memory is measured, each cell alone in a process of its own."""

    measure: bool = False


class Observe(Section, frozen=True, kw_only=True):
    """Which observers watch each cell, in a pass of its own after all blocks, and for how many calls."""

    observers: tuple[Text, ...] = ()
    calls: Calls = 100


class Crossover(Section, frozen=True, kw_only=True):
    """Whether batch sizes are searched at which one configuration overtakes another; see `kdbench.bisection`.

    largest: doubling begins with the plan's batch sizes and goes up to here; 0 for no search.
    resolution: share of its lower end that a crossing's bracket may be wide; a single batch size always may.
    changes: of so many crossings of each pair the ends are sought more closely.
    call_s: doubling ends for a configuration where a call would take longer than this.
    """

    largest: Annotated[int, Meta(ge=0, le=65_536)] = 0
    resolution: Annotated[float, Meta(ge=0, le=1)] = 0.1
    changes: Annotated[int, Meta(ge=1, le=100)] = 2
    call_s: Seconds = 1.0


class Accuracy(Section, frozen=True, kw_only=True):
    """What is verified before anything is timed.

    max_drop: accuracy that a row may lose and still be ranked, in percentage points;
        `resolution` allows what the test cannot tell from none.
    images: how many of the evaluation split; 0 for all. later_images: how many in each later block.
    """

    max_drop: Drop = "resolution"
    images: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    later_images: Annotated[int, Meta(ge=0, le=10_000_000)] = 64


class Limits(Section, frozen=True, kw_only=True):
    """How long a phase of a backend may take, and what share of memory all workers together."""

    describe_s: Seconds = 10.0
    probe_s: Seconds = 60.0
    compile_s: Seconds = 600.0
    load_s: Seconds = 120.0
    run_s: Seconds = 60.0
    memory_share: Annotated[float, Meta(gt=0, le=1)] = 0.8


class BackendPlan(Section, frozen=True, kw_only=True):
    """What differs for one backend: its options, and precisions or devices instead of the plan's."""

    options: dict[Text, Setting] = {}
    precisions: tuple[Precision, ...] = ()
    devices: tuple[Text, ...] = ()


class Document(Section, frozen=True, kw_only=True):
    """The tables of a profile file."""

    schema: Literal[1]
    summary: Text = "A measurement plan."
    plan: Plan = Plan()
    latency: Latency = Latency()
    throughput: Throughput = Throughput()
    tail: Tail = Tail()
    memory: Memory = Memory()
    observe: Observe = Observe()
    crossover: Crossover = Crossover()
    accuracy: Accuracy = Accuracy()
    limits: Limits = Limits()
    backends: dict[Text, BackendPlan] = {}


class Profile(Document, frozen=True, kw_only=True):
    """A measurement plan; `name` is the stem of its file. Travels as JSON through msgspec."""

    name: Text
