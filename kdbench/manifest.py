"""What a parcel says of itself: its student, its artifacts, what made them, and every file by its sha256.

A parcel is a folder that travels: artifacts that were compiled in one place and run in another. The manifest
proves that nothing was altered since it was written, and not who wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from kdbench import __version__
from kdbench.errors import ParcelError
from kdbench.problems import quote, told
from kdbench.raw import Count, Record, Seconds
from kdbench.sections import Batch, Text, Threads
from kdbench.spec import Boundary, Device, Precision, Role, Scalar, Scenario, Student, Target
from kdbench.strict import clean

NAME, MAJOR, MINOR = "kdbench.parcel", 1, 0
LIMIT_BYTES = 16 << 20
AGAIN = "Get the folder again from where it came, or make it anew with `kdbench compile`."

Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Key = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Folder = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")]


class Format(Struct, frozen=True, kw_only=True):
    """Which format a manifest has; a newer major is refused, keys that a later minor adds are ignored."""

    name: str = NAME
    major: int = MAJOR
    minor: int = MINOR


class Origin(Record, frozen=True, kw_only=True):
    """Where and when a parcel was made: by which kdbench and Python, on what machine and processor."""

    created_utc: str = ""
    kdbench: str = ""
    python: str = ""
    machine: str = ""
    cpu: str = ""
    features: tuple[str, ...] = ()


class Sealed(Record, frozen=True, kw_only=True):
    """A file of a parcel: its size and its sha256."""

    bytes: Count
    sha256: Sha256


class Asked(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A Target but for its device. threads: as the machine that compiled resolved them."""

    precision: Precision
    batch_sizes: Annotated[tuple[Batch, ...], Meta(min_length=1)]
    scenario: Scenario
    boundary: Boundary
    threads: Annotated[int, Meta(ge=1)] | None
    dynamic: bool
    options: dict[str, Scalar]


class Packed(Record, frozen=True, kw_only=True):
    """An artifact in a parcel: what it is for, what made it, and what load needs.

    folder: of its files, below `artifacts/`. key: its name in the cache where it was compiled.
    distribution, version: of the plugin. runtime_version: empty where the probe did not tell. versions: of
    the plugin's distributions. threads: as they were asked for. artifact: its JSON, see `kdbench.wire`.
    bytes: of its own files. compile_s: what making it took. absent: why the device was not offered where it
    was compiled for it all the same.
    """

    folder: Folder
    key: Key
    backend: Text
    network: Role = "student"
    distribution: str
    version: str
    runtime_version: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    device: Device
    target: Asked
    threads: Threads
    artifact: msgspec.Raw
    bytes: Count
    compile_s: Seconds
    absent: str = ""

    @property
    def aim(self) -> Target:
        """The target that it was compiled for."""
        return Target(device=self.device.id, **msgspec.structs.asdict(self.target))

    def __str__(self) -> str:
        network = "teacher " if self.network == "teacher" else ""
        batches = ", ".join(map(str, self.target.batch_sizes))
        where = f"{network}{self.backend} {self.device.id} {self.target.precision}"
        return clean(f"{where}, batch {batches}, {self.target.scenario}")


class Manifest(Record, frozen=True, kw_only=True, omit_defaults=False):
    """The whole manifest. files: by path below the parcel, all but the manifest itself."""

    schema: Format = field(default_factory=Format)
    origin: Origin
    student: Text
    student_sha256: Sha256
    artifacts: Annotated[tuple[Packed, ...], Meta(min_length=1)]
    files: dict[str, Sealed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A verified parcel. sha256: of its manifest."""

    root: Path
    sha256: str
    manifest: Manifest
    student: Student


class _Head(Struct, frozen=True):
    schema: Format | None = None


def encode(manifest: Manifest) -> bytes:
    """Write a manifest as JSON that people can read."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(text: bytes, what: str) -> Manifest:
    """Read a manifest of this major version. what: how to name it in a message. Raises ParcelError."""
    if len(text) > LIMIT_BYTES:
        raise ParcelError(f"{what} is larger than {LIMIT_BYTES} bytes.", hint=AGAIN)
    _admit(_typed(text, _Head, what).schema, what)
    manifest: Manifest = _typed(text, Manifest, what)
    folders = [one.folder for one in manifest.artifacts]
    if len(set(folders)) < len(folders):
        raise ParcelError(f"{what} gives one folder to two artifacts.", hint=AGAIN)
    return manifest


def _admit(found: Format | None, what: str) -> None:
    if found is None or found.name != NAME:
        says = "does not say what it is" if found is None else f"says that it is {quote(clean(found.name))}"
        raise ParcelError(f"{what} is no {NAME}: it {says}.", hint=AGAIN)
    if found.major != MAJOR:
        newer = "newer" if found.major > MAJOR else "older"
        raise ParcelError(
            f"{what} has version {found.major}.{found.minor} of {NAME}, {newer} than the {MAJOR} that "
            f"kdbench {__version__} reads.",
            hint="Use the same kdbench in both places." if newer == "older" else "Upgrade kdbench here.",
        )


def _typed(text: bytes, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as fault:
        raise ParcelError(f"{what} cannot be read: {clean(told(fault))[:300]}.", hint=AGAIN) from fault
