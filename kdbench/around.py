"""A runner with something around each of its calls: what observers wrap runners with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from kdbench.spec import Runner

Around = Callable[..., Any]
"""Called as `around(name, method, *arguments)` in the place of the method; answers what that answers."""

METHODS = ("submit", "wait", "allocate_inputs", "device_ns", "upload", "download")
"""What a runner may have beside being called: of `Pipelined`, `Allocating`, `DeviceTimed` and `Resident`."""


def watched(runner: Runner, around: Around) -> Runner:
    """Give a runner that has the same methods, each of which goes through `around`.

    `around(name, method, *arguments)` calls the method and gives back its answer; `name` is `call` for the
    runner itself. Several threads may be in it at once where a backend is driven by threads.
    """
    methods = {name: getattr(runner, name, None) for name in METHODS}
    own = {name: _passing(name, method, around) for name, method in methods.items() if callable(method)}
    # A class of its own: what a runner can do is asked of its class from Python 3.12 on.
    kind = type("Watched", (), {**own, "__call__": _passing("call", runner, around)})
    return cast("Runner", kind())


def lacking(runner: object, than: object) -> tuple[str, ...]:
    """Name the methods that one runner has and another, in its place, has not."""
    return tuple(
        name
        for name in METHODS
        if callable(getattr(than, name, None)) and not callable(getattr(runner, name, None))
    )


def _passing(name: str, method: Callable[..., Any], around: Around) -> Callable[..., Any]:
    def passed(_: object, /, *arguments: Any) -> Any:
        return around(name, method, *arguments)

    return passed
