"""What the parent asks of a worker and what it answers: one JSON message each, length first, over a socket.

The worker's standard output and error go to its log, so nothing that a vendor prints can end up here.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from kdbench.measure import SlicePlan
from kdbench.spec import Available, BackendInfo, Placement, Student, Target, Unavailable

NUMBER = 2
"""Raised whenever a message changes: parent and worker may belong to two installations of kdbench."""

LARGEST_BYTES = 256 << 20
_LENGTH = struct.Struct("!I")


class Discover(Struct, frozen=True, kw_only=True, tag=True):
    """Ask which backends this interpreter has installed; answered by `Discovered`."""


class TimeYardstick(Struct, frozen=True, kw_only=True, tag=True):
    """Time the fixed piece of work; answered by `Gauged`. Needs no plugin."""


class Open(Struct, frozen=True, kw_only=True, tag=True):
    """Import the plugin behind an entry point and connect it; answered by `Opened`."""

    name: str
    value: str
    distribution: str
    version: str


class Probe(Struct, frozen=True, kw_only=True, tag=True):
    """Ask whether the backend works here; answered by `Probed`."""


class Compile(Struct, frozen=True, kw_only=True, tag=True):
    """Compile a student into `workdir`; answered by `Compiled`."""

    student: Student
    target: Target
    workdir: Path


class Load(Struct, frozen=True, kw_only=True, tag=True):
    """Open an artifact; answered by `Loaded`. `artifact` is the JSON that `Compiled` held."""

    student: Student
    target: Target
    artifact: str
    workdir: Path


class Prepare(Struct, frozen=True, kw_only=True, tag=True):
    """Make the runner of one batch size and call it once; answered by `Prepared`."""

    batch: int
    depth: int = 1
    slice: SlicePlan


class Check(Struct, frozen=True, kw_only=True, tag=True):
    """Run the first `images` of the evaluation split (0: all of it); answered by `Checked`."""

    batch: int
    images: int


class WarmUp(Struct, frozen=True, kw_only=True, tag=True):
    """Call until it is settled; answered by `Warmed`."""

    batch: int
    at_least_s: float
    at_most_s: float


class TimeSlice(Struct, frozen=True, kw_only=True, tag=True):
    """Time one slice; answered by `Sliced`."""

    batch: int


class Collect(Struct, frozen=True, kw_only=True, tag=True):
    """Hand over the samples so far and forget them; answered by `Collected`."""

    batch: int


class FindDepth(Struct, frozen=True, kw_only=True, tag=True):
    """Find the depth with the highest throughput; answered by `Found`."""

    batch: int
    trial_s: float


class TimeWindow(Struct, frozen=True, kw_only=True, tag=True):
    """Time one throughput window; answered by `Windowed`."""

    batch: int
    depth: int
    window_s: float
    latencies: int


class TimeStretch(Struct, frozen=True, kw_only=True, tag=True):
    """Time one uninterrupted stretch; answered by `Stretched`."""

    batch: int
    duration_s: float
    step_s: float


class MeasureMemory(Struct, frozen=True, kw_only=True, tag=True):
    """Tell the peak of resident memory so far; answered by `Measured`."""


class Close(Struct, frozen=True, kw_only=True, tag=True):
    """Close the session, twice, and end; answered by `Closed`."""


Request = (
    Discover
    | TimeYardstick
    | Open
    | Probe
    | Compile
    | Load
    | Prepare
    | Check
    | WarmUp
    | TimeSlice
    | Collect
    | FindDepth
    | TimeWindow
    | TimeStretch
    | MeasureMemory
    | Close
)


class Failed(Struct, frozen=True, kw_only=True, tag=True):
    """The request failed; `kind` is the class of `kdbench.errors` that says how."""

    kind: str
    phase: str
    message: str
    hint: str = ""


class Provided(Struct, frozen=True, kw_only=True):
    """A backend that an installation provides, see `kdbench.discovery.Source`; or why it is unusable."""

    name: str
    value: str = ""
    distribution: str = ""
    version: str = ""
    stamp: str = ""
    fault: str = ""


class Discovered(Struct, frozen=True, kw_only=True, tag=True):
    """What an interpreter is, and the backends that it has installed."""

    python: str
    kdbench: str
    number: int = NUMBER
    backends: tuple[Provided, ...]


class Gauged(Struct, frozen=True, kw_only=True, tag=True):
    """How long a repetition of the fixed piece of work took."""

    started_ns: int
    calls: int
    median_ns: float
    p10_ns: float


class Opened(Struct, frozen=True, kw_only=True, tag=True):
    """The plugin is connected; `versions` are those of its distributions, as the worker sees them."""

    info: BackendInfo
    versions: dict[str, str]


class Probed(Struct, frozen=True, kw_only=True, tag=True):
    """Exactly one of the two is there."""

    available: Available | None = None
    unavailable: Unavailable | None = None


class Compiled(Struct, frozen=True, kw_only=True, tag=True):
    """The artifact as relocatable JSON, and what making it took, the vendor's import included."""

    artifact: str
    compile_s: float


