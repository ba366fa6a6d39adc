"""What a worker is given on its way: its environment, and how much memory it may take."""

from __future__ import annotations

import os

import psutil

from kdbench import cgroup

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What numerical libraries read when they are imported."""


def environment(threads: int | None, *, foreign: bool) -> dict[str, str]:
    """Give a worker's environment; what leads this interpreter to its packages would mislead another one."""
    given = dict(os.environ)
    if foreign:
        for name in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__"):
            given.pop(name, None)
    if threads is not None:
        given.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return given


def memory_limit_bytes(share: float) -> int:
    """Give this share of the memory that is available here now, within what control groups allow."""
    available = psutil.virtual_memory().available
    return int(share * min(available, cgroup.memory_limit_bytes() or available))
