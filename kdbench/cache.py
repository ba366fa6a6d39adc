"""Compiled artifacts by content: the same student, target, versions and machine are compiled once.

Artifacts are native code, so the folder belongs to the user alone. An entry is a folder named by its key; it
is complete when it has `entry.json`, which is written last, before the folder gets its name. Students that
were made on first use stand on a shelf of their own: see `kdbench.nursery`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from kdbench.errors import UsageError

DRAFT = ".draft-"
DRAFT_S = 86_400.0
"""Neither compiling nor making a student takes longer: an older draft is what a killed run left."""

ENTRY = "entry.json"
VERSION = 1


class Entry(Struct, frozen=True, kw_only=True):
    """What the cache knows of an artifact.

    artifact: its JSON, paths relative. files: sha256 of each file below the entry's folder.
    """

    version: int
    artifact: str
    compile_s: float
    bytes: int
    files: dict[str, str]


def user_folder() -> Path:
    """Give the user's cache folder, made for this user alone where it is missing.

    Raises UsageError when it belongs to somebody else or cannot be made: others could plant code in it.
    """
    import platformdirs

    folder = Path(os.environ.get("KDBENCH_CACHE") or platformdirs.user_cache_dir("kdbench", appauthor=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
        if facts.st_uid != os.getuid():
            raise UsageError(
                f"The cache folder {folder} belongs to another user.",
                hint="Set KDBENCH_CACHE to a folder of your own.",
            )
        if stat.S_IMODE(facts.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as fault:
        raise _unusable(folder, fault) from fault
    return folder


def _unusable(folder: Path, fault: OSError) -> UsageError:
    return UsageError(
        f"The cache folder {folder} cannot be used: {fault.strerror}.",
        hint="Set KDBENCH_CACHE to a folder that can be written, on a disk with room.",
    )


def key(facts: Mapping[str, Any]) -> str:
    """Name an artifact: 32 hexadecimal digits of the sha256 of all that makes it what it is."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(folder: Path, name: str) -> tuple[Entry, Path] | None:
    """Find an entry and its folder; None, and the folder gone, where it is missing, torn or altered."""
    home = folder / "artifacts" / name
    try:
        entry = msgspec.json.decode((home / ENTRY).read_bytes(), type=Entry)
        whole = entry.version == VERSION and entry.files == _digests(home)
    except (OSError, msgspec.DecodeError):
        whole = False
    if whole:
        return entry, home
    if home.exists():
        shutil.rmtree(home, ignore_errors=True)
    return None


def shelf(folder: Path, name: str) -> Path:
    """Give a folder that outlives compilations, made for this user alone where it is missing.

    Raises UsageError when it cannot be made.
    """
    home = folder / "shelves" / name
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise _unusable(folder, fault) from fault
    return home


@contextlib.contextmanager
def draft(folder: Path, shelf: str = "artifacts") -> Iterator[Path]:
    """Give an empty folder on a shelf of the cache to work in, gone afterwards unless it was given a name.

    What runs that were killed left here more than a day ago goes first.
    """
    home = folder / shelf
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(home)
        workdir = Path(tempfile.mkdtemp(prefix=DRAFT, dir=home))
    except OSError as fault:
        raise _unusable(folder, fault) from fault
    try:
        yield workdir
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


def keep(folder: Path, name: str, workdir: Path, artifact: str, compile_s: float) -> tuple[Entry, Path]:
    """Give a compiled folder its name in the cache; if another run was quicker, theirs is as good.

    Raises UsageError when the cache does not take it.
    """
    home = folder / "artifacts" / name
    try:
        files = _digests(workdir)
        size = sum((workdir / path).stat().st_size for path in files)
        entry = Entry(version=VERSION, artifact=artifact, compile_s=compile_s, bytes=size, files=files)
        (workdir / ENTRY).write_bytes(msgspec.json.encode(entry))
        with contextlib.suppress(OSError):
            workdir.rename(home)
        if (kept := find(folder, name)) is not None:
            return kept
        # What stood in the way was not whole, and is gone now that it was looked at.
        workdir.rename(home)
    except OSError as fault:
        raise _unusable(folder, fault) from fault
    return entry, home


def _sweep(home: Path) -> None:
    before_s = time.time() - DRAFT_S
    for left in home.glob(f"{DRAFT}*"):
        with contextlib.suppress(OSError):
            if left.lstat().st_mtime < before_s:
                shutil.rmtree(left, ignore_errors=True)


def _digests(home: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(home.rglob("*")):
        if path.is_file() and path.name != ENTRY:
            with path.open("rb") as file:
                digests[path.relative_to(home).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
