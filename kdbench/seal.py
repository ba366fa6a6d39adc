"""A seal on what a plugin has no business changing in its worker: the clocks, and the code that measures.

A library that freezes time, or a patch that was left behind, would falsify figures in silence. A seal is set
before the plugin is imported and names what differs afterwards. It shows accidents and crude attempts: code
that runs in this process can undo it. `docs/trust.md` says what can be known and what cannot.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from kdbench.errors import ContractError

CLOCKS = (
    "perf_counter_ns",
    "perf_counter",
    "monotonic_ns",
    "monotonic",
    "clock_gettime_ns",
    "process_time_ns",
)
"""Of the module `time`: those that the harness reads, and those that libraries replace along with them."""

HINT = (
    "The harness owns the clock: a plugin leaves the clocks of `time` and the modules of kdbench alone. "
    "What freezes or patches them belongs in tests."
)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A name of a module or class with what it stood for; `inner` is what makes a function what it does."""

    place: str
    names: Mapping[str, Any]
    name: str
    value: Any
    inner: tuple[Any, ...]

    def holds(self) -> bool:
        return self.names.get(self.name) is self.value and _inner(self.value) == self.inner


class Seal:
    """Remembers, when it is made, the clocks and every function of the modules of kdbench by then."""

    def __init__(self) -> None:
        clocks = [
            _Mark("time", vars(time), name, getattr(time, name), ()) for name in CLOCKS if hasattr(time, name)
        ]
        modules = [(name, vars(module)) for name, module in list(sys.modules.items()) if _ours(name)]
        self._marks = (*clocks, *(mark for name, names in modules for mark in _marks(name, names)))

    def check(self) -> None:
        """Raise ContractError, naming what was changed and into what, if anything was."""
        for mark in self._marks:
            if not mark.holds():
                now = mark.names.get(mark.name)
                raise ContractError(
                    f"It changed {mark.place}.{mark.name} in its worker{_into(now, mark.value)}: "
                    "what it times could not be believed.",
                    hint=HINT,
                )


def _ours(module: str) -> bool:
    return module == "kdbench" or module.startswith("kdbench.")


def _marks(place: str, names: Mapping[str, Any]) -> Iterator[_Mark]:
    """Give a mark for each name of a module, and for each function of its own classes."""
    for name, value in list(names.items()):
        if name.startswith("__"):
            continue
        yield _Mark(place, names, name, value, _inner(value))
        if isinstance(value, type) and value.__module__ == place:
            methods = {key: one for key, one in vars(value).items() if isinstance(one, FunctionType)}
            for key, one in methods.items():
                yield _Mark(f"{place}.{name}", vars(value), key, one, _inner(one))


def _inner(value: Any) -> tuple[Any, ...]:
    if type(value) is not FunctionType:
        return ()
    return value.__code__, value.__defaults__, tuple((value.__kwdefaults__ or {}).items())


def _into(now: object, before: object) -> str:
    """Say what stands there now, for a sentence; whatever it is, its own code is not asked."""
    if now is None or now is before:
        return ""
    kind = now if isinstance(now, FunctionType) else type(now)
    return f" into {kind.__module__}.{kind.__qualname__}"
