"""Measure whole trials by the public command line, each into a file that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence import doubling, lines
from benchmarks.evidence.lines import Line
from kdbench import results
from kdbench.errors import KdbenchError

VERDICTS = (0, 1, 5)
"""Exit codes of a trial that was measured: done, a change for the worse, undecided."""

LAST_WORDS_S = 60.0
"""A trial that was interrupted may take so long to end its workers."""


class TrialFailed(Exception):
    """A trial gave no result that can be counted; says why."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the evidence lies: one folder a line with a file per whole trial, and what measuring needs."""

    path: Path

    def prepare(self) -> None:
        """Write the doubles and profiles, and remove what an interrupted trial left."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        doubling.install(self.doubles)
        for slice_ms, rounds in lines.SLICES.items():
            (self.path / f"slices-{slice_ms}ms.toml").write_text(lines.profile(slice_ms, rounds))

    @property
    def unfinished(self) -> Path:
        """Where a trial writes while it runs."""
        return self.path / "unfinished"

    @property
    def doubles(self) -> Path:
        """Where the doubles are installed."""
        return self.path / "doubles"

    def finished(self, line: Line) -> list[Path]:
        """Give the files of a line's whole trials, in the order in which they were measured."""
        return sorted((self.path / line.name).glob("[0-9][0-9][0-9]-exit*.json"))

    def failed(self, line: Line) -> list[Path]:
        """Give the notes that trials left which gave no result that can be counted."""
        return sorted((self.path / line.name).glob("[0-9][0-9][0-9]-failed.txt"))

    def following(self, line: Line) -> int:
        """Give the number of a line's next trial; failed ones have numbers, too."""
        every = (*self.finished(line), *self.failed(line))
        return max((int(path.name[:3]) + 1 for path in every), default=0)

    @property
    def environment(self) -> dict[str, str]:
        """Give the environment of kdbench's processes: it finds the doubles, and keeps a cache of its own.

        Of its own, so that no floor which the user's self-test has stored enters a verdict.
        """
        found = os.pathsep.join(filter(None, (str(self.doubles), os.environ.get("PYTHONPATH", ""))))
        return {**os.environ, "PYTHONPATH": found, "KDBENCH_CACHE": str(self.path / "cache")}


def measure(folder: Folder, line: Line) -> Path:
    """Measure the next trial of a line, and give its file. Raises TrialFailed.

    A trial that fails leaves a note of why: to repeat it is a choice, and the tables count how often it was
    made. Ctrl-C interrupts the trial, waits for its workers to end, and is raised again; nothing is kept of
    it.
    """
    number = folder.following(line)
    draft = folder.unfinished / f"{line.name}-{number:03}.json"
    home = folder.path / line.name
    home.mkdir(exist_ok=True)
    try:
        code = _whole(folder, line, draft)
    except TrialFailed as fault:
        (home / f"{number:03}-failed.txt").write_text(f"{fault}\n")
        raise
    path = home / f"{number:03}-exit{code}.json"
    draft.replace(path)
    return path


def _whole(folder: Folder, line: Line, draft: Path) -> int:
    """Run one trial and give its exit code. Raises TrialFailed where it was not measured whole."""
    code = _run(folder, line, draft)
    if code not in VERDICTS:
        raise TrialFailed(f"it exited with {code}: {_told(_log(draft))}")
    try:
        result = results.read(draft)
    except KdbenchError as fault:
        raise TrialFailed(str(fault)) from fault
    broken = [one for one in result.cells if one.status != "measured"]
    if broken:
        told = (f"{one.cell.side or one.cell.backend}: {one.status}, {one.reason}" for one in broken)
        raise TrialFailed("; ".join(told))
    return code


def _run(folder: Folder, line: Line, draft: Path) -> int:
    command = [sys.executable, "-m", "kdbench", *_located(folder, line.command)]
    command += ["--quiet", "--output", str(draft)]
    with _log(draft).open("wb") as log:
        # In a session of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=folder.environment,
            start_new_session=True,
        )
        try:
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise


def _located(folder: Folder, command: tuple[str, ...]) -> list[str]:
    return [str(folder.path / part) if part.endswith(".toml") else part for part in command]


def _log(draft: Path) -> Path:
    return draft.with_suffix(".txt")


def _told(log: Path) -> str:
    """Give the last lines of what a trial printed."""
    return " ".join(log.read_text(errors="replace").split()[-60:])
