"""What `kdbench doctor` shows: the machine, what disturbs measurements on it, and what it can tell apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kdbench import floors
from kdbench.doctor import Condition, Facts, Finding
from kdbench.figures import count, duration, listed, percent, plain
from kdbench.records import BackendRecord, Floor
from kdbench.render import listing
from kdbench.render.hardware import gpus

STYLES: Mapping[Condition, str] = {"bad": "red", "doubtful": "yellow", "unknown": "dim", "ok": "green"}

BUDGETS_S = (10.0, 30.0)
"""Times of a trial for which the smallest change is told."""

MARGIN = 0.03
"""The default margin of a comparison of times."""

FEW_BLOCKS = 12
"""From fewer the smallest change is known to no better than a fifth."""

GIB = 2**30


def machine(console: Console, facts: Facts) -> None:
    """Show what the machine is, a line for each part; what is not known is not there."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, parts in _parts(facts):
        if told := [plain(part) for part in parts if part]:
            grid.add_row(Text(name), Text(" · ".join(told)))
    console.print(Text("This machine", style="bold"))
    console.print(Padding(grid, (0, 0, 0, 2)))


def backends(console: Console, records: Sequence[BackendRecord]) -> None:
    """List the backends that are installed, as `listing.backends` does, and name the others."""
    console.print()
    console.print(Text("Backends", style="bold"))
    # What no distribution here provides is known by name only.
    installed = [one for one in records if one.distribution or one.status != "unavailable"]
    listing.backends(console, installed)
    absent = [plain(one.name) for one in records if one not in installed]
    if absent:
        console.print()
        told = f"Not installed: {listed(absent)}; `kdbench backends` says what each needs."
        console.print(Text(told, style="dim"))


