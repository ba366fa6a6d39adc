"""What is known about a machine, and what is found about it. Nothing is read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdbench.activity import Activity
from kdbench.checks import RULES
from kdbench.figures import plain
from kdbench.records import BackendRecord
from kdbench.surroundings import Place

Condition = Literal["ok", "doubtful", "bad", "unknown"]

ORDER: tuple[Condition, ...] = ("bad", "doubtful", "unknown", "ok")
"""In the order in which they matter."""

LIMITS = {rule.id: (rule.doubtful, rule.bad) for rule in RULES}
"""Those of the checks that every result carries."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is, and how to mend it where it is not ok."""

    id: str
    outcome: Condition
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known. environment: what `environment.host` gives. rivals: see `surroundings.rivals`.

    backends: None where they could not be asked. floors_fault: why earlier self-tests cannot be read.
    """

    environment: Mapping[str, Any]
    activity: Activity
    backends: Sequence[BackendRecord] | None = ()
    results: Place
    cache: Place
    rivals: Sequence[tuple[str, Sequence[str]]] = ()
    floors_fault: str = ""

    def fact(self, path: str) -> Any:
        """Give a fact of the host by its path, `cpu.governor`; None where it is not known."""
        found: Any = self.environment
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def number(self, path: str) -> float | None:
        """Give a fact that must be a number; None where it is none."""
        found = self.fact(path)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def why(self, path: str) -> str:
        """Say why a fact is not known."""
        reasons = self.environment.get("unknown")
        told = reasons.get(path) if isinstance(reasons, Mapping) else None
        return plain(str(told)) if told else "this system does not tell"

    @property
    def cpus(self) -> int:
        """How many logical CPUs there are, at least one."""
        return max(1, int(self.number("cpu.logical") or self.activity.cpus))


def graded(value: float, doubtful: float, bad: float) -> Condition:
    """Grade a value that is the worse the larger it is."""
    return "bad" if value > bad else "doubtful" if value > doubtful else "ok"


def unknown(id: str, what: str, why: str = "this system does not tell") -> Finding:  # noqa: A002  # as the field
    """Say what is not known, and why."""
    return Finding(id, "unknown", what, why)
