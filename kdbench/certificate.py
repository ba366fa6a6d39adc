"""What the contract's checks found of one backend, counted: an exit code, and a line that can be pasted."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from kdbench import __version__
from kdbench.spec import API
from kdbench.strict import clean

if TYPE_CHECKING:
    from kdbench.discovery import Source
    from kdbench.testing.finding import Finding

VERDICTS = ("kept", "broken", "skipped")
BROKEN, LACKING = 1, 3


@dataclass(frozen=True, slots=True)
class Certificate:
    """The findings of one backend.

    of: how many checks there are; fewer findings mean that only some were asked for.
    untried: choices of options that were left out, as `name=choice`.
    """

    source: Source
    findings: Sequence[Finding]
    of: int
    untried: Sequence[str] = ()

    def count(self, verdict: str) -> int:
        """Count the checks that came out so."""
        return sum(one.verdict == verdict for one in self.findings)

    @property
    def lacking(self) -> str:
        """Why the backend cannot run here, in the words of its probe; empty where it can."""
        return next((one.seen for one in self.findings if one.lacking), "")

    @property
    def exit_code(self) -> int:
        """1 where a promise is broken, otherwise 3 where the backend cannot run here, otherwise 0."""
        return BROKEN if self.count("broken") else LACKING if self.lacking else 0

    @property
    def counted(self) -> str:
        """Tell how many were kept, broken and skipped, and of how many where not all were asked for."""
        told = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in VERDICTS)
        return told if len(self.findings) == self.of else f"{told} ({len(self.findings)} of {self.of} checks)"

    @property
    def text(self) -> str:
        """Give the summary as one line of text."""
        return f"kdbench contract: {self.counted} · {self._named(self.source.name)}"

    @property
    def markdown(self) -> str:
        """Give the same as one line of Markdown."""
        name = self.source.name.replace("`", "'")
        return f"**kdbench contract**: {self.counted} · {self._named(f'`{name}`')}"

    def record(self) -> Record:
        """Give all of it as plain data."""
        return Record(
            backend=self.source.name,
            distribution=self.source.distribution,
            version=self.source.version,
            kdbench=__version__,
            api=API,
            platform=_platform(),
            exit_code=self.exit_code,
            kept=self.count("kept"),
            broken=self.count("broken"),
            skipped=self.count("skipped"),
            of=self.of,
            lacking=self.lacking,
            untried=tuple(self.untried),
            text=self.text,
            markdown=self.markdown,
            findings=tuple(self.findings),
        )

    def _named(self, name: str) -> str:
        left_out = [f"without {', '.join(self.untried)}"] if self.untried else []
        left_out += ["could not run there"] if self.lacking else []
        versions = [f"{name} {self.source.version}", f"kdbench {__version__}", f"API {API}"]
        return clean(" · ".join([*versions, _platform(), *left_out]))


class Record(Struct, frozen=True, kw_only=True):
    """A certificate as `kdbench plugin check --json` prints it; the fields are those of Certificate."""

    backend: str
    distribution: str
    version: str
    kdbench: str
    api: int
    platform: str
    exit_code: int
    kept: int
    broken: int
    skipped: int
    of: int
    lacking: str
    untried: tuple[str, ...]
    text: str
    markdown: str
    findings: tuple[Any, ...]


def _platform() -> str:
    return f"{platform.system()} {platform.machine().replace('_', '-')}"
