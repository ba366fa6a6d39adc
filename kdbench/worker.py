"""A worker process: bound to its parent, its cores and its memory, then one request after the other.

Started as `python -m kdbench.worker FD BONDS`. It answers through the socket FD alone; what the plugin
and its vendor print goes to the log that the parent gave as standard output and error.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
import textwrap
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kdbench import protocol

PR_SET_PDEATHSIG = 1

PRINTED, LONGEST = 4000, 400
"""Characters of a fault that are looked at, and that are told; the log has all of it."""

PIPE_LOST = 74
"""Exit code of a worker that cannot read from its socket, or write to it, any more."""


class Bonds(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is held to.

    cpus: logical CPUs to run on, empty for all. memory_bytes: limit of its private memory, or None.
    """

    parent: int
    cpus: tuple[int, ...] = ()
    memory_bytes: int | None = None


def bind(bonds: Bonds) -> None:
    """Die with the parent, stay on the given CPUs, within the given memory; before NumPy is imported.

    Thread pools count the CPUs and inherit the affinity when their library is imported.
    """
    faulthandler.enable()
    # What was printed before a crash would be lost in a buffer.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text file as long as nobody replaced it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if bonds.cpus:
            os.sched_setaffinity(0, bonds.cpus)
    if os.getppid() != bonds.parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if bonds.memory_bytes:
        _limit_memory(bonds.memory_bytes)
    _volunteer_for_the_killer()


def _limit_memory(most_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most_bytes = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))


def _volunteer_for_the_killer() -> None:
    # If memory runs out all the same, the kernel shall end this process and not the user's others.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123  # one line before pathlib is needed
            file.write("900")
    except OSError:
        pass


def serve(pipe: socket.socket) -> None:
    """Answer requests until the parent closes the session or the socket."""
    from kdbench import guard, observing, protocol, service

    state: service.Service | None = None
    watch: observing.Watch | None = None
    reply: protocol.Reply
    guarded = guard.Guard()
    while True:
        try:
            request = protocol.receive(pipe, protocol.Request)
        except EOFError:
            return
        try:
            with guarded.watching(request):
                if isinstance(request, protocol.Open):
                    state, reply = service.connect(request, watch)
                elif isinstance(request, protocol.Observe):
                    watch, reply = service.observe(request)
                elif isinstance(request, protocol.Discover):
                    reply = service.discover(request)
                elif isinstance(request, protocol.TimeYardstick):
                    reply = service.time_yardstick(request)
                else:
                    assert state is not None
                    reply = state.answer(request)
        except BaseException as fault:  # whatever a plugin does, SystemExit included, the parent is told
            reply = _failure(fault)
        try:
            protocol.send(pipe, reply)
        except (TypeError, ValueError, OverflowError) as fault:  # an answer that JSON cannot hold
            protocol.send(pipe, _failure(fault))
        if isinstance(reply, protocol.Closed):
            return


def _failure(fault: BaseException) -> protocol.Failed:
    """Put a fault into words, the traceback into the log; a phase that it does not know the parent does."""
    from kdbench import errors, protocol
    from kdbench.errors import BackendError, KdbenchError
    from kdbench.strict import clean

    # Not print: a plugin may have closed or replaced the standard streams.
    with suppress(OSError):
        os.write(2, "".join(traceback.format_exception(fault)).encode(errors="replace"))
    kind, phase, hint = "BackendError", "", ""
    if isinstance(fault, KdbenchError):
        told, hint = _text(fault.message), _text(fault.hint)
    elif isinstance(fault, MemoryError):
        told = f"Out of memory. {_text(fault)}"
    else:
        told = f"{type(fault).__name__}: {_text(fault)}".removesuffix(": ")
    if isinstance(fault, BackendError):
        # A plugin may have made a kind of its own; the parent knows the one that it is made of.
        kind = next(one.__name__ for one in type(fault).__mro__ if one.__module__ == errors.__name__)
        phase = _text(fault.phase)
    told = clean(told[:PRINTED])
    # A word that is longer than the line would be left out whole.
    message = textwrap.shorten(told, LONGEST, placeholder=" …") if " " in told[:LONGEST] else told[:LONGEST]
    return protocol.Failed(kind=kind, phase=phase, message=message, hint=clean(hint[:PRINTED]))


def _text(value: object) -> str:
    """Give what a plugin put into its error as text; an error that cannot even be told is still told of."""
    try:
        return str(value)
    except Exception as fault:  # whatever the plugin's own __str__ raises
        return f"(what it says cannot be told: its __str__ raises {type(fault).__name__})"


def main() -> None:
    """Run a worker; its end, however it comes, is the end of the process."""
    descriptor, bonds = int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Bonds)
    bind(bonds)
    os.set_inheritable(descriptor, False)
    try:
        with socket.socket(fileno=descriptor) as pipe:
            serve(pipe)
    except OSError:
        traceback.print_exc()
        os._exit(PIPE_LOST)
    with suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    # A vendor's threads or exit handlers may hang or crash a finished process; nothing is left to do in it.
    os._exit(0)


if __name__ == "__main__":
    main()
