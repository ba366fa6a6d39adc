"""Were two runs of the same thing, and under the same conditions? What differs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from kdbench.compare.evidence import Evidence
from kdbench.compare.settle import versions
from kdbench.comparison import Difference
from kdbench.environment import must_agree
from kdbench.records import Result
from kdbench.strict import clean

Pairs = Sequence[tuple[Evidence, Evidence]]

_DEPTH = 4
_LONGEST = 100
_BEFORE = 30
"""Characters of what two long texts have in common that are shown before what they have not."""

_WORDS: Mapping[str, str] = {
    "host_hash": "machine",
    "python.version": "Python",
    "os.distribution": "operating system",
    "os.kernel": "kernel",
    "os.container": "container",
    "cpu.model": "CPU",
    "cpu.features": "instruction sets",
    "cpu.logical": "logical CPUs",
    "cpu.affinity": "CPUs allowed",
    "cpu.usable": "CPUs computed on",
    "cpu.quota": "CPU quota",
    "cpu.smt": "simultaneous multithreading",
    "cpu.governor": "CPU governor",
    "cpu.turbo": "CPU turbo",
    "memory.limit_bytes": "memory limit in bytes",
    "clock.source": "clock",
    "power.on_battery": "on battery",
}

_GPU_WORDS: Mapping[str, str] = {
    "name": "GPU",
    "uuid": "UUID of the GPU",
    "driver": "driver of the GPU",
    "cuda": "CUDA that the driver of the GPU serves",
    "power_limit_w": "power limit of the GPU in W",
    "ecc": "error correction of the GPU",
    "mig": "MIG on the GPU",
    "persistence": "persistence of the GPU's driver",
    "compute_mode": "compute mode of the GPU",
}

_GPU_CLOCK = 0.05
"""Medians of the SM clock that differ by more than this share are told of: the limit of drift."""


def mismatches(base: Result, new: Result, pairs: Pairs, *, boundaries: bool) -> tuple[str, ...]:
    """Say, a sentence each, what makes two files not comparable; empty where they are.

    boundaries: whether the files were timed at different boundaries.
    """
    told = []
    if base.schema.major != new.schema.major:
        told.append(
            f"Base is of schema {base.schema.major} and new of {new.schema.major}: fields mean other things."
        )
    roles = {one.record.cell.network for pair in pairs for one in pair}
    for role, what in (("student", "student"), ("teacher", "teacher")):
        ours, theirs = (getattr(one.subject, f"{role}_sha256") for one in (base, new))
        if (role in roles or role == "student") and ours != theirs:
            names = (getattr(one.subject, role) for one in (base, new))
            told.append(
                f"Base measured another {what} than new: {' and '.join(map(_named, names, (ours, theirs)))}."
            )
    data = (base.subject.data_sha256, new.subject.data_sha256)
    if all(data) and data[0] != data[1]:
        told.append(f"Base was verified with other data than new: {data[0][:12]} and {data[1][:12]}.")
    if boundaries:
        told.append(
            "Base and new were timed at different boundaries: one with copies to the device, one without."
        )
    return tuple(told)


def _named(name: str, sha256: str) -> str:
    return f"{clean(name)[:_LONGEST]} ({clean(sha256)[:12] or 'unknown'})"


def differences(base: Result, new: Result, pairs: Pairs) -> tuple[Difference, ...]:
    """List the facts that a result depends on and that are not alike: host, versions, placement."""
    ours, theirs = dict(_leaves(base.environment)), dict(_leaves(new.environment))
    if base is new:
        ours = theirs = {}
    found = [
        _difference(_told(path), ours.get(path), theirs.get(path))
        for path in dict.fromkeys([*ours, *theirs])
        if must_agree(path)
        and ours.get(path) != theirs.get(path)
        and (_known(ours.get(path)) or _known(theirs.get(path)))
    ]
    known = {one.what for one in found}
    found += [one for one in _of_backends(pairs) if one.what not in known]
    return tuple(found)


def _of_backends(pairs: Pairs) -> Iterator[Difference]:
    """Tell, once each, by which versions and where the cells of a pair ran otherwise."""
    told: dict[Difference, None] = {}
    for name, base, new in _backends(pairs):
        ours, theirs = versions(base, name), versions(new, name)
        for part in dict.fromkeys([*ours, *theirs]):
            if ours.get(part) != theirs.get(part):
                what = {"runtime": name, "plugin": f"plugin of {name}"}.get(part, part)
                told[_difference(what, ours.get(part), theirs.get(part))] = None
    for base, new in pairs:
        for difference in (*_placed(base, new), *_clocked(base, new)):
            told[difference] = None
    yield from told


def _backends(pairs: Pairs) -> Iterator[tuple[str, Evidence, Evidence]]:
    seen = set()
    for base, new in pairs:
        name = base.record.cell.backend
        if name == new.record.cell.backend and name not in seen:
            seen.add(name)
            yield name, base, new


def _placed(base: Evidence, new: Evidence) -> Iterator[Difference]:
    ours, theirs = base.record.placement, new.record.placement
    cell, other = base.record.cell, new.record.cell
    if ours is None or theirs is None or cell.backend != other.backend:
        return
    if ours.threads != theirs.threads:
        yield _difference(f"threads of {cell.backend}", ours.threads, theirs.threads)
    if ours.precision != theirs.precision and cell.precision == other.precision:
        yield _difference(
            f"precision that {cell.backend} computes {cell.precision} in", ours.precision, theirs.precision
        )
    if ours.provider != theirs.provider and cell.device == other.device:
        yield _difference(f"provider of {cell.backend}", ours.provider, theirs.provider)
    if ours.device_name != theirs.device_name and cell.device == other.device:
        yield _difference(f"device {cell.device} of {cell.backend}", ours.device_name, theirs.device_name)


def _clocked(base: Evidence, new: Evidence) -> Iterator[Difference]:
    """Tell where a GPU ran at another clock."""
    cell, other = base.record.cell, new.record.cell
    if (cell.backend, cell.device) != (other.backend, other.device):
        return
    ours, theirs = ([one.gpu_clock_mhz for one in side.slices if one.gpu_clock_mhz] for side in (base, new))
    if ours and theirs:
        before, now = median(ours), median(theirs)
        if max(before, now) > (1 + _GPU_CLOCK) * min(before, now):
            what = f"SM clock of {cell.device} under {cell.backend} in MHz, batch {cell.batch}"
            yield _difference(what, f"{before:.0f}", f"{now:.0f}")


def _difference(what: str, base: Any, new: Any) -> Difference:
    ours, theirs = _apart(_text(base), _text(new))
    return Difference(what=clean(what)[:_LONGEST], base=ours, new=theirs)


def _leaves(tree: Mapping[str, Any], prefix: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """Give each fact with its path; what is nested deeper than any fact of kdbench stays as it is."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and depth:
            yield from _leaves(value, f"{prefix}{key}.", depth - 1)
        elif f"{prefix}{key}" == "gpus" and isinstance(value, list):
            numbered = {str(number): gpu for number, gpu in enumerate(value)}
            yield from _leaves(numbered, "gpus.", depth - 1)
        else:
            yield f"{prefix}{key}", value


