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
from typing import Any

import msgspec

PR_SET_PDEATHSIG = 1


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if bonds.cpus:
            os.sched_setaffinity(0, bonds.cpus)
    if os.getppid() != bonds.parent:
        os._exit(1)
    if bonds.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (bonds.memory_bytes, bonds.memory_bytes))
    _volunteer_for_the_killer()


def _volunteer_for_the_killer() -> None:
    # If memory runs out all the same, the kernel shall end this process and not the user's others.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123  # one line before pathlib is needed
            file.write("900")
    except OSError:
        pass


def serve(pipe: socket.socket) -> None:
    """Answer requests until the parent closes the session or the socket."""
    from kdbench import protocol, service

    state: service.Service | None = None
    while True:
        try:
            request = protocol.receive(pipe, protocol.Request)
        except EOFError:
            return
        try:
            if isinstance(request, protocol.Open):
                state, reply = service.connect(request)
            else:
                assert state is not None
                reply = state.answer(request)
        except KeyboardInterrupt:
            return
        except BaseException as fault:  # whatever a plugin does, the parent is told in which phase
            reply = _failure(fault, request)
        protocol.send(pipe, reply)
        if isinstance(reply, protocol.Closed):
            return


def _failure(fault: BaseException, request: Any) -> Any:
    import traceback

    from kdbench import protocol
    from kdbench.errors import BackendError, KdbenchError

    traceback.print_exception(fault)
    sys.stderr.flush()
    phase = type(request).__name__.lower()
    if isinstance(fault, BackendError):
        return protocol.Failed(
            kind=type(fault).__name__, phase=fault.phase or phase, message=fault.message, hint=fault.hint
        )
    if isinstance(fault, KdbenchError):
        return protocol.Failed(kind="BackendError", phase=phase, message=fault.message, hint=fault.hint)
    told = f"Out of memory. {fault}" if isinstance(fault, MemoryError) else f"{type(fault).__name__}: {fault}"
    return protocol.Failed(kind="BackendError", phase=phase, message=told.strip())


def main() -> None:
    """Run a worker; its end, however it comes, is the end of the process."""
    descriptor, bonds = int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Bonds)
    bind(bonds)
    with socket.socket(fileno=descriptor) as pipe:
        serve(pipe)
    sys.stdout.flush()
    # A vendor's threads or exit handlers may hang or crash a finished process; nothing is left to do in it.
    os._exit(0)


if __name__ == "__main__":
    main()
