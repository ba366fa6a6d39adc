"""Which backends there are, what they are and whether they work here; no plugin is imported in this process.

`describe` and `probe` run in short-lived workers. Described facts are kept until the plugin changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from kdbench import __version__, log, protocol
from kdbench.catalogue import KNOWN, explain
from kdbench.discovery import (
    Fault,
    Interpreter,
    Source,
    installed,
    read_described,
    write_described,
)
from kdbench.environment import versions
from kdbench.errors import BackendError, KdbenchError, UsageError
from kdbench.orphans import orphans_adopted
from kdbench.outfit import memory_limit_bytes
from kdbench.process import Worker
from kdbench.records import BackendRecord
from kdbench.sections import Limits
from kdbench.spec import Available, BackendInfo, Unavailable


@dataclass(frozen=True, slots=True)
class Found:
    """An installed backend: where it comes from, and as far as it was asked, what it is and can.

    fault: why it is unusable although it is installed. `info` and `answer` are None where not known.
    python: the interpreter that has it installed, None for this one. versions: of its distributions there.
    """

    name: str
    source: Source | None = None
    info: BackendInfo | None = None
    answer: Available | Unavailable | None = None
    fault: Fault | None = None
    python: Interpreter | None = None
    versions: Mapping[str, str] | None = None


def names(only: Sequence[str] | None = None) -> tuple[Found, ...]:
    """Name every installed backend, or those of `only`, alphabetically; reads packaging metadata alone."""
    sources, faults = installed(only=None if only is None else ",".join(only))
    found = [Found(name, source=source) for name, source in sources.items()]
    broken = [Found(fault.name, fault=fault) for fault in faults]
    return tuple(sorted([*found, *broken], key=lambda one: one.name))


def foreign_names(python: Path) -> tuple[Found, ...]:
    """Name every backend that another interpreter has installed, by asking a worker of it.

    Raises UsageError where it is no Python, has no kdbench, or has another one than this.
    """
    with orphans_adopted(), tempfile.TemporaryDirectory(prefix="kdbench-") as folder:
        printed = Path(folder, "discover.log")
        try:
            with Worker("discover", printed, python=python) as worker:
                told = worker.ask(protocol.Discover(), protocol.Discovered, "discover", Limits().describe_s)
        except OSError as fault:
            raise UsageError(
                f"--python {python} cannot be started: {fault.strerror}.",
                hint="Give the interpreter of a virtual environment, such as .venv/bin/python.",
            ) from fault
        except BackendError as fault:
            lacking = b"No module named 'kdbench'" in printed.read_bytes()
            found = "it has no kdbench" if lacking else f"its kdbench does not answer ({fault.message})"
            raise UsageError(
                f"--python {python} cannot be used: {found}.",
                hint=f"Install kdbench {__version__} and the plugin in that environment.",
            ) from fault
    if (told.kdbench, told.number) != (__version__, protocol.NUMBER):
        raise UsageError(
            f"--python {python} has kdbench {told.kdbench}, and this is {__version__}: "
            "the harness must be the same on both sides.",
            hint=f"Install kdbench {__version__} in that environment.",
        )
    return tuple(_foreign(one, Interpreter(python, told.python)) for one in told.backends)


def _foreign(one: protocol.Provided, python: Interpreter) -> Found:
    if one.fault:
        return Found(one.name, fault=Fault(one.name, "discover", one.fault), python=python)
    source = Source(one.name, one.value, one.distribution, one.version, one.stamp)
    return Found(one.name, source=source, python=python)


def chosen(found: Sequence[Found], named: Sequence[str]) -> tuple[Found, ...]:
    """Pick the backends that were asked for by name, in that order; all of them where none was.

    Raises BackendUnavailable for one that is known but not installed, UnknownBackend for any other.
    """
    by_name = {one.name: one for one in found}
    for name in named:
        if name not in by_name:
            raise explain(name, list(by_name))
    return tuple(by_name[name] for name in named) if named else tuple(found)


def describe(found: Sequence[Found], folder: Path, logs: Path, limits: Limits) -> tuple[Found, ...]:
    """Fill in what each backend is: from what was kept, else by asking it, all at once.

    folder: the user's cache. logs: where the log of one that fails is kept.
    """
    known = [
        replace(one, info=read_described(folder / "described", one.source)) if one.source else one
        for one in found
    ]
    return _asked(known, folder, logs, limits, probe=False)


def probe(found: Sequence[Found], folder: Path, logs: Path, limits: Limits) -> tuple[Found, ...]:
    """Fill in what each backend is and whether it works here, by asking it, all at once; see `describe`."""
    return _asked(found, folder, logs, limits, probe=True)


def _asked(
    found: Sequence[Found], folder: Path, logs: Path, limits: Limits, *, probe: bool
) -> tuple[Found, ...]:
    memory_bytes = memory_limit_bytes(limits.memory_share)
    with orphans_adopted(), tempfile.TemporaryDirectory(prefix="kdbench-") as printed, ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for one in found:
            if one.source is not None and one.fault is None and (probe or one.info is None):
                worker = Worker(
                    one.name,
                    Path(printed, f"{one.name}-probe.log"),
                    memory_bytes=memory_bytes,
                    python=one.python.path if one.python else None,
                )
                workers[one.name] = stack.enter_context(worker)
                with suppress(BackendError):  # told when its answer is waited for
                    worker.send(opening(one.source), "import")
        return tuple(
            _ask(one, workers[one.name], folder, logs, limits, probe=probe) if one.name in workers else one
            for one in found
        )


def _ask(one: Found, worker: Worker, folder: Path, logs: Path, limits: Limits, *, probe: bool) -> Found:
    assert one.source is not None
    try:
        opened = worker.receive(protocol.Opened, "import", limits.describe_s)
        write_described(folder / "described", one.source, opened.info)
        one = replace(one, info=opened.info, versions=opened.versions)
        if not probe:
            return one
        probed = worker.ask(protocol.Probe(), protocol.Probed, "probe", limits.probe_s)
        return replace(one, answer=probed.available or probed.unavailable)
    except BackendError as fault:
        kept = log.keep(worker.log, logs, fault)
        return replace(one, fault=Fault(one.name, fault.phase, str(fault), Path(kept) if kept else None))


def opening(source: Source) -> protocol.Open:
    """Make the request with which a worker connects a plugin."""
    return protocol.Open(
        name=source.name, value=source.value, distribution=source.distribution, version=source.version
    )


def record(one: Found) -> BackendRecord:
    """Put what was found into the form of the result file."""
    known = KNOWN.get(one.name)
    title = one.info.title if one.info else known.title if known else ""
    source, info = one.source, one.info
    seen = one.versions if one.versions is not None else versions(info.distributions) if info else {}
    first = seen.get(info.distributions[0], "") if info and info.distributions else ""
    base = BackendRecord(
        name=one.name,
        status="available",
        title=title,
        distribution=source.distribution if source else "",
        version=source.version if source else "",
        runtime_version=first,
        versions=dict(seen),
    )
    if one.fault is not None:
        kept = str(one.fault.log) if one.fault.log else ""
        return structs.replace(
            base, status="failed", phase=one.fault.phase, reason=one.fault.reason, log=kept
        )
    if isinstance(one.answer, Unavailable):
        return structs.replace(base, status="unavailable", reason=one.answer.reason, fix=one.answer.fix)
    if isinstance(one.answer, Available):
        devices = tuple((device.id, device.name) for device in one.answer.devices)
        uuids = {device.id: device.uuid for device in one.answer.devices if device.uuid}
        return structs.replace(base, runtime_version=one.answer.version, devices=devices, uuids=uuids)
    return base


def missing(found: Sequence[Found]) -> tuple[BackendRecord, ...]:
    """List the backends that kdbench knows and that no installed plugin provides, with what to install."""
    here = {one.name for one in found}
    records = []
    for name, known in KNOWN.items():
        if name not in here:
            why: KdbenchError = explain(name, list(here))
            records.append(
                BackendRecord(
                    name=name, status="unavailable", title=known.title, reason=why.message, fix=why.hint
                )
            )
    return tuple(records)
