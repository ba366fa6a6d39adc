"""Which observers are installed, read from packaging metadata alone; none is imported in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kdbench.discovery import OBSERVERS, Source, installed, nearest
from kdbench.errors import UsageError

KNOWN: Mapping[str, str] = MappingProxyType({"trace": "plugins/kdbench-trace"})
"""Observers that come with kdbench, and what pip takes, in a checkout, to install each."""


def here() -> tuple[Source, ...]:
    """Give the observers that can be used, alphabetically."""
    return tuple(installed(group=OBSERVERS)[0].values())


def chosen(names: Sequence[str]) -> tuple[Source, ...]:
    """Pick observers by name, each once; UsageError for one that is not there, with the nearest name."""
    if not names:
        return ()
    sources, faults = installed(group=OBSERVERS)
    wrong = {fault.name: fault.reason for fault in faults}
    for name in names:
        if name in wrong:
            raise UsageError(f"The observer {name!r} cannot be used: {wrong[name]}")
        if name not in sources:
            raise UsageError(f"There is no observer {name!r}.", hint=_hint(name, tuple(sources)))
    return tuple(sources[name] for name in dict.fromkeys(names))


def _hint(name: str, names: Sequence[str]) -> str:
    if name in KNOWN:
        return f"In a checkout of kdbench: pip install -e {KNOWN[name]}"
    meant = nearest(name, {*names, *KNOWN})
    question = f"Did you mean '{meant}'? " if meant else ""
    return f"{question}Installed: {', '.join(names) or 'none'}."