def _told(path: str) -> str:
    section, _, rest = path.partition(".")
    number, _, fact = rest.partition(".")
    if section == "gpus" and fact in _GPU_WORDS:
        return f"{_GPU_WORDS[fact]} ({number})" if number != "0" else _GPU_WORDS[fact]
    for prefix in ("versions.", "variables."):
        path = path.removeprefix(prefix)
    return clean(_WORDS.get(path, path))[:_LONGEST]


def _known(value: Any) -> bool:
    return value is not None and value != ""


def _text(value: Any) -> str:
    """Write a fact of any length as one line; what is nested in a list is left out."""
    if not _known(value):
        return "unknown"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value if not isinstance(one, list | tuple | Mapping))
    return clean({True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value))


def _apart(base: str, new: str) -> tuple[str, str]:
    """Cut two texts of unlike facts to what fits, and so that they are not alike: to where they differ."""
    if base[:_LONGEST] != new[:_LONGEST]:
        return base[:_LONGEST], new[:_LONGEST]
    if base == new:
        return base[:_LONGEST], f"another: {new}"[:_LONGEST]  # they differ in what no text has room for
    least = min(len(base), len(new))
    start = next((at for at in range(least) if base[at] != new[at]), least) - _BEFORE
    ours, theirs = (f"…{text[start : start + _LONGEST - 1]}" for text in (base, new))
    return ours, theirs
