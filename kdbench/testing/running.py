"""Run the checks of the contract in this process, and tell of each what it found."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path
from time import perf_counter

from kdbench import backends
from kdbench.discovery import Source
from kdbench.errors import BackendError
from kdbench.testing.finding import Broken, Check, Finding, Skipped
from kdbench.testing.subject import Settings, Subject, named
from kdbench.testing.table import CHECKS

OWN = (str(Path(__file__).parent), str(Path(backends.__file__)), f"{os.sep}pluggy{os.sep}")
"""Parts of the names of files whose frames tell an author nothing."""

CORE = str(Path(backends.__file__).parent)


def run(
    backend: str | Source,
    settings: Settings | None = None,
    *,
    only: Collection[str] | None = None,
    fallen: Collection[str] = (),
) -> Iterator[Finding]:
    """Put a backend to the test, in this process; one finding for each check, as soon as it is there.

    backend: the name of an installed one, or where else one comes from.
    only: ids of the checks to run; all of them by default.
    fallen: ids of checks that another process did not survive; what needs them is skipped.
    The plugin and its vendor's library are imported here, and a crash of theirs ends this process:
    `kdbench.testing.run_apart` is for a caller that must not be harmed. Raises UnknownBackend for a name that
    no plugin has.
    """
    source = named(backend) if isinstance(backend, str) else backend
    with Subject(source, settings or Settings()) as subject:
        for check in fallen:
            subject.give_up(check)
        for one in CHECKS:
            if only is None or one.id in only:
                yield judge(one, subject)


def judge(one: Check, subject: Subject) -> Finding:
    """Run one check; whatever the plugin raises in it is a promise broken."""
    begin, seen, trace, raised, hook = perf_counter(), "", "", "", str(one.hook)
    try:
        one.examine(subject)
        return Finding(
            check=one.id, promised=one.promise, verdict="kept", seconds=perf_counter() - begin
        )  # fmt: skip
    except Skipped as skipped:
        return Finding(
            check=one.id,
            promised=one.promise,
            verdict="skipped",
            seen=skipped.reason,
            seconds=perf_counter() - begin,
            lacking=skipped.lacking,
        )
    except Broken as broken:
        seen, trace = broken.seen, broken.trace or (_trace(broken.__cause__) if broken.__cause__ else "")
        raised = raised_in(broken.__cause__, subject.source) if broken.__cause__ else ""
    except (Exception, SystemExit) as error:
        seen, trace, raised = _told(error), _trace(error), raised_in(error, subject.source)
        # The phase says which of the hooks it was.
        hook = f"kdbench_{error.phase}" if isinstance(error, BackendError) and one.hook else hook
    return Finding(
        check=one.id,
        promised=one.promise,
        verdict="broken",
        seen=seen,
        look=tuple(filter(None, (one.look, where(subject, hook), raised))),
        trace=trace,
        seconds=perf_counter() - begin,
    )


def where(subject: Subject, hook: str) -> str:
    """Give file and line of a hook, or the plugin's module where the hook cannot be found."""
    try:
        function = inspect.unwrap(getattr(subject.plugin(), hook))
        return f"{hook} in {inspect.getsourcefile(function)}:{inspect.getsourcelines(function)[1]}"
    # Whatever is wrong with the plugin is told by the checks, and not by looking where it is.
    except (Exception, SystemExit):
        return f"{subject.source.value} of {subject.source}"


def raised_in(error: BaseException, source: Source) -> str:
    """Give the last file and line of the plugin, else of what it called; empty where kdbench raised it."""
    cause = error.__cause__ or error
    if isinstance(cause, SyntaxError):
        return f"{cause.filename}:{cause.lineno}"
    frames = [one for one in traceback.extract_tb(cause.__traceback__) if not one.filename.startswith("<")]
    package = re.split(r"[.:]", source.value, maxsplit=1)[0]
    own = [one for one in frames if {package, f"{package}.py"} & set(Path(one.filename).parts)]
    if not own and (not frames or any(part in frames[-1].filename for part in (CORE, *OWN))):
        return ""
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _trace(error: BaseException) -> str:
    """Give the traceback of what the plugin raised, without the frames of the kit."""
    cause = error.__cause__ or error
    frames = [
        frame
        for frame in traceback.extract_tb(cause.__traceback__)
        if not any(own in frame.filename for own in OWN)
    ]
    if not frames:
        return ""
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(cause)]).rstrip()
