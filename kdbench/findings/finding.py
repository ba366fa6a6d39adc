"""One sentence on a comparison, and the parts that several kinds of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdbench.comparison import Change
from kdbench.figures import LONGEST, count, listed, plain
from kdbench.findings import effect
from kdbench.findings.effect import span, visible
from kdbench.findings.standing import LEVEL

MOST, FEW = 6, 3
"""Sentences of one kind, and of one that is no news; the table and the JSON have all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence: what it is about, and a command to copy where one is of use.

    tabled: whether a line of the table says the same.
    """

    subject: str
    text: str
    command: str = ""
    tabled: bool = False


def by(change: Change) -> str:
    """Say by how much, how surely, and from how many replications; without a size, from what to what."""
    if change.effect is None:
        unit, *values = effect.values(change)
        return " to ".join(effect.with_unit(value, unit) for value in values if value)
    told = [f"95 %: {span(change)}"] if span(change) else []
    base, new = change.blocks
    if change.scale != "ratio":
        told += [count(new, "image")] if change.paired and new else []
    elif change.paired and new:
        told.append(count(new, "block"))
    elif base or new:
        told.append(f"{base} and {count(new, 'block')}")
    if change.p_holm is not None and change.scale == "count":
        told.append(f"p = {change.p_holm:.2g}")
    return effect.size(change) + (f" ({', '.join(told)})" if told else "")


def unseen(change: Change) -> str:
    """Say what would not have shown, or why that is not the point; empty where neither is known."""
    suspicious = change.p is not None and change.p < LEVEL and change.reason
    if visible(change) and not suspicious:
        return f"; less than {visible(change).lstrip('±')} would not have shown"
    return f"; {reason(change)}" if change.reason else ""


def reason(change: Change) -> str:
    """Give the reason of a verdict without its full stop."""
    return plain(change.reason).rstrip(".")


def offered(change: Change) -> str:
    """Give the command that settles a change, whole or not at all: a part of one is another command."""
    command = change.command
    return command if len(command) <= LONGEST and command.isprintable() else ""


def several(cases: Sequence[str], most: int = 1) -> str:
    """Name the first cases and count the others; those without a name are not named."""
    named = [case for case in cases if case]
    if len(named) <= most:
        return listed(named) if named else ""
    return f"{', '.join(named[:most])} and {len(named) - most:,} more"


def joined(name: str, told: str) -> str:
    """Put a name before what is said of it, where there is one."""
    return f"{name}: {told}" if name else told
