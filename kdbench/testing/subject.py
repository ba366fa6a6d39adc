"""What the contract is tried on: a plugin, its backend, and the student opened by it, each made once."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from kdbench.backends import Backend, load_plugin
from kdbench.discovery import GROUP, Source, installed, nearest
from kdbench.errors import UnknownBackend
from kdbench.options import check_options
from kdbench.spec import Availability, Available, BackendInfo, Scalar, Student, Target, Unavailable
from kdbench.student import load_evaluation, open_student
from kdbench.testing.finding import Broken, Skipped
from kdbench.testing.opened import BATCH_SIZES, Opened, precisions

Made = TypeVar("Made")

MADE_BY = {
    "connects": "connects",
    "probe-answers": "probed",
    "opens": "opens",
    "device-opens": "device-opens",
}
"""By check, the thing that it is the first to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a backend is put to the test.

    student: name of an embedded student or path of a bundle.
    device: id of the device; empty takes the first that the probe names.
    options: of the backend, where they differ from its defaults.
    untried: choices of options that are left out, as `name=choice`, each with the reason.
    """

    student: str = "digits-2x5"
    device: str = ""
    options: Mapping[str, Scalar] = field(default_factory=dict)
    untried: Mapping[str, str] = field(default_factory=dict)


def named(name: str) -> Source:
    """Find the installed plugin of this name. Raises UnknownBackend, with what is wrong with it."""
    found, faults = installed(only=name)
    if name in found:
        return found[name]
    meant = nearest(name, installed()[0])
    hint = f"Did you mean '{meant}'?" if meant else "`kdbench backends` lists what is installed."
    raise UnknownBackend(faults[0].reason, hint=hint)


class Subject:
    """A plugin under test; leave its `with` block to close what was opened.

    `connect`, `probe` and `open` do their work once, and raise the same error again. The properties give the
    same, and raise Skipped instead: whatever could not be made is told by the one check that is about it.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self.source, self.settings = source, settings
        self._made: dict[str, Any] = {}
        self._failed: dict[str, BaseException] = {}
        self._exits = ExitStack()
        self._home: Path | None = None

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def folder(self, name: str) -> Path:
        """Make an empty folder that lives as long as this."""
        if self._home is None:
            scratch = tempfile.TemporaryDirectory(prefix="kdbench-contract-", ignore_cleanup_errors=True)
            self._home = Path(self._exits.enter_context(scratch)).resolve()
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._home))

    def plugin(self) -> Any:
        """Import the plugin and give the object that has the hooks."""
        return EntryPoint(self.source.name, self.source.value, GROUP).load()

    def connect(self) -> Backend:
        """Import and connect the plugin."""
        return self.once("connects", lambda: load_plugin(self.source))

    def probe(self) -> Availability:
        """Probe, and hold the answer to the description."""
        backend = self.backend

        def make() -> Availability:
            answer = backend.probe()
            if isinstance(answer, Available) and (fault := _undescribed(answer, backend.info)):
                raise Broken(fault)
            return answer

        return self.once("probed", make)

    def open(self) -> Opened:
        """Compile and load the student: in its own precision, else the first of the device; one thread."""
        return self.once("opens", lambda: self._open(self.target))

    def open_resident(self) -> Opened:
        """Compile and load the same at the boundary `device`."""

        def make() -> Opened:
            opened = self._open(replace(self.opened.target, boundary="device"))
            opened.resident(1)
            return opened

        return self.once("device-opens", make)

    def give_up(self, check: str) -> None:
        """Take what a check is about for broken, so that nothing which needs it is tried."""
        if check in MADE_BY:
            self._failed[MADE_BY[check]] = Broken(f"{check} ended its process.")

    def once(self, what: str, make: Callable[[], Made]) -> Made:
        """Make something once; raises the same error each time where that failed."""
        if what in self._failed:
            raise self._failed[what]
        if what not in self._made:
            try:
                self._made[what] = make()
            except (Exception, SystemExit) as error:
                self._failed[what] = error
                raise
        made: Made = self._made[what]
        return made

    @property
    def backend(self) -> Backend:
        """The backend behind its facade, which checks the type of every answer."""
        return _needed("connects", self.connect)

    @property
    def available(self) -> Available:
        """What the probe found; Skipped with its own reason where that is nothing."""
        answer = _needed("probe-answers", self.probe)
        if isinstance(answer, Unavailable):
            raise Skipped(f"{answer.reason} {answer.fix}".rstrip(), lacking=True)
        return answer

    @property
    def student(self) -> Student:
        """The student."""
        return self.once("student", lambda: open_student(self.settings.student))

    @property
    def target(self) -> Target:
        """What is asked of the backend, unless a check asks for something else."""
        info, available = self.backend.info, self.available
        device = self.settings.device or available.devices[0].id
        own = self.student.precision in info.precisions and self.student.precision != "fp32"
        return Target(
            device=device,
            precision=self.student.precision if own else precisions(info, available, device)[0],
            batch_sizes=BATCH_SIZES,
            options=check_options(info, self.settings.options),
        )

    @property
    def opened(self) -> Opened:
        """The student compiled and loaded."""
        _ = self.available
        return _needed("opens", self.open)

    @property
    def resident(self) -> Opened:
        """The same at the boundary `device`; Skipped where the backend does not declare it."""
        if "device" not in self.backend.info.boundaries:
            raise Skipped("It does not declare the boundary device.")
        return _needed("device-opens", self.open_resident)

    def _open(self, target: Target) -> Opened:
        backend, student, workdir = self.backend, self.student, self.folder("artifact")
        artifact = backend.compile(student, target, workdir)
        session = backend.load(artifact, target)
        self._exits.callback(_close, session)
        return Opened(backend, student, load_evaluation(student), target, workdir, artifact, session)


def _undescribed(answer: Available, info: BackendInfo) -> str:
    """Say what a probe found that was not described; empty where all of it was."""
    if not answer.version.strip():
        return "The version of its Available is empty."
    for device in answer.devices:
        if (kind := re.split(r"[.:]", device.id)[0]) not in info.devices:
            known = list(info.devices)
            return f"It found the device {device.id!r}, of the kind {kind!r}; described are {known}."
        if unknown := sorted(set(device.precisions) - set(info.precisions)):
            known = list(info.precisions)
            return f"Device {device.id!r} is said to compute in {unknown}; described are {known}."
    return ""


def _needed(check: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except Skipped:
        raise
    except (Exception, SystemExit) as error:
        raise Skipped(f"It needs what {check} is about, and that is broken.") from error


def _close(session: Any) -> None:
    # A session that cannot be closed is told by the checks that are about it.
    with suppress(Exception):
        session.close()
