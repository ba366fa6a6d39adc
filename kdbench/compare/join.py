"""Which cell of base is compared with which of new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from kdbench.compare.evidence import Evidence
from kdbench.comparison import Unmatched
from kdbench.errors import ResultError
from kdbench.records import Result


@dataclass(frozen=True, slots=True)
class Joined:
    """Pairs of cells, base first, and the cells that only one side has."""

    pairs: tuple[tuple[Evidence, Evidence], ...]
    unmatched: tuple[Unmatched, ...]


def by_key(base: Sequence[Evidence], new: Sequence[Evidence], *, any_boundary: bool = False) -> Joined:
    """Join the cells of two files on their keys; where a file has one twice, in their order."""

    def key(one: Evidence) -> Hashable:
        cell = one.record.cell
        return replace(cell, boundary="host") if any_boundary else cell

    return _joined(base, new, key)


def by_side(result: Result, found: Sequence[Evidence]) -> Joined:
    """Join the two sides of a trial by the numbers that their pairs have.

    Everything in the key may differ, for it is what the trial is about. Raises ResultError for no trial.
    """
    if result.trial is None:
        raise ResultError("This result holds one side only, so there is nothing to compare it with.")
    base, new = ([one for one in found if one.record.cell.side == side] for side in ("a", "b"))
    if any(one.record.pair is not None for one in found):
        return _joined(base, new, lambda one: (one.record.pair, one.record.pair is None and one.record.cell))
    return _joined(base, new, _setting)  # a trial from before pairs had numbers, or made by somebody else


def _setting(one: Evidence) -> Hashable:
    cell = one.record.cell
    return cell.scenario, cell.batch, cell.network, cell.boundary


def _joined(base: Sequence[Evidence], new: Sequence[Evidence], key: Callable[[Evidence], Hashable]) -> Joined:
    waiting: dict[Hashable, list[Evidence]] = defaultdict(list)
    for one in reversed(new):
        waiting[key(one)].append(one)
    pairs, alone = [], []
    for one in base:
        others = waiting[key(one)]
        if others:
            pairs.append((one, others.pop()))
        else:
            alone.append(Unmatched(cell=one.record.cell, only="base", status=one.record.status))
    left = {id(one) for others in waiting.values() for one in others}
    alone += [
        Unmatched(cell=one.record.cell, only="new", status=one.record.status)
        for one in new
        if id(one) in left
    ]
    return Joined(tuple(pairs), tuple(alone))