class Loaded(Struct, frozen=True, kw_only=True, tag=True):
    """Where the session runs; `optimal_depth` is what the runtime itself recommends, if it does."""

    placement: Placement
    load_ns: int
    optimal_depth: int | None = None


class Prepared(Struct, frozen=True, kw_only=True, tag=True):
    """How long making the runner and its first call took together."""

    call_ns: int


class Checked(Struct, frozen=True, kw_only=True, tag=True):
    """The agreement of `kdbench.accuracy` as plain facts, and in one sentence what makes it invalid."""

    images: int
    correct: int | None
    reference_correct: int | None
    lost: int
    gained: int
    disagreements: int
    flips: int
    deviation: float
    tolerance: float
    non_finite: int
    predictions: tuple[int, ...]
    fault: str = ""


class Warmed(Struct, frozen=True, kw_only=True, tag=True):
    """Whether warm-up settled, and about how long a call takes."""

    calls: int
    call_ns: float
    settled: bool


class Sliced(Struct, frozen=True, kw_only=True, tag=True):
    """Statistics of a slice, named as in `records.Slice`; times by the worker's monotonic clock."""

    started_ns: int
    duration_ns: int
    calls: int
    settle_calls: int
    settle_ns: int
    median_ns: float
    p10_ns: float
    p25_ns: float
    p75_ns: float
    min_ns: int
    max_ns: int
    mean_ns: float
    cpu_ns: int
    run_delay_ns: int
    switches: int
    steal_ns: int
    other_ns: int | None = None
    throttled_ns: int | None = None
    first_ns: int | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None


class Collected(Struct, frozen=True, kw_only=True, tag=True):
    """Samples: raw, or a histogram; as in `records.Samples`."""

    calls: int
    values_ns: tuple[int, ...] = ()
    growth: float | None = None
    bins: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


class Found(Struct, frozen=True, kw_only=True, tag=True):
    """The best depth."""

    depth: int


class Windowed(Struct, frozen=True, kw_only=True, tag=True):
    """Images completed in a window."""

    started_ns: int
    duration_ns: int
    images: int
    cpu_ns: int


class Stretched(Struct, frozen=True, kw_only=True, tag=True):
    """A stretch and the median of each of its steps."""

    started_ns: int
    duration_ns: int
    calls: int
    medians_ns: tuple[float | None, ...]
    cpu_ns: int
    run_delay_ns: int
    steal_ns: int


class Measured(Struct, frozen=True, kw_only=True, tag=True):
    """Peak of resident memory, and what a worker holds before it loads a runtime; None where unreadable."""

    peak_bytes: int | None
    base_bytes: int | None


class Closed(Struct, frozen=True, kw_only=True, tag=True):
    """The session is closed."""


Reply = (
    Failed
    | Discovered
    | Gauged
    | Opened
    | Probed
    | Compiled
    | Loaded
    | Prepared
    | Checked
    | Warmed
    | Sliced
    | Collected
    | Found
    | Windowed
    | Stretched
    | Measured
    | Closed
)


def send(pipe: socket.socket, message: Request | Reply) -> None:
    """Write one message."""
    body = msgspec.json.encode(message, enc_hook=_plain)
    pipe.sendall(_LENGTH.pack(len(body)) + body)


def receive(pipe: socket.socket, kind: Any) -> Any:
    """Read one message of `kind`, `Request` or `Reply`.

    Raises EOFError when the other side is gone, TimeoutError after the socket's own time limit, and
    msgspec.DecodeError for anything that is not such a message.
    """
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    if length > LARGEST_BYTES:
        raise msgspec.DecodeError(f"a message of {length} bytes")
    return msgspec.json.decode(_exactly(pipe, length), type=kind, dec_hook=_noun)


def _exactly(pipe: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = pipe.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} does not travel")


def _noun(kind: type, value: Any) -> object:
    return kind(value)
