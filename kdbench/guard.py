"""What a worker looks after around each request: clock and code, and the bundle that it may only read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdbench import protocol
from kdbench.errors import ContractError
from kdbench.seal import Seal
from kdbench.spec import Student
from kdbench.student import verify

Marks = dict[Path, tuple[int, ...]]


class Guard:
    """One worker's guard; to be made before its plugin is imported."""

    def __init__(self) -> None:
        self._seal = Seal()
        self._student: Student | None = None

    @contextmanager
    def watching(self, request: Any) -> Iterator[None]:
        """Raise ContractError if, after what is done inside, something is changed that is not the plugin's.

        Before a plugin compiles, the bundle is verified whole; raises StudentError if another one altered it.
        """
        student = getattr(request, "student", None)
        self._student = student if isinstance(student, Student) else self._student
        if isinstance(request, protocol.Compile):
            verify(request.student)
        before = _marks(self._student)
        try:
            yield
        finally:
            self._seal.check()
            _refuse_changed(before, _marks(self._student))


def _marks(student: Student | None) -> Marks:
    """Give what tells a changed file: size, time of change, place on the disk; nothing if it is gone."""
    marks: Marks = {}
    for path in student.files.values() if student else ():
        try:
            facts = path.stat()
            marks[path] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        except OSError:
            marks[path] = ()
    return marks


def _refuse_changed(before: Marks, after: Marks) -> None:
    for path, facts in before.items():
        if after[path] != facts:
            what = "changed" if after[path] else "removed"
            raise ContractError(
                f"The bundle's file {path.name} was {what} while it was at work.",
                hint="A hook writes below its workdir only. Get the bundle anew: nothing is measured with "
                "what is not the network that its card names.",
            )
