"""GPUs in a line each, as facts of a result tell them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kdbench.render.figures import plain


def gpus(found: Any) -> Iterator[str]:
    """Give a line for each GPU of an environment: its name, driver and power limit."""
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield plain(" · ".join([str(one.get("name") or "unknown GPU"), *_facts(one)]))


def _facts(gpu: dict[str, Any]) -> Iterator[str]:
    if gpu.get("driver"):
        yield f"driver {gpu['driver']}"
    limit = gpu.get("power_limit_w")
    if isinstance(limit, int | float) and not isinstance(limit, bool):
        yield f"power limit {limit:.0f} W"
