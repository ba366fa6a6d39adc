"""Look at the threads and the memory of a process a thousand times a second, from outside of it.

Run as a program of its own, with the standard library alone: `sampler.py PID FILE CPUS`. In the observed
process a sampler would wait for Python's lock, and make its calls wait. It writes what has changed, a line
each:

    TIME t TID STATE RAN WAITED NAME    a thread: its state, and nanoseconds that it ran, and waited for a CPU
    TIME x TID                          a thread that is gone
    TIME m BYTES                        resident memory

and ends when its standard input does. Times are of the monotonic clock, in nanoseconds.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PERIOD_NS = 1_000_000

State = tuple[str, int, int, str]


class Thread:
    """One thread, its two files kept open: opening them anew would take ten times as long."""

    def __init__(self, pid: int, tid: int) -> None:
        home = f"/proc/{pid}/task/{tid}"
        self.last: State | None = None
        self._stat = os.open(f"{home}/stat", os.O_RDONLY)
        try:
            self._ran: int | None = os.open(f"{home}/schedstat", os.O_RDONLY)
        except OSError:  # a kernel without it: ticks of 10 ms are all that there is
            self._ran = None

    def look(self) -> State:
        """Give state, time run, time waited, name; raises OSError when the thread is gone."""
        text = os.pread(self._stat, 1024, 0).decode(errors="replace")
        begin, end = text.index("("), text.rindex(")")
        fields = text[end + 2 :].split()
        if self._ran is None:
            ran, waited = (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), 0
        else:
            ran, waited = map(int, os.pread(self._ran, 128, 0).split()[:2])
        return fields[0], ran, waited, text[begin + 1 : end].replace("\n", " ")

    def close(self) -> None:
        """Give the files back."""
        for descriptor in (self._stat, self._ran):
            if descriptor is not None:
                os.close(descriptor)


def sample(pid: int, write: Callable[[str], object], threads: dict[int, Thread]) -> None:
    """Look at each thread once, and write what has changed since the last time."""
    now = time.perf_counter_ns()
    tids = {int(name) for name in os.listdir(f"/proc/{pid}/task")}  # noqa: PTH208  # a thousand times a second
    for tid in threads.keys() - tids:
        threads.pop(tid).close()
        write(f"{now} x {tid}\n")
    for tid in sorted(tids):
        with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            if tid not in threads:
                threads[tid] = Thread(pid, tid)
            seen = threads[tid].look()
            if seen != threads[tid].last:
                threads[tid].last = seen
                state, ran, waited, name = seen
                write(f"{now} t {tid} {state} {ran} {waited} {name}\n")


def follow(pid: int, write: Callable[[str], object]) -> None:
    """Sample until the standard input ends, or the process does; tell the standard output that it began."""
    threads: dict[int, Thread] = {}
    memory, page, last = os.open(f"/proc/{pid}/statm", os.O_RDONLY), os.sysconf("SC_PAGE_SIZE"), -1
    due, begun = time.perf_counter_ns(), False
    while True:
        sample(pid, write, threads)
        pages = int(os.pread(memory, 128, 0).split()[1])
        if pages != last:
            last = pages
            write(f"{time.perf_counter_ns()} m {pages * page}\n")
        if not begun:
            begun = os.write(1, b"ready\n") > 0
        now = time.perf_counter_ns()
        due = max(due + PERIOD_NS, now)
        if select.select([0], [], [], (due - now) / 1e9)[0]:
            return


def main() -> None:
    """Sample the process that the command line names, on the CPUs that it names, where that is allowed."""
    pid, path, cpus = int(sys.argv[1]), sys.argv[2], {int(cpu) for cpu in sys.argv[3].split(",") if cpu}
    with suppress(OSError):
        if cpus:
            os.sched_setaffinity(0, cpus)
    with open(path, "w", buffering=1 << 20, encoding="utf-8") as file, suppress(OSError):  # noqa: PTH123
        follow(pid, file.write)


if __name__ == "__main__":
    main()
