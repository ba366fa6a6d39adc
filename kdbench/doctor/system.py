"""Backends, memory, power, variables and folders: what kdbench works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kdbench.doctor.finding import Facts, Finding, graded, unknown
from kdbench.figures import listed, plain

GIB = 2**30

LOW_BYTES, TOO_LOW_BYTES = 2 * GIB, GIB // 2
"""Memory left. A worker with the largest vendor library takes half a gigabyte, and a block has up to four."""

DISK_BYTES, FULL_BYTES = GIB, 2**27
"""Disk left. A result may take 64 MB, and so may its journal beside it."""

LARGE_CACHE_BYTES = 10 * GIB

SWAPPED = 0.05
"""Share of the memory that may lie in swap, from long ago, before it is worth telling."""


def backends(facts: Facts) -> Iterator[Finding]:
    """Tell which backends are broken, and which packages lie over each other."""
    if facts.backends is None:
        yield unknown("backends", "which backends work", "they cannot be asked without a cache folder")
    elif not any(one.status == "available" for one in facts.backends):
        yield Finding(
            "backends", "bad", "no backend works here", "`kdbench backends` says what each one needs"
        )
    for one in facts.backends or ():
        if one.status == "failed":
            fix = plain(one.fix) or (f"its log says more: {plain(one.log)}" if one.log else "")
            yield Finding("broken", "bad", f"{plain(one.name)} is broken: {plain(one.reason)}", fix)
    for package, names in facts.rivals:
        owners = listed([plain(name) for name in names])
        yield Finding(
            "rivals",
            "bad",
            f"{owners} have installed the package {plain(package)} over each other: nobody knows what runs",
            f"pip uninstall -y {' '.join(map(plain, names))}, then install the one that you want",
        )


def battery(facts: Facts) -> Iterator[Finding]:
    """Tell whether power is saved."""
    battery = facts.fact("power.on_battery")
    if battery is None:
        yield unknown("battery", "whether it runs on a battery", facts.why("power.on_battery"))
    elif battery:
        yield Finding("battery", "doubtful", "the machine runs on its battery", "plug it in")
    else:
        yield Finding("battery", "ok", "the machine is plugged in")


def memory(facts: Facts) -> Iterator[Finding]:
    """Tell how much memory is left, and whether some of it lies in swap."""
    available, total = facts.number("memory.available_bytes"), facts.number("memory.total_bytes")
    limit, swapped = facts.number("memory.limit_bytes"), facts.number("memory.swap_used_bytes")
    if available is None:
        yield unknown("memory", "how much memory is left", facts.why("memory.available_bytes"))
    else:
        left = min(available, limit) if limit is not None else available
        outcome = graded(-left, -LOW_BYTES, -TOO_LOW_BYTES)
        fix = "" if outcome == "ok" else "stop what holds memory, or measure fewer backends at once with -b"
        held = " at most, by a limit" if limit is not None and limit < available else ""
        yield Finding("memory", outcome, f"{left / GIB:.1f} GiB of memory are left{held}", fix)
    if swapped is None:
        yield unknown("swap", "whether memory lies in swap", facts.why("memory.swap_used_bytes"))
    elif total and swapped > SWAPPED * total:
        what = f"{swapped / GIB:.1f} GiB of memory lie in swap: what is needed again comes from the disk"
        yield Finding("swap", "doubtful", what, "stop what holds memory, then: sudo swapoff -a")
    else:
        yield Finding("swap", "ok", "next to nothing lies in swap")


def variables(facts: Facts) -> Iterator[Finding]:
    """Tell which environment variables change how fast runtimes are."""
    variables = facts.fact("variables")
    if not isinstance(variables, Mapping):
        yield unknown("variables", "which environment variables are set")
        return
    # kdbench's own variables say where and what, and not how fast.
    telling = {name: value for name, value in variables.items() if not name.startswith("KDBENCH_")}
    if telling:
        told = ", ".join(f"{plain(name)}={plain(str(value))}" for name, value in telling.items())
        what = f"environment variables change how fast runtimes are: {told}"
        fix = f"unset {' '.join(map(plain, telling))}, or keep them alike in all runs that are compared"
        yield Finding("variables", "doubtful", what, fix)
    else:
        yield Finding("variables", "ok", "no environment variable changes how fast runtimes are")


def places(facts: Facts) -> Iterator[Finding]:
    """Tell whether results, artifacts and self-tests can be kept."""
    for name, place, otherwise in (
        ("results", facts.results, "write elsewhere: --output FILE, or change into another folder"),
        ("cache", facts.cache, "set KDBENCH_CACHE to a folder of yours that can be written"),
    ):
        where = f"the folder of the {name}{f' ({plain(place.path)})' if place.path else ''}"
        if place.fault:
            yield Finding(name, "bad", f"{where} cannot be written: {plain(place.fault)}", otherwise)
        elif place.free_bytes is None:
            yield unknown(name, f"how much room {where} has")
        else:
            outcome = graded(-place.free_bytes, -DISK_BYTES, -FULL_BYTES)
            fix = "" if outcome == "ok" else "make room on its disk"
            yield Finding(name, outcome, f"{where} has {place.free_bytes / GIB:.1f} GiB of room", fix)
    if facts.cache.used_bytes is not None and facts.cache.used_bytes > LARGE_CACHE_BYTES:
        what = f"the cache holds {facts.cache.used_bytes / GIB:.1f} GiB"
        fix = f"what is in {plain(facts.cache.path)}/artifacts may go: it is compiled again when needed"
        yield Finding("cache-size", "doubtful", what, fix)
    if facts.floors_fault:
        fix = "`kdbench doctor --selftest` sets the file aside and starts anew"
        yield Finding("selftests", "doubtful", plain(facts.floors_fault), fix)
