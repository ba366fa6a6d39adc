"""A bound on the memory of a process that runs a model nobody has vouched for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.8
"""Of the memory that is available; a model that asks for more fails by itself, and takes nobody with it."""


@contextmanager
def bounded(share: float = SHARE) -> Iterator[None]:
    """Let this process have no more private memory than this share of what is available now, on Linux."""
    if sys.platform != "linux":
        yield
        return
    import resource

    from kdbench.outfit import memory_limit_bytes
    from kdbench.usage import resident_bytes

    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = (resident_bytes() or 0) + memory_limit_bytes(share)
    lower = [limit for limit in (*before, most) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(lower), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
