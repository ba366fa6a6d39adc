"""Which backends and observers are installed, by packaging metadata alone; no plugin is imported here."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from kdbench import __version__
from kdbench.errors import ContractError
from kdbench.spec import API, BackendInfo
from kdbench.wire import decode, encode

GROUP = "kdbench"
OBSERVERS = "kdbench.observers"
"""The groups of entry points that backends and observers stand in."""

NAME_BYTES = 100
"""A file is named after a backend, and more than that: most systems end at 255."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a backend or an observer comes from: the entry point `name = value` of one distribution.

    stamp: differs whenever the plugin's own source does, in an editable installation too.
    """

    name: str
    value: str
    distribution: str
    version: str
    stamp: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Another Python than this one, with packages of its own; `path` as the user typed it."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A plugin that cannot be used: in which phase it failed, why, and what it printed."""

    name: str
    phase: str
    reason: str
    log: Path | None = None


def installed(
    path: Sequence[str] | None = None, *, only: str | None = None, group: str = GROUP
) -> tuple[dict[str, Source], tuple[Fault, ...]]:
    """Find the installed backends by name, alphabetically, and what is wrong with the others.

    path: folders to look in, as in `sys.path`, which is the default. group: `OBSERVERS` for observers.
    only: names separated by commas; no other is looked at, and the empty text means none at all.
    A name that two distributions claim is a Fault and belongs to neither; so is one that logs and
    artifacts cannot be named after.
    """
    claims, faults = _claims(path, group)
    kind = "observer" if group == OBSERVERS else "backend"
    wanted = set(claims) if only is None else {name.strip() for name in only.split(",") if name.strip()}
    found: dict[str, Source] = {}
    for name in sorted(wanted):
        match claims.get(name, []):
            case [source, *_] if not _fit(name):
                reason = (
                    f"{source} names its {kind} {name!r:.80}; a name is at most {NAME_BYTES} bytes of "
                    "printable text without '/', and does not begin with '.' or '-'."
                )
                faults.append(Fault(_tellable(name), "discover", reason))
            case [source]:
                found[name] = source
            case []:
                faults.append(Fault(name, "discover", f"No installed plugin provides the {kind} {name!r}."))
            case rivals:
                named = " and ".join(map(str, rivals))
                reason = f"{named} both claim the name {name!r}; uninstall all of them but one."
                faults.append(Fault(name, "discover", reason))
    return found, tuple(faults)


def described_key(source: Source) -> str:
    """Give the key under which the facts that a plugin describes are kept: alike only if it is."""
    facts = [__version__, API, *astuple(source)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def read_described(folder: Path, source: Source) -> BackendInfo | None:
    """Read what `write_described` kept for exactly this source; None if nothing readable is there."""
    try:
        return decode(_described_file(folder, source).read_bytes(), BackendInfo)
    except (OSError, ContractError):
        return None


def write_described(folder: Path, source: Source, info: BackendInfo) -> None:
    """Keep what a plugin describes, atomically.

    A folder that cannot be written is no error: the next run asks the plugin again.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, draft = tempfile.mkstemp(dir=folder, suffix=".draft")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode(info))
            Path(draft).replace(_described_file(folder, source))
        finally:
            Path(draft).unlink(missing_ok=True)


def nearest(name: str, names: Collection[str]) -> str | None:
    """Find which of `names` was probably meant, or None if none resembles `name`."""
    spelt = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), spelt, n=1)
    return spelt[close[0]] if close else None


def _claims(path: Sequence[str] | None, group: str) -> tuple[dict[str, list[Source]], list[Fault]]:
    """Collect who claims which name; a distribution seen twice, as editable ones are, counts once."""
    claims: dict[str, list[Source]] = {}
    faults: list[Fault] = []
    seen: set[str] = set()
    for distribution in distributions() if path is None else distributions(path=list(path)):
        try:
            sources = _sources(distribution, path, group)
        # Whatever importlib.metadata trips over in one damaged installation must not hide the others.
        except Exception as error:
            where = distribution.locate_file("")
            reason = f"The metadata of a distribution in '{where}' cannot be read: {error}."
            faults.append(Fault(str(distribution.name), "discover", reason))
            continue
        if sources and (alike := re.sub(r"[-_.]+", "-", sources[0].distribution).casefold()) not in seen:
            seen.add(alike)
            for source in sources:
                claims.setdefault(source.name, []).append(source)
    return claims, faults


def _sources(distribution: Distribution, path: Sequence[str] | None, group: str) -> list[Source]:
    return [
        Source(
            entry.name, entry.value, str(distribution.name), distribution.version, _stamp(entry.value, path)
        )
        for entry in distribution.entry_points.select(group=group)
    ]


def _fit(name: str) -> bool:
    """Tell whether files can be named after a backend, and it be told in a line of text."""
    return (
        name.isprintable()
        and "/" not in name
        and name[:1] not in ("", ".", "-")
        and len(name.encode()) <= NAME_BYTES
    )


def _tellable(name: str) -> str:
    """Give a name that does not fit in a form that is no other backend's."""
    return name if name.isprintable() and len(name) <= NAME_BYTES else f"{name!a:.60}…"


def _stamp(value: str, path: Sequence[str] | None) -> str:
    package = re.split(r"[.:\[\s]", value, maxsplit=1)[0]
    digest = hashlib.sha256()
    for file in sorted(_python_files(package, path)):
        with contextlib.suppress(FileNotFoundError):
            facts = file.stat()
            digest.update(os.fsencode(file) + f"\0{facts.st_mtime_ns}\0{facts.st_size}\0".encode())
    return digest.hexdigest()


def _python_files(package: str, path: Sequence[str] | None) -> Iterable[Path]:
    try:
        spec = find_spec(package) if path is None else PathFinder.find_spec(package, list(path))
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        for folder in spec.submodule_search_locations:
            yield from Path(folder).rglob("*.py")
    elif spec.has_location and spec.origin:
        yield Path(spec.origin)


def _described_file(folder: Path, source: Source) -> Path:
    return folder / f"{described_key(source)}.json"
