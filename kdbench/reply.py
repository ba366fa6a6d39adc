"""What a worker answers its parent: one struct a message, see `kdbench.protocol` for what was asked."""

from __future__ import annotations

from msgspec import Struct

from kdbench.spec import Available, BackendInfo, Placement, Unavailable

NUMBER = 3
"""Raised whenever a message changes: parent and worker may belong to two installations of kdbench."""


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


class Observing(Struct, frozen=True, kw_only=True, tag=True):
    """The observer is there, and no backend yet."""


class Called(Struct, frozen=True, kw_only=True, tag=True):
    """The calls are made."""


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


class OnGpu(Struct, frozen=True, kw_only=True):
    """How the GPU stood just after what was timed, named as in `raw.Slice`; None where there is none."""

    gpu_clock_mhz: float | None = None
    gpu_memory_clock_mhz: float | None = None
    gpu_temperature_c: float | None = None
    gpu_power_w: float | None = None
    gpu_throttle: tuple[str, ...] | None = None
    gpu_throttled_ns: int | None = None
    gpu_foreign: int | None = None
    gpu_pcie_generation: int | None = None
    gpu_pcie_width: int | None = None
    gpu_settled: bool | None = None


class Sliced(OnGpu, frozen=True, kw_only=True, tag=True):
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
    device_ns: float | None = None


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


class Windowed(OnGpu, frozen=True, kw_only=True, tag=True):
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
    gpu_clocks_mhz: tuple[float | None, ...] = ()
    gpu_temperatures_c: tuple[float | None, ...] = ()
    gpu_throttle: tuple[str, ...] | None = None
    gpu_throttled_ns: int | None = None
    gpu_foreign: int | None = None
    gpu_read_ns: int | None = None


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
    | Observing
    | Called
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
