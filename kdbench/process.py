"""One worker process, seen from its parent: start, ask, stop and let go on, end for certain."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import psutil

from kdbench import errors, protocol
from kdbench.errors import BackendError, PhaseTimeout
from kdbench.usage import cpu_ns
from kdbench.worker import Bonds

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What numerical libraries read when they are imported."""

LOG_LIMIT_BYTES = 64 << 20
PATIENCE_S = 5.0
PR_SET_CHILD_SUBREAPER = 36

Answer = TypeVar("Answer")


class Worker:
    """A living worker; end it with `end` or by leaving its `with` block, whatever happened."""

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        threads: int | None = None,
        cpus: Sequence[int] = (),
        memory_bytes: int | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.paused = False
        self.idle_cpu_ns = 0
        self._pipe, theirs = socket.socketpair()
        bonds = Bonds(parent=os.getpid(), cpus=tuple(cpus), memory_bytes=memory_bytes)
        command = [sys.executable, "-P", "-m", "kdbench.worker", str(theirs.fileno())]
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, msgspec.json.encode(bonds).decode()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=_environment(threads),
                process_group=0,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        """Whether the process still runs, or stands stopped."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, request: protocol.Request, answer: type[Answer], phase: str, limit_s: float) -> Answer:
        """Send a request and wait for its answer; see `send` and `receive`."""
        self.send(request, phase)
        return self.receive(answer, phase, limit_s)

    def send(self, request: protocol.Request, phase: str) -> None:
        """Send a request without waiting. Raises BackendError when the worker is gone."""
        try:
            protocol.send(self._pipe, request)
        except OSError:
            raise self._gone(phase) from None

    def receive(self, answer: type[Answer], phase: str, limit_s: float) -> Answer:
        """Wait for the answer to the request sent last.

        Raises the BackendError that the worker reports; PhaseTimeout after `limit_s`; BackendError when the
        worker dies, answers something else, or floods its log. In all but the first case it is killed.
        """
        self._wait(phase, limit_s)
        self._pipe.settimeout(max(PATIENCE_S, limit_s))
        try:
            reply: Any = protocol.receive(self._pipe, protocol.Reply)
        except (EOFError, OSError):
            raise self._gone(phase) from None
        except msgspec.DecodeError as fault:
            self.kill()
            raise BackendError(f"The worker's answer is not one: {fault}.", phase=phase) from fault
        if isinstance(reply, protocol.Failed):
            kind = getattr(errors, reply.kind, BackendError)
            raise kind(reply.message, hint=reply.hint, phase=reply.phase)
        assert isinstance(reply, answer), reply
        return reply

    def _wait(self, phase: str, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while not selector.select(max(0.0, min(1.0, deadline - time.monotonic()))):
                if self.log.stat().st_size > LOG_LIMIT_BYTES:
                    self.kill()
                    printed = LOG_LIMIT_BYTES >> 20
                    raise BackendError(f"It printed more than {printed} MiB and was killed.", phase=phase)
                if time.monotonic() >= deadline:
                    self.kill()
                    raise PhaseTimeout(
                        f"No answer within {limit_s:g} s; the process was killed.",
                        hint=f"--timeout {phase}={4 * limit_s:g}s allows it more.",
                        phase=phase,
                    )

    def pause(self) -> None:
        """Stop the process, all its threads, and wait until it stands."""
        if self.paused:
            return
        os.kill(self.pid, signal.SIGSTOP)
        seen = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if seen is not None and seen.si_code == os.CLD_STOPPED:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)
            self.paused = True
        self.idle_cpu_ns = cpu_ns(self.pid)

    def resume(self) -> None:
        """Let a stopped process go on."""
        if self.paused:
            os.kill(self.pid, signal.SIGCONT)
            self.paused = False

    def leaked_ns(self) -> int:
        """Tell the CPU time that an idle worker used since it was last asked, or stopped."""
        now = cpu_ns(self.pid)
        leaked, self.idle_cpu_ns = now - self.idle_cpu_ns, now
        return max(0, leaked)

    def close(self, limit_s: float) -> None:
        """Close the session and let the process end by itself; raises as `ask` does."""
        self.resume()
        self.ask(protocol.Close(), protocol.Closed, "close", limit_s)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self.end()

    def kill(self) -> None:
        """Kill the process and all that it started in its group; a stopped one too."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.paused = False

    def end(self) -> None:
        """Make sure that nothing of this worker is left; calling it again does nothing."""
        self.kill()
        self._pipe.close()

    def _gone(self, phase: str) -> BackendError:
        """Say how the process ended; its socket is closed, so it ends now if it has not."""
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return BackendError("The worker closed its pipe without an answer.", phase=phase)
        self.kill()
        return BackendError(_ending(code, self.log), phase=phase)


def _environment(threads: int | None) -> dict[str, str]:
    environment = dict(os.environ)
    if threads is not None:
        environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return environment


def _ending(code: int, log: Path) -> str:
    if code >= 0:
        return f"The process ended by itself with exit code {code}."
    name = signal.Signals(-code).name
    said = signal.strsignal(-code) or name
    told = f"The process was killed by {name} ({said.lower()})"
    if any(
        word in log_tail(log) for word in ("bad_alloc", "MemoryError", "out of memory", "Cannot allocate")
    ):
        return f"{told} after it ran out of memory."
    return f"{told}."


def log_tail(log: Path, size: int = 64 << 10) -> str:
    """Read the end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        return file.read().decode(errors="replace")


@contextmanager
def orphans_adopted() -> Iterator[None]:
    """Become the parent of whatever workers leave behind, and kill it on the way out.

    A child that moved to a session of its own escapes the killing of its group; on Linux it
    then falls to this process (PR_SET_CHILD_SUBREAPER).
    """
    if sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    before = {child.pid for child in psutil.Process().children()}
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        reap_orphans(keep=before)
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def reap_orphans(keep: set[int]) -> None:
    """Kill and bury every child of this process that is not in `keep`, with all that they started."""
    while True:
        orphans = [child for child in psutil.Process().children() if child.pid not in keep]
        if not orphans:
            return
        for orphan in orphans:
            for child in [*_descendants(orphan), orphan]:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            with suppress(ChildProcessError):
                os.waitpid(orphan.pid, 0)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