def findings(console: Console, found: Sequence[Finding]) -> None:
    """Show what disturbs measurements and how to mend it; then, in a line each, the unknown and the sound."""
    console.print()
    trouble = [one for one in found if one.outcome in ("bad", "doubtful")]
    title = (
        "What disturbs measurements here" if trouble else "Nothing is seen that disturbs measurements here"
    )
    console.print(Text(title, style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in trouble:
        text = Text(plain(one.what))
        if one.fix:
            text.append("\nfix: ", style="dim").append(plain(one.fix))
        grid.add_row(Text(one.outcome, style=STYLES[one.outcome]), text)
    for reason, names in _unknown(found).items():
        row = Text.assemble(f"{listed(names)}", (f"  ({reason})", "dim"))
        grid.add_row(Text("unknown", style=STYLES["unknown"]), row)
    if sound := [plain(one.what) for one in found if one.outcome == "ok"]:
        grid.add_row(Text("ok", style=STYLES["ok"]), Text("; ".join(sound)))
    console.print(Padding(grid, (0, 0, 0, 2)))


def detectable(console: Console, known: Sequence[Floor], alarms: Sequence[tuple[int, int]] = ()) -> None:
    """Show the smallest change that can be told from none, by backend; or how to find it out.

    alarms: of the self-test just made, how many sittings gave a false alarm, of how many: without a margin,
    and beyond the default one.
    """
    console.print()
    console.print(Text("The smallest change that this machine can tell from none", style="bold"))
    if not known:
        how = "unknown: no self-test was made yet. `kdbench doctor --selftest` takes about two minutes."
        console.print(Padding(Text(how), (0, 0, 0, 2)))
        return
    console.print(Padding(_table(known), (0, 0, 0, 2)))
    console.print()
    for line in _explained(known, alarms):
        console.print(Padding(Text(line, style="dim"), (0, 0, 0, 2)))


def failures(console: Console, failed: Sequence[tuple[str, str]]) -> None:
    """Show what the self-test could not measure, and why."""
    for what, reason in failed:
        line = Text.assemble((plain(what), "bold"), ("  failed  ", "red"), plain(reason))
        console.print(Padding(line, (0, 0, 0, 2)))


def _table(known: Sequence[Floor]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column(Text("backend", style="bold"), overflow="fold")
    batches = len({one.batch for one in known}) > 1
    trials = [f"ab {seconds:.0f} s" for seconds in BUDGETS_S]
    for name in [*(["batch"] if batches else []), "threads", *trials, "two runs", "sittings", "within"]:
        drawn.add_column(Text(name, style="bold"), justify="right", no_wrap=True)
    for one in sorted(known, key=lambda one: (one.backend, one.device, one.batch, one.threads)):
        apart = floors.between_runs(one)
        drawn.add_row(
            Text(_name(one, known), style="bold"),
            *([str(one.batch)] if batches else []),
            str(one.threads),
            *(_share(floors.in_one_run(one, seconds)[0]) for seconds in BUDGETS_S),
            Text("unknown", style="dim") if apart is None else _share(apart),
            str(one.runs),
            _span(one),
        )
    return drawn


def _name(one: Floor, known: Sequence[Floor]) -> str:
    """Name a backend, with its device where that is not the CPU, its version where there are several."""
    versions = {other.runtime_version for other in known if other.backend == one.backend}
    parts = [one.backend, "" if one.device == "cpu" else one.device]
    parts.append(one.runtime_version if len(versions) > 1 else "")
    return plain(" ".join(part for part in parts if part))


def _share(value: float) -> Text:
    return Text(percent(value) if value < 10 else "> 1000 %", style="yellow" if value > MARGIN else "green")


def _span(one: Floor) -> str:
    """Tell how far the first and the last sitting lie apart; nothing where that cannot be read."""
    try:
        since, until = map(datetime.fromisoformat, (one.since_utc, one.until_utc))
        return duration((until - since).total_seconds()) if one.runs > 1 else ""
    except (ValueError, TypeError):
        return ""


def _explained(known: Sequence[Floor], alarms: Sequence[tuple[int, int]]) -> list[str]:
    lines = [
        "ab: alternated in one go by `kdbench ab --budget`. two runs: separate files.",
        f"Yellow is above the default margin of {percent(MARGIN)}: such a difference cannot be told there.",
        "A change of just that size is found half of the time, a smaller one seldom.",
    ]
    if any(floors.between_runs(one) is None for one in known):
        lines.append("unknown: at least 3 sittings tell how far separate runs lie apart; self-tests add up.")
    fewest = min(one.blocks for one in known)
    if fewest < FEW_BLOCKS:
        # the standard error of a standard deviation from n values about a known mean
        off = percent(1 / math.sqrt(2 * max(1, fewest)))
        lines.append(f"With {count(fewest, 'block')} such a figure is itself off by about {off}.")
    lines.append("within: from first to last sitting. Slower drift is not seen: repeat it at other hours.")
    if alarms:
        (plainly, of), (beyond, _) = alarms
        lines.append(
            f"Both sides were alike: {plainly} of {count(of, 'sitting')} saw a difference all the same "
            f"(5 % are due), {beyond} of them beyond {percent(MARGIN)}."
        )
    return lines


def _unknown(found: Sequence[Finding]) -> dict[str, list[str]]:
    """Gather what is unknown by the reason for it."""
    reasons: dict[str, list[str]] = {}
    for one in found:
        if one.outcome == "unknown":
            reasons.setdefault(plain(one.fix), []).append(plain(one.what))
    return reasons


def _parts(facts: Facts) -> list[tuple[str, list[str]]]:
    def told(path: str, before: str = "", after: str = "") -> str:
        value = facts.fact(path)
        return "" if value is None or value == "" else f"{before}{value}{after}"

    def gib(path: str) -> str:
        value = facts.number(path)
        return "" if value is None else f"{value / GIB:.1f} GiB"

    physical, usable = facts.number("cpu.physical"), facts.fact("cpu.usable")
    cores = [] if physical is None else [count(int(physical), "core")]
    cores += [f"{count(facts.cpus, 'logical CPU')}"]
    if isinstance(usable, list):
        cores.append(f"{count(len(usable), 'thread')} to use ({', '.join(map(str, usable))})")
    top = facts.number("cpu.max_mhz")
    now = facts.activity.clock_mhz
    reading = facts.number("clock.reading_ns")
    memory, left = gib("memory.total_bytes"), gib("memory.available_bytes")
    return [
        ("CPU", [told("cpu.model"), "virtual" if facts.fact("cpu.virtual") else ""]),
        ("cores", cores),
        (
            "clock rate",
            ["" if top is None else f"up to {top:.0f} MHz", "" if not now else f"now {now:.0f} MHz"],
        ),
        ("caches", _caches(facts.fact("cpu.caches"))),
        *(("GPU", [line]) for line in gpus(facts.fact("gpus"))),
        ("memory", [memory, f"{left} left" if left else ""]),
        (
            "system",
            [told("os.distribution"), told("os.kernel", "kernel "), told("os.container", "container: ")],
        ),
        ("Python", [told("python.version"), told("kdbench", "kdbench ")]),
        ("timer", [told("clock.source"), "" if reading is None else f"reading it takes {reading:.0f} ns"]),
        ("settings", _settings(facts)),
        ("cache", [_cache(facts)]),
    ]


def _caches(found: Any) -> list[str]:
    told = []
    for one in found if isinstance(found, list) else ():
        size, kind = one.get("bytes"), {"data": "d", "instruction": "i"}.get(one.get("type"), "")
        if isinstance(size, int):
            amount = f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 1024:.0f} KiB"
            told.append(f"L{one.get('level')}{kind} {amount}")
    return told


def _settings(facts: Facts) -> list[str]:
    random, pages = (
        facts.fact("settings.address_randomization"),
        facts.fact("settings.transparent_huge_pages"),
    )
    return [
        "" if random is None else f"address randomization {'on' if random else 'off'}",
        "" if pages is None else f"transparent huge pages: {pages}",
    ]


def _cache(facts: Facts) -> str:
    held = facts.cache.used_bytes
    return "" if held is None else f"{facts.cache.path} holds {held / 2**20:,.0f} MiB"
