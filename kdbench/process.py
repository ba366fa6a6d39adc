"""One worker process, seen from its parent: start, ask, stop and let go on, end for certain."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from kdbench import errors, log, protocol
from kdbench.errors import BackendError, ContractError, PhaseTimeout
from kdbench.mishap import displaced, ending, overdue
from kdbench.outfit import environment
from kdbench.seal import HINT
from kdbench.usage import cpu_ns
from kdbench.worker import PIPE_LOST, Bonds

GLANCE_S = 0.25
"""A worker that takes longer to answer is looked at this often: is it alive, is it flooding its log?"""

PATIENCE_S = 5.0

Answer = TypeVar("Answer")


class Worker:
    """A living worker; end it with `end` or by leaving its `with` block, whatever happened.

    python: the interpreter to start it with, None for this one.
    """

    def __init__(
        self,
        name: str,
        printed: Path,
        *,
        threads: int | None = None,
        cpus: Sequence[int] = (),
        memory_bytes: int | None = None,
        python: Path | None = None,
    ) -> None:
        self.name = name
        self.log = printed
        self.paused = False
        self.idle_cpu_ns = 0
        self._ended = False
        self._sent_ns = 0
        self._pipe, theirs = socket.socketpair()
        bonds = Bonds(parent=os.getpid(), cpus=tuple(cpus), memory_bytes=memory_bytes)
        command = [str(python or sys.executable), "-P", "-m", "kdbench.worker", str(theirs.fileno())]
        with ExitStack() as undone:
            undone.callback(self._pipe.close)
            with theirs, printed.open("ab") as output:
                self._process = subprocess.Popen(
                    [*command, msgspec.json.encode(bonds).decode()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=environment(threads, foreign=python is not None),
                    process_group=0,
                )
            undone.pop_all()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        """Whether the process still runs, or stands stopped.

        A dead one is not buried before `kill`: until then its id, and its group's, is nobody else's.
        """
        if self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, request: protocol.Request, answer: type[Answer], phase: str, limit_s: float) -> Answer:
        """Send a request and wait for its answer; see `send` and `receive`."""
        self.send(request, phase)
        return self.receive(answer, phase, limit_s)

    def send(self, request: protocol.Request, phase: str) -> None:
        """Send a request without waiting. Raises BackendError when the worker is gone, or spoke unasked."""
        if self._spoke():
            raise self._unintelligible("it came before it was asked for", phase)
        self._sent_ns = time.perf_counter_ns()
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
        except TimeoutError:
            raise self._unintelligible("it stops in the middle", phase) from None
        except (EOFError, OSError):
            raise self._gone(phase) from None
        except (msgspec.DecodeError, RecursionError) as fault:
            raise self._unintelligible(str(fault), phase) from fault
        if isinstance(reply, protocol.Failed):
            kind = getattr(errors, reply.kind, None)
            known = kind if isinstance(kind, type) and issubclass(kind, BackendError) else BackendError
            raise known(reply.message, hint=reply.hint, phase=reply.phase or phase)
        if not isinstance(reply, answer):
            raise self._unintelligible(f"a {type(reply).__name__} was not asked for", phase)
        if told := displaced(reply, self._sent_ns, time.perf_counter_ns()):
            self.kill()
            raise ContractError(told, hint=HINT, phase=phase)
        return reply

    def _spoke(self) -> bool:
        """Tell whether there is something to read although nothing was asked; the pipe's end is nothing."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            try:
                return bool(selector.select(0)) and bool(self._pipe.recv(1, socket.MSG_PEEK))
            except OSError:
                return False

    def _wait(self, phase: str, limit_s: float) -> None:
        """Wait until there is something to read; a worker whose children keep its pipe open may be dead."""
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while not selector.select(max(0.0, min(GLANCE_S, deadline - time.monotonic()))):
                self._refuse_flood(phase)
                if not self.alive and not selector.select(0):
                    raise self._gone(phase)
                if time.monotonic() >= deadline:
                    raise self._overdue(phase, limit_s)
        self._refuse_flood(phase)

    def _refuse_flood(self, phase: str) -> None:
        if log.flooded(self.log):
            self.kill()
            most = log.LIMIT_BYTES >> 20
            raise BackendError(f"It printed more than {most} MiB and was killed.", phase=phase)

    def _overdue(self, phase: str, limit_s: float) -> PhaseTimeout:
        """End a worker that does not answer; what it was doing is left in its log by `faulthandler`."""
        os.kill(self.pid, signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self.kill()
        return overdue(phase, limit_s)

    def _unintelligible(self, fault: str, phase: str) -> BackendError:
        self.kill()
        return BackendError(f"The worker's answer is not one: {fault}.", phase=phase)

    def pause(self) -> None:
        """Stop the process, all its threads and the children in its group, and wait until it stands."""
        if self.paused:
            return
        os.killpg(self.pid, signal.SIGSTOP)
        seen = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if seen is not None and seen.si_code == os.CLD_STOPPED:
            with suppress(ChildProcessError):  # killed since it was seen to stand
                os.waitid(os.P_PID, self.pid, os.WSTOPPED)
                self.paused = True
        self.idle_cpu_ns = cpu_ns(self.pid)

    def resume(self) -> None:
        """Let a stopped process and its children go on."""
        if self.paused:
            os.killpg(self.pid, signal.SIGCONT)
            self.paused = False

    def leaked_ns(self) -> int:
        """Tell the CPU time that an idle worker used since it was last asked, or stopped."""
        now = cpu_ns(self.pid)
        leaked, self.idle_cpu_ns = now - self.idle_cpu_ns, now
        return max(0, leaked)

    def close(self, limit_s: float) -> None:
        """Close the session and let the process end by itself; raises as `ask` does.

        One that died while it stood idle is told as a fault of the phase `run`.
        """
        if not self.alive:
            raise self._gone("run")
        self.resume()
        self.ask(protocol.Close(), protocol.Closed, "close", limit_s)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self.end()

    def kill(self) -> None:
        """Kill the process and all that it started in its group; a stopped one too."""
        if self._ended:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self.paused, self._ended = False, True

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
        if code == PIPE_LOST:
            return BackendError(
                "It closed, or put something else in the place of, the socket by which its worker answers.",
                hint="A plugin closes no file descriptor that it did not open.",
                phase=phase,
            )
        return BackendError(ending(code, self.log), phase=phase)
