"""How a user stops a run: Ctrl-C, a request to terminate, a terminal that is closed; all alike, once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def heard_once() -> Iterator[None]:
    """Raise KeyboardInterrupt for the first of `SIGNALS`, and ignore further ones until the end.

    A second one would break off what the first began: to end workers and keep what was finished. What is
    ignored already (`nohup`) stays so. Outside the main thread, signals are somebody else's.
    """

    def interrupt(_: int, frame: FrameType | None) -> None:
        for number in heeded:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in heeded:
            signal.signal(number, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])
