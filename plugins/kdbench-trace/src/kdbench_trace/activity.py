"""Tracks of what threads and memory did, from what the sampler wrote.

A slice means that a thread ran, or was ready to run, in each sample from its beginning to its end. How long
it really ran stands in its arguments. The kernel books a running thread's time at its clock tick, every 1 to
10 ms, and exactly whenever it stops, so some of the time of a short slice may be booked in the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kdbench_trace.chrome import Event, complete, counter, process, thread

GROUP = 10_000_001
"""The process number of these tracks: beyond what Linux gives, so that it is no real one's."""

RUNNING = "R"
BIN_NS = 10_000_000
"""CPU time of all threads is told for every so many nanoseconds: a clock tick, or some of them."""

MEBIBYTE = 1 << 20


@dataclass(slots=True)
class Seen:
    """One thread as it was sampled: (time, state, time run, time waited), where something changed."""

    name: str = ""
    samples: list[tuple[int, str, int, int]] = field(default_factory=list)
    gone_ns: int | None = None

    @property
    def ran_ns(self) -> int:
        """For how long it ran while it was watched."""
        return self.samples[-1][2] - self.samples[0][2] if self.samples else 0


@dataclass(slots=True)
class Activity:
    """What the sampler wrote: threads by number, memory as (time, bytes)."""

    threads: dict[int, Seen] = field(default_factory=lambda: defaultdict(Seen))
    memory: list[tuple[int, int]] = field(default_factory=list)


def read(lines: Iterable[str]) -> Activity:
    """Read the sampler's file; a line that was torn is left out."""
    found = Activity()
    for line in lines:
        parts = line.rstrip("\n").split(" ", 6)
        if not line.endswith("\n"):
            continue
        if parts[1] == "m":
            found.memory.append((int(parts[0]), int(parts[2])))
        elif parts[1] == "x":
            found.threads[int(parts[2])].gone_ns = int(parts[0])
        elif len(parts) == 7:
            seen = found.threads[int(parts[2])]
            seen.name = parts[6]
            seen.samples.append((int(parts[0]), parts[3], int(parts[4]), int(parts[5])))
    return found


def tracks(found: Activity, end_ns: int, main: int) -> list[Event]:
    """Give a track per thread, the busiest first, and counters of CPU time and memory. main: that thread."""
    ordered = sorted(found.threads.items(), key=lambda one: -one[1].ran_ns)
    events = process(GROUP, "CPU activity of its threads", 1)
    for position, (tid, seen) in enumerate(ordered):
        name = f"{seen.name or 'unnamed'}{' (main)' if tid == main else ''}, {seen.ran_ns / 1e6:.1f} ms"
        # Not the thread's own number: its calls have that, and a number has one track only.
        events += thread(GROUP, GROUP + tid, name, position)
        events += running(GROUP + tid, seen, end_ns)
    events += busy(found, end_ns)
    events += [
        counter("resident memory", GROUP, at_ns, "MiB", round(size / MEBIBYTE, 3))
        for at_ns, size in found.memory
    ]
    return events


def running(tid: int, seen: Seen, end_ns: int) -> Iterator[Event]:
    """Give a slice for each stretch in which a thread ran, or was ready to run."""
    samples = seen.samples
    last = seen.gone_ns or end_ns
    begin: tuple[int, int, int] | None = None
    for index, (at_ns, state, ran, waited) in enumerate(samples):
        before = samples[index - 1] if index else None
        # One that is asleep again and yet has run since the last sample ran in between.
        active = state == RUNNING or (before is not None and ran > before[2])
        if active and begin is None:
            begin = (at_ns, *(before or samples[0])[2:])
        if begin is not None and state != RUNNING:
            yield _slice(tid, begin, at_ns, ran, waited)
            begin = None
    if begin is not None:
        yield _slice(tid, begin, last, samples[-1][2], samples[-1][3])


def _slice(tid: int, begin: tuple[int, int, int], end_ns: int, ran: int, waited: int) -> Event:
    return complete(
        "running",
        GROUP,
        tid,
        begin[0],
        end_ns,
        cpu_ms=round((ran - begin[1]) / 1e6, 3),
        waited_for_cpu_ms=round((waited - begin[2]) / 1e6, 3),
    )


def busy(found: Activity, end_ns: int) -> Iterator[Event]:
    """Give how many CPUs the process kept busy in each stretch of `BIN_NS`."""
    times = [one[0] for seen in found.threads.values() for one in seen.samples]
    if not times:
        return
    first = min(times)
    bins = [0.0] * ((max(*times, end_ns) - first) // BIN_NS + 1)
    for seen in found.threads.values():
        for before, after in zip(seen.samples, seen.samples[1:], strict=False):
            # What is booked at a tick was run before it.
            begin, end = max(before[0], after[0] - (after[2] - before[2])), after[0]
            for number in range((begin - first) // BIN_NS, (end - first) // BIN_NS + 1):
                low, high = first + number * BIN_NS, first + (number + 1) * BIN_NS
                share = (min(end, high) - max(begin, low)) / max(end - begin, 1)
                bins[number] += (after[2] - before[2]) * share
    for number, ran in enumerate(bins):
        yield counter("busy", GROUP, first + number * BIN_NS, "CPUs", round(ran / BIN_NS, 2))
