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
from kdbench.reply import (
    NUMBER as NUMBER,
    Called as Called,
    Checked as Checked,
    Closed as Closed,
    Collected as Collected,
    Compiled as Compiled,
    Discovered as Discovered,
    Failed as Failed,
    Found as Found,
    Gauged as Gauged,
    Loaded as Loaded,
    Measured as Measured,
    Observing as Observing,
    Opened as Opened,
    Prepared as Prepared,
    Probed as Probed,
    Provided as Provided,
    Reply as Reply,
    Sliced as Sliced,
    Stretched as Stretched,
    Warmed as Warmed,
    Windowed as Windowed,
)
from kdbench.spec import Observation, Student, Target

LARGEST_BYTES = 256 << 20
_LENGTH = struct.Struct("!I")


class Discover(Struct, frozen=True, kw_only=True, tag=True):
    """Ask which backends this interpreter has installed; answered by `Discovered`."""


class TimeYardstick(Struct, frozen=True, kw_only=True, tag=True):
    """Time the fixed piece of work; answered by `Gauged`. Needs no plugin."""


class Observe(Struct, frozen=True, kw_only=True, tag=True):
    """Import the observer behind an entry point, for one cell; answered by `Observing`.

    It comes before `Open`: the observer then sees the backend's import too.
    """

    name: str
    value: str
    observation: Observation


class Open(Struct, frozen=True, kw_only=True, tag=True):
    """Import the plugin behind an entry point and connect it; answered by `Opened`."""

    name: str
    value: str
    distribution: str
    version: str


class Probe(Struct, frozen=True, kw_only=True, tag=True):
    """Ask whether the backend works here; answered by `Probed`."""


class Compile(Struct, frozen=True, kw_only=True, tag=True):
    """Compile a student into `workdir`, with a `shelf` that outlives it; answered by `Compiled`."""

    student: Student
    target: Target
    workdir: Path
    shelf: Path | None = None


class Load(Struct, frozen=True, kw_only=True, tag=True):
    """Open an artifact; answered by `Loaded`. `artifact` is the JSON that `Compiled` held.

    uuid: of the GPU that it will compute on, which is then watched. fellows: process ids of the workers that
    live beside this one: they are nobody's disturbance.
    """

    student: Student
    target: Target
    artifact: str
    workdir: Path
    uuid: str = ""
    fellows: tuple[int, ...] = ()


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


class MakeCalls(Struct, frozen=True, kw_only=True, tag=True):
    """Make so many calls, one after the other, and time none; answered by `Called`."""

    batch: int
    calls: int


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
    | Observe
    | Open
    | Probe
    | Compile
    | Load
    | Prepare
    | Check
    | WarmUp
    | MakeCalls
    | TimeSlice
    | Collect
    | FindDepth
    | TimeWindow
    | TimeStretch
    | MeasureMemory
    | Close
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
