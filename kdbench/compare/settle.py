"""About how long a trial would take to decide what two results leave open, and the command that does it."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

from kdbench import stats
from kdbench.compare.evidence import Evidence
from kdbench.compare.spread import Spread
from kdbench.records import Result
from kdbench.spec import Cell

LONGEST_S = 3600.0
"""More than an hour is not told any closer."""

STEP_S = 10

SHORTEST_S = 0.001
"""No block is over sooner, whatever a file claims."""

ROOM = 1 + 0.84 / 1.96
"""How many half intervals the truth must lie away from what is to be excluded, so that about 80 % of trials
exclude it: the estimate is within 0.84 standard errors of the truth on that side in 80 %, and an interval is
1.96 of them on either side, or somewhat more where blocks are few. In the middle of the margin either side of
an interval may reach too far, and it is about 60 %."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*=.*")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_THREADS = ("cores", "vendor")


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial of two cells needs: how its blocks scatter, how long one takes, and what differs.

    block_sd: of the log ratio of one block where this comparison does not know it itself.
    """

    base: Evidence
    new: Evidence
    block_sd: float
    block_s: float


def trial(base: Evidence, new: Evidence, spread: Spread) -> Trial:
    """Say what a trial would need; the rehearsal of one that was run is known best."""
    rehearsed = base.result.trial.block_s if base.result.trial else None
    return Trial(base, new, spread.block_sd, rehearsed or spread.block_s)


def settling(
    wanted: Trial, estimate: float | None, block_sd: float | None, margin: float
) -> tuple[float, str]:
    """Give the seconds, at most an hour, and the command, such that about 80 % of such trials decide it.

    estimate, margin: in log terms. A change beyond the margin needs an interval that excludes none; one
    within it needs an interval that stays within the margin; `ROOM` is what either needs for its power. The
    estimate is taken for the truth; None stands for that of two runs, which is no truth: there the interval
    has to settle that nothing changed.
    """
    size = 0.0 if estimate is None else abs(estimate)
    half = (size if size > margin else margin - size) / ROOM
    block_s = max(SHORTEST_S, wanted.block_s)
    most = max(3, math.ceil(LONGEST_S / block_s))
    blocks = stats.blocks_needed(wanted.block_sd if block_sd is None else block_sd, half, most)
    seconds = min(LONGEST_S, blocks * block_s)
    return seconds, command(wanted.base, wanted.new, seconds)


def command(base: Evidence, new: Evidence, seconds: float) -> str:
    """Give the `kdbench ab` command that alternates two cells; empty for what it cannot be asked for."""
    ours, theirs = base.record.cell, new.record.cell
    if not _offered(ours, theirs) or not _harmless(base, new):
        return ""
    words = ["kdbench", "ab", *_students(base, new), "-b", _either(ours.backend, theirs.backend)]
    if (ours.device, theirs.device) != ("cpu", "cpu"):
        words += ["--device", _either(ours.device, theirs.device)]
    if (ours.precision, theirs.precision) != ("fp32", "fp32"):
        words += ["--precision", _either(ours.precision, theirs.precision)]
    words += _options(ours.variant, theirs.variant)
    words += ["--batch", str(ours.batch), "--threads", str(ours.threads)]
    if ours.scenario != "latency":
        words += ["--scenario", ours.scenario]
    if _unlike_versions(base, new):
        words += ["--python", "BASE_ENV/bin/python", "--python", "NEW_ENV/bin/python"]
    words += ["--budget", f"{STEP_S * math.ceil(seconds / STEP_S)}s"]
    return shlex.join(words)


def _offered(base: Cell, new: Cell) -> bool:
    """Tell whether `kdbench ab` has words for what two cells are, and for all in which they differ.

    It takes no teacher, no shapes that are not fixed, no boundary but the host's and no depth of one's own,
    and batch size, scenario and threads are those of both sides.
    """
    alike = (base.batch, base.scenario, base.threads) == (new.batch, new.scenario, new.threads)
    return alike and all(
        cell.network == "student"
        and cell.boundary == "host"
        and cell.depth == (1 if cell.scenario == "latency" else "auto")
        and "shapes=dynamic" not in cell.variant.split(",")
        for cell in (base, new)
    )


def _harmless(base: Evidence, new: Evidence) -> bool:
    """Tell whether all text that comes from files is a plain word, which no program takes for an option."""
    names = [one.subject.student for one in (base, new)]
    cells = [one.record.cell for one in (base, new)]
    options = [word for cell in cells for word in cell.variant.split(",") if word]
    return (
        all(_NAME.fullmatch(name) for name in (*names, *(cell.backend for cell in cells)))
        and all(_DEVICE.fullmatch(cell.device) for cell in cells)
        and all(_OPTION.fullmatch(word) and word.isprintable() for word in options)
        and all(cell.threads in _THREADS or _COUNT.fullmatch(str(cell.threads)) for cell in cells)
        and all(_COUNT.fullmatch(str(cell.batch)) for cell in cells)
    )


def _students(base: Evidence, new: Evidence) -> list[str]:
    """Name one student, or two where they differ, even where they are called the same."""
    if base.subject.student_sha256 == new.subject.student_sha256:
        return [base.subject.student]
    names = [base.subject.student, new.subject.student]
    return names if names[0] != names[1] else [f"BASE/{names[0]}", f"NEW/{names[1]}"]


def _either(base: str, new: str) -> str:
    return base if base == new else f"{base},{new}"


def _options(base: str, new: str) -> list[str]:
    """Give the options that differ to their side, those alike to both."""
    ours, theirs = (tuple(word for word in variant.split(",") if word) for variant in (base, new))
    words = []
    for option in ours:
        words += ["-o" if option in theirs else "--a", option]
    for option in theirs:
        if option not in ours:
            words += ["--b", option]
    return words


def _unlike_versions(base: Evidence, new: Evidence) -> bool:
    """Tell whether the same backend ran by two versions of anything: then a trial takes two environments."""
    backend = base.record.cell.backend
    return backend == new.record.cell.backend and versions(base, backend) != versions(new, backend)


def versions(found: Evidence, backend: str) -> dict[str, str]:
    """Give the versions that a backend ran by: its runtime's, its plugin's, its distributions', Python's."""
    python, backends = _python(found.result), found.result.backends
    for side in found.result.trial.sides if found.result.trial else ():
        if side.side == found.record.cell.side:
            python, backends = side.python or python, side.backends or backends
    for one in backends:
        if one.name == backend:
            told = {"runtime": one.runtime_version, "plugin": one.version, **one.versions}
            return {name: version for name, version in {**told, "Python": python}.items() if version}
    return {}


def _python(result: Result) -> str:
    told = result.environment.get("python")
    version = told.get("version") if isinstance(told, dict) else None
    return version if isinstance(version, str) else ""
