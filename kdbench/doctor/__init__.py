"""Judge a machine by its facts: what disturbs measurements on it, and how each is mended.

What the machine does not tell is `unknown` and never `ok`. Nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kdbench.doctor import company, gpu, processor, system
from kdbench.doctor.finding import (
    ORDER as ORDER,
    Condition as Condition,
    Facts as Facts,
    Finding as Finding,
)

_LOOKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    system.backends,
    *(company.others, company.load, company.steal, company.virtual),
    *(processor.cores, processor.quota, processor.governor, processor.turbo, processor.smt),
    *(processor.heat, processor.clock),
    gpu.gpus,
    *(system.battery, system.memory, system.variables, system.places),
)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Look at everything; the worst come first, and within an outcome the order of looking is kept."""
    found = [finding for look in _LOOKS for finding in look(facts)]
    return tuple(sorted(found, key=lambda one: ORDER.index(one.outcome)))
