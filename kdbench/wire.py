"""The nouns of `kdbench.spec` as JSON, for the pipe between processes and the caches on disk.

Decoding is strict: a text is not taken for a number, nor a list for a text. Keys that a noun does
not have are ignored, so that a later writer may add one. A file of an artifact is written relative
to the folder that holds it, so that the folder can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from kdbench.errors import ContractError
from kdbench.spec import Artifact, Availability, Available, Student, Unavailable

Noun = TypeVar("Noun")


@dataclass(frozen=True, slots=True)
class _Probed:
    """The envelope of an Availability: exactly one of the two is there."""

    available: Available | None = None
    unavailable: Unavailable | None = None


@dataclass(frozen=True, slots=True)
class _StoredFile:
    """A file of an artifact, relative to the artifact's folder or to the student's."""

    root: Literal["artifact", "student"]
    path: str


@dataclass(frozen=True, slots=True)
class _StoredArtifact:
    files: tuple[_StoredFile, ...]
    notes: Mapping[str, str] = field(default_factory=dict)


def encode(noun: object) -> bytes:
    """Write one dataclass of `kdbench.spec` as JSON; a `Path` becomes text.

    Raises ContractError for what JSON cannot hold: foreign objects, NaN, infinity, undecodable text.
    """
    try:
        plain = msgspec.to_builtins(noun, enc_hook=_to_builtin)
        return json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{type(noun).__name__} cannot be written as JSON: {error}.") from error


def decode(raw: bytes, kind: type[Noun]) -> Noun:
    """Read one dataclass of `kdbench.spec` from JSON; sequences inside a mapping arrive as lists.

    Raises ContractError for anything that `encode` would not have written for this `kind`.
    """
    try:
        return msgspec.json.decode(raw, type=kind, dec_hook=_from_builtin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f"This is not the JSON of a {kind.__name__.lstrip('_')}: {error}.") from error


def encode_availability(answer: Availability) -> bytes:
    """Write the answer of a probe as `{"available": {...}}` or `{"unavailable": {...}}`."""
    if isinstance(answer, Available):
        return encode(_Probed(available=answer))
    return encode(_Probed(unavailable=answer))


def decode_availability(raw: bytes) -> Availability:
    """Read the answer of a probe; ContractError unless the envelope holds exactly one."""
    probed = decode(raw, _Probed)
    held = [answer for answer in (probed.available, probed.unavailable) if answer is not None]
    if len(held) != 1:
        raise ContractError(f"A probe's answer holds 'available' or 'unavailable', and here are {len(held)}.")
    return held[0]


def artifact_to_json(artifact: Artifact, workdir: Path, student: Student) -> bytes:
    """Write an artifact with its files relative to `workdir` or to the student's bundle.

    Raises ContractError for a file that does not exist or lies elsewhere, links followed.
    """
    stored = tuple(_stored(file, workdir, student.root) for file in artifact.files)
    return encode(_StoredArtifact(stored, artifact.notes))


def artifact_from_json(raw: bytes, workdir: Path, student: Student) -> Artifact:
    """Read an artifact whose folder is now `workdir`; its files are absolute.

    Raises ContractError for a file that is missing, or whose path leaves its folder.
    """
    stored = decode(raw, _StoredArtifact)
    roots = {"artifact": workdir, "student": student.root}
    return Artifact(tuple(_located(file, roots[file.root]) for file in stored.files), stored.notes)


def _stored(file: Path, workdir: Path, bundle: Path) -> _StoredFile:
    real = file.resolve()
    if not real.is_file():
        raise ContractError(f"The artifact names '{file}', and no such file was written.")
    if real.is_relative_to(workdir.resolve()):
        return _StoredFile("artifact", real.relative_to(workdir.resolve()).as_posix())
    if real.is_relative_to(bundle.resolve()):
        return _StoredFile("student", real.relative_to(bundle.resolve()).as_posix())
    raise ContractError(f"The artifact names '{file}', which lies neither in '{workdir}' nor in '{bundle}'.")


def _located(file: _StoredFile, root: Path) -> Path:
    home = root.resolve()
    try:
        real = (home / file.path).resolve()
        present = real.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise ContractError(f"The artifact names {file.path!r}, which is not a path: {error}.") from error
    if not real.is_relative_to(home):
        raise ContractError(f"The artifact names {file.path!r}, which leaves its folder '{root}'.")
    if not present:
        raise ContractError(f"The artifact names {file.path!r}, and no such file is in '{root}'.")
    return real


def _to_builtin(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it holds a value of type {type(value).__name__}")


def _from_builtin(kind: type[Any], value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"Expected `path`, got `{type(value).__name__}`")
