"""What workers leave behind: children that moved out of their group, adopted by this process and ended."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


@contextmanager
def orphans_adopted() -> Iterator[None]:
    """Become the parent of whatever workers leave behind, and kill it on the way out.

    A child that moved to a session of its own escapes the killing of its group; on Linux it
    then falls to this process. Every child that was not there before counts as left behind, so
    whatever is started inside and shall live on does not belong here. May be nested.
    """
    if sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    before = ctypes.c_int()
    prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    children = {child.pid for child in psutil.Process().children()}
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _reap(keep=children)
        prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _reap(keep: set[int]) -> None:
    """Kill and bury every child of this process that is not in `keep`, with all that they started."""
    while orphans := [child for child in psutil.Process().children() if child.pid not in keep]:
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
