"""Run the checks in processes of their own: a plugin that crashes or hangs breaks one promise only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import IO, Any

import msgspec

from kdbench.discovery import Source
from kdbench.log import LIMIT_BYTES
from kdbench.testing.finding import Check, Finding
from kdbench.testing.fresh import variables
from kdbench.testing.subject import Settings, named
from kdbench.testing.table import CHECKS

LIMIT_S = 600.0
SHOWN = 4000
"""Bytes of what a dead process had printed last."""

PATIENCE_S = 1.0
LONGEST_BYTES = 1 << 20
"""A finding is shorter."""


@dataclass(frozen=True, slots=True)
class _Fall:
    """What became of a process that did not survive a check, and what it had printed last."""

    fate: str
    printed: str


def run_apart(
    backend: str | Source,
    settings: Settings | None = None,
    *,
    only: Collection[str] | None = None,
    limit_s: float = LIMIT_S,
    paths: Sequence[str] = (),
) -> Generator[Finding, None, None]:
    """Do what `kdbench.testing.run` does, in a process of its own; where that dies, the next gets another.

    Of what needs the thing over which a process died, nothing is tried again.

    limit_s: how long one check may take. Nothing of the plugin is imported here.
    paths: folders in which a plugin that is not installed has its modules.
    """
    source = named(backend) if isinstance(backend, str) else backend
    left, fallen = [one for one in CHECKS if only is None or one.id in only], set[str]()
    while left:
        errand = {
            "source": [source.name, source.value, source.distribution, source.version, source.stamp],
            "settings": msgspec.to_builtins(settings or Settings()),
            "only": [one.id for one in left],
            "fallen": sorted(fallen),
        }
        for one, finding in zip(left, _one_process(errand, left, limit_s, paths), strict=False):
            left = left[1:]
            if isinstance(finding, Finding):
                yield finding
            else:
                fallen.add(one.id)
                yield _fallen(one, source, finding)


def _one_process(
    errand: dict[str, Any], checks: list[Check], limit_s: float, paths: Sequence[str]
) -> Iterator[Finding | _Fall]:
    """Run checks in one process, up to the one that it does not survive."""
    lines: SimpleQueue[bytes] = SimpleQueue()
    with (
        tempfile.TemporaryDirectory(prefix="kdbench-contract-", ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryFile() as printed,
    ):
        child, answers = _start(errand, printed, {**variables(paths=paths), "TMPDIR": scratch})
        reader = Thread(target=_read, args=(answers, lines), daemon=True)
        reader.start()
        try:
            for one in checks:
                found = _next(lines, one, child, printed, limit_s)
                yield _Fall(found, _end_of(printed)) if isinstance(found, str) else found
                if isinstance(found, str):
                    return
        finally:
            _end(child)
            # Whoever left its group may still hold the other end; that must not hold this process.
            reader.join(PATIENCE_S)


def _next(
    lines: SimpleQueue[bytes],
    one: Check,
    child: subprocess.Popen[bytes],
    printed: IO[bytes],
    limit_s: float,
) -> Finding | str:
    """Wait for what a check finds; or say in a sentence what became of its process."""
    until = monotonic() + limit_s
    while True:
        try:
            line = lines.get(timeout=max(0.0, min(PATIENCE_S, until - monotonic())))
        except Empty:
            if os.fstat(printed.fileno()).st_size > LIMIT_BYTES:
                return f"It printed more than {LIMIT_BYTES >> 20} MiB."
            if monotonic() >= until:
                return f"It was not done after {limit_s:.0f} s."
            continue
        if not line:
            return _fate(child)
        return _read_finding(line, one) or "It wrote into what the findings of this kit pass through."


def _start(
    errand: dict[str, Any], printed: IO[bytes], environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a process that runs checks; gives it, and where its findings come, a line each."""
    reading, writing = os.pipe()
    answers = os.fdopen(reading, "rb")
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "kdbench.testing", str(writing), json.dumps(errand)],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env=environment,
            process_group=0,
        )
    except OSError:
        answers.close()
        raise
    finally:
        os.close(writing)
    return child, answers


def _read(answers: IO[bytes], lines: SimpleQueue[bytes]) -> None:
    """Pass on line by line, and an empty one at the end."""
    with answers:
        while line := answers.readline(LONGEST_BYTES):
            lines.put(line)
    lines.put(b"")


def _read_finding(line: bytes, one: Check) -> Finding | None:
    """Read what this check found; None for anything else, which only a plugin can have put there."""
    try:
        finding = msgspec.json.decode(line, type=Finding)
    except ValueError:
        return None
    return finding if finding.check == one.id else None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, unless it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _end_of(printed: IO[bytes]) -> str:
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - SHOWN))
    return printed.read(SHOWN).decode(errors="replace").strip()


def _fallen(one: Check, source: Source, fall: _Fall) -> Finding:
    return Finding(
        check=one.id,
        promised=one.promise,
        verdict="broken",
        seen=fall.fate,
        look=(one.look, f"{one.hook or source.value} of {source}"),
        trace=fall.printed,
    )


def _fate(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "It closed what the findings of this kit pass through."
    if code >= 0:
        return f"It ended its process with the code {code}."
    return f"Its process died of {signal.Signals(-code).name}."
