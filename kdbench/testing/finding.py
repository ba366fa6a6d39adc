"""A check of the contract, what it finds, and how it says that a promise is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kdbench.testing.subject import Subject

Verdict = Literal["kept", "broken", "skipped"]
Hook = Literal[
    "", "kdbench_describe", "kdbench_probe", "kdbench_compile", "kdbench_load", "kdbench_run"
]  # fmt: skip
"""Which hook keeps the promise; empty for the plugin as a whole."""

PAGE = "docs/hooks.md"


class Broken(AssertionError):
    """A promise is not kept: `seen` says what was seen instead, in a sentence."""

    def __init__(self, seen: str, *, trace: str = "") -> None:
        super().__init__(seen)
        self.seen, self.trace = seen, trace


class Skipped(Exception):
    """A check has nothing to look at here: `reason` says why, in a sentence.

    lacking: the reason is that the backend cannot run here, in the words of its probe.
    """

    def __init__(self, reason: str, *, lacking: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.lacking = reason, lacking


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the contract, and the function that looks whether it is kept.

    id: its name in a list, and with `test_` before it that of its test.
    promise: what is promised, in a sentence.
    hook: whose promise it is.
    section: the heading of docs/hooks.md where it stands, as an anchor.
    apart: whether it starts processes of its own, which takes about a second.
    examine: raises Broken or Skipped; any other error of it is the plugin's.
    """

    id: str
    promise: str
    hook: Hook
    section: str
    apart: bool
    examine: Callable[[Subject], None]

    @property
    def test(self) -> str:
        """The name of its test in a class of pytest."""
        return f"test_{self.id.replace('-', '_')}"

    @property
    def look(self) -> str:
        """Where the promise is written."""
        return f"{PAGE}#{self.section}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    seen: what was seen instead of what was promised; of a skipped check, why it was.
    look: where to look: the section of docs/hooks.md, then file and line of the hook.
    trace: the traceback of an error that the plugin raised.
    lacking: it was skipped because the backend cannot run here.
    """

    check: str
    promised: str
    verdict: Verdict
    seen: str = ""
    look: tuple[str, ...] = ()
    trace: str = ""
    seconds: float = 0.0
    lacking: bool = False

    def __str__(self) -> str:
        if self.verdict != "broken":
            return f"{self.check}: {self.verdict}. {self.seen or self.promised}"
        lines = [self.check, f"  promised: {self.promised}", f"  seen:     {self.seen}"]
        lines += [f"  look:     {' and '.join(self.look)}"]
        return "\n".join([*lines, "", self.trace] if self.trace else lines)


def check(
    promise: str, *, hook: Hook = "", section: str, apart: bool = False
) -> Callable[[Callable[[Subject], None]], Check]:
    """Make a check of a function; its name, with hyphens, is the check's id."""

    def made(examine: Callable[[Subject], None]) -> Check:
        return Check(examine.__name__.replace("_", "-"), promise, hook, section, apart, examine)

    return made
