"""The nouns of kdbench as inert data, and what a plugin's objects must be able to do.

Everything here is plain: no I/O, no environment, no vendor. The dataclasses travel between processes
as JSON, so they hold numbers, text, paths and tuples of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

API = 1
"""Raised only when a hook changes its meaning; an older plugin is then refused by name."""

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
Scenario = Literal["latency", "throughput"]
Boundary = Literal["host", "device"]
Task = Literal["classification"]
Concurrency = Literal["serial", "threads", "pipelined"]
Role = Literal["student", "teacher"]
SideName = Literal["", "a", "b"]
Stage = Literal["import", "load", "first call", "warm-up", "calls", "close"]
Scalar = bool | int | float | str

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16", "int8")
SCENARIOS: tuple[Scenario, ...] = ("latency", "throughput")
BOUNDARIES: tuple[Boundary, ...] = ("host", "device")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of the student; `shape` is without the batch axis, which comes first."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Student:
    """A verified bundle, as plugins see it. Open one with `kdbench.student.open_student`.

    `files` names what the bundle holds: `weights` (safetensors), `onnx`, `evaluation`, `reference`,
    `calibration`, and `teacher-weights`, `teacher-onnx` and `teacher-reference` where they were kept. A
    plugin that needs a form that is not there raises `Unsupported`.

    `factory` names the network in the `kdbench.networks` entry points, `arguments` are its keywords;
    both are None and empty for a student that exists only as ONNX.

    precision: what the stored network computes in; a quantised one is `int8` and can be nothing else.
    batch: the only batch size that the ONNX graph takes, or None for any.
    role: `teacher` for the teacher of a bundle, seen as something to benchmark.
    """

    name: str
    task: Task
    sha256: str
    root: Path
    files: Mapping[str, Path]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...]
    factory: str | None = None
    arguments: Mapping[str, Scalar | Sequence[Scalar]] = field(default_factory=dict)
    parameters: int | None = None
    macs: int | None = None
    precision: Precision = "fp32"
    batch: int | None = None
    role: Role = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting of a backend: typed, with a default, checked before the plugin sees it."""

    name: str
    type: Literal["bool", "int", "float", "str"]
    default: Scalar
    help: str
    choices: tuple[Scalar, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """What a backend is, said without importing its vendor library.

    devices: kinds of device that it can drive, the default one first (`cpu`, `gpu`, `npu`, `cuda`).
    precisions: those it can be asked for on some device.
    concurrency: how it keeps more than one request in flight: `pipelined` (its runners have
        `submit` and `wait`), `threads` (the harness drives one runner per thread), or `serial`.
    boundaries: where a timed call may begin and end; `host` is mandatory.
    distributions: whose versions belong in the result file and in the key of a cached artifact.
    api: the number of the hooks' meaning that the plugin was written for, `kdbench.API` of that day; a
        number and not that name, or an older plugin could not be told from a newer one.
    """

    api: int
    title: str
    devices: tuple[str, ...]
    precisions: tuple[Precision, ...]
    options: tuple[Option, ...] = ()
    concurrency: Concurrency = "serial"
    boundaries: tuple[Boundary, ...] = ("host",)
    distributions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device found by a probe: `id` is what `--device` takes (`cpu`, `gpu.0`, `cuda:0`).

    precisions: those it computes in natively; empty means all that the backend declares.
    uuid: of an NVIDIA GPU or MIG instance, as its driver tells it (`GPU-…`, `MIG-…`): its clock, heat and
        other processes are then watched, and `--device` takes it too. Empty for anything else.
    driver: version of the driver below it, where compiled code belongs to that too; it is part of the key of
        a cached artifact, as all of this is.
    """

    id: str
    name: str
    precisions: tuple[Precision, ...] = ()
    uuid: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Available:
    """The backend can run here; `devices` are its devices, the default one first."""

    version: str
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The backend cannot run here: one sentence why, and one command (or sentence) that mends it."""

    reason: str
    fix: str = ""


Availability = Available | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked of a backend.

    device: an `id` that the probe named.
    threads: how many to compute with, or None to leave it to the vendor's default.
    dynamic: False builds one static shape per batch size; True one shape for all.
    options: every option that the backend declares, checked, defaults filled in.
    """

    device: str
    precision: Precision = "fp32"
    batch_sizes: tuple[int, ...] = (1,)
    scenario: Scenario = "latency"
    boundary: Boundary = "host"
    threads: int | None = 1
    dynamic: bool = False
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """What compile made: files below the work directory or in the bundle, and notes for load.

    Inert: it survives JSON, another process and another time. `notes` is for the plugin alone.
    """

    files: tuple[Path, ...]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a session really computes, as read back from the runtime and not as it was asked.

    device: the device's id; compare it with `Target.device`.
    precision: the compute type in use; fp32 where a file stored in fewer bits is run as it is and the
        runtime converts it, which is told and is no failure.
    provider: the runtime's own name of what executes, where it has one.
    threads: how many it computes with, where it tells.
    nodes: how many nodes of the graph each device or provider runs, where it tells.
    """

    device: str
    precision: Precision
    provider: str = ""
    threads: int | None = None
    nodes: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Session(Protocol):
    """An open runtime that holds an artifact."""

    @property
    def placement(self) -> Placement:
        """Tell where it really runs."""
        ...

    def close(self) -> None:
        """Give everything back. Calling it again does nothing; runners of a closed session raise."""
        ...


class Runner(Protocol):
    """Run one session at one batch size: host arrays in, host arrays out, complete on return.

    `inputs` holds one C-contiguous array `(batch, *shape)` of the declared dtype per declared input,
    in the declared order; they are never written to. The answer holds one such array per output. It
    may alias the runner's own buffers: it is valid until the next call.
    """

    def __call__(self, inputs: tuple[Array, ...], /) -> tuple[Array, ...]:
        """Run one batch."""
        ...


@runtime_checkable
class Pipelined(Protocol):
    """A runner that can keep `depth` requests in flight.

    `submit` blocks while `depth` are in flight and none has completed; `inputs` stay untouched until
    their tag comes back. `wait` blocks until at least one request is complete and returns all that
    are, as (tag, outputs); the outputs are valid until the next `submit`.
    """

    def submit(self, inputs: tuple[Array, ...], tag: int) -> None:
        """Start one request; block while `depth` are in flight."""
        ...

    def wait(self) -> list[tuple[int, tuple[Array, ...]]]:
        """Give every request that is complete, at least one."""
        ...


@runtime_checkable
class Allocating(Protocol):
    """A runner with memory of its own (aligned, pinned) that the harness fills before the clock runs.

    Answers `count` tuples of writable arrays, each as `Runner` takes them. The harness passes the
    same objects to the runner again and again.
    """

    def allocate_inputs(self, count: int) -> list[tuple[Array, ...]]:
        """Allocate `count` distinct sets of inputs."""
        ...


@runtime_checkable
class DeviceTimed(Protocol):
    """A runner that can tell device time; a column of its own, never called latency.

    Asked for in calls of its own, between timed stretches: what the device's clock costs is in no latency.
    """

    def device_ns(self, inputs: Any, /) -> int | None:
        """Run one batch and tell for how long the device computed, in nanoseconds, copies left out.

        Takes what the runner takes. None where the device does not tell.
        """
        ...


@runtime_checkable
class Resident(Protocol):
    """A runner that computes where its inputs are: mandatory at the boundary `device`.

    Such a runner is called with what `upload` gave, copies nothing to or from the host, and answers something
    of its own that `download` takes, once the device has finished.
    """

    def upload(self, inputs: tuple[Array, ...], /) -> object:
        """Copy one batch to the device, into memory that lives as long as the answer."""
        ...

    def download(self, outputs: object, /) -> tuple[Array, ...]:
        """Copy what the last call answered to host arrays, as a `Runner` at the boundary `host` does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The key of one measured thing; results of different runs are joined on it.

    depth: requests in flight: 1 for latency; `auto` lets the harness find the backend's best.
    threads: a number, `cores` (the physical cores that this process may use) or `vendor`.
    variant: canonical text of the options that differ from the backend's defaults.
    network: the student, or the teacher of its bundle, measured beside it.
    side: in a trial, which of the two sides; empty elsewhere.
    """

    backend: str
    device: str
    precision: Precision
    batch: int
    scenario: Scenario
    depth: int | Literal["auto"] = 1
    threads: int | Literal["cores", "vendor"] = "cores"
    boundary: Boundary = "host"
    variant: str = ""
    network: Role = "student"
    side: SideName = ""

    @property
    def group(self) -> Group:
        """Cells of one group are ranked against each other and alternated together."""
        return Group(self.scenario, self.batch, self.depth, self.threads, self.boundary, self.network)

    def __str__(self) -> str:
        side, network = self.side.upper(), "teacher" if self.network == "teacher" else ""
        parts = [side, network, self.backend, self.device, self.precision]
        return " ".join(part for part in (*parts, f"batch {self.batch}", self.scenario, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Group:
    """What cells must have in common to be ranked: all of the key but backend, device, precision, variant."""

    scenario: Scenario
    batch: int
    depth: int | Literal["auto"]
    threads: int | Literal["cores", "vendor"]
    boundary: Boundary
    network: Role = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an observer is told of the one cell that it is made for.

    student, target: as the hooks of the backend get them.
    folder: empty, and the only place to write to; it stays beside the result.
    calls: as many does the stage `calls` make at most; for throughput it lasts about as long.
    """

    cell: Cell
    student: Student
    target: Target
    folder: Path
    calls: int


def variant(options: Mapping[str, Scalar], declared: Sequence[Option], *, dynamic: bool = False) -> str:
    """Give the canonical text of the options that differ from their declared defaults."""
    defaults = {option.name: option.default for option in declared}
    differing = [f"{key}={value}" for key, value in sorted(options.items()) if defaults.get(key) != value]
    return ",".join([*differing, "shapes=dynamic"] if dynamic else differing)
