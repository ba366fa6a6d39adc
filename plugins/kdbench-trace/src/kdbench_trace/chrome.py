"""Events of the Trace Event Format, as Perfetto and chrome://tracing read them; nanoseconds until written.

The format: docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU; what Perfetto takes of
it: perfetto.dev/docs/getting-started/other-formats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def complete(name: str, pid: int, tid: int, begin_ns: int, end_ns: int, **arguments: Any) -> Event:
    """Make a slice (`X`) on a thread's track; slices of one track nest or follow one another."""
    event: Event = {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": begin_ns}
    event["dur"] = max(0, end_ns - begin_ns)
    return {**event, "args": arguments} if arguments else event


def counter(name: str, pid: int, at_ns: int, unit: str, value: float) -> Event:
    """Make a point of a counter track (`C`)."""
    return {"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": at_ns, "args": {unit: value}}


def process(pid: int, name: str, position: int) -> list[Event]:
    """Name a group of tracks, and say where it stands among the others (`M`)."""
    return [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}},
        {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": position}},
    ]


def thread(pid: int, tid: int, name: str, position: int) -> list[Event]:
    """Name one track, and say where it stands in its group (`M`)."""
    return [
        {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}},
        {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": position}},
    ]


def write(path: Path, events: Sequence[Event], about: Mapping[str, Any]) -> None:
    """Write a trace. Times count from its first event, in microseconds with three decimals."""
    timed = [event for event in events if event["ph"] != "M"]
    first_ns = min((event["ts"] for event in timed), default=0)
    named = [event for event in events if event["ph"] == "M"]
    # Of slices that begin together the longer one comes first: it is the outer one.
    ordered = sorted(timed, key=lambda event: (event["ts"], -event.get("dur", 0)))
    lines = [_line(event, first_ns) for event in (*named, *ordered)]
    head = json.dumps({"displayTimeUnit": "ms", "otherData": dict(about)})[:-1]
    path.write_text(head + ', "traceEvents": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")


def _line(event: Event, first_ns: int) -> str:
    if event["ph"] == "M":
        return json.dumps(event)
    shown = {**event, "ts": round((event["ts"] - first_ns) / 1000, 3)}
    if "dur" in event:
        shown["dur"] = round(event["dur"] / 1000, 3)
    return json.dumps(shown)
