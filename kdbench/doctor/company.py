"""Who else uses the machine, as far as that can be seen."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.doctor.finding import LIMITS, Facts, Finding, graded, unknown
from kdbench.figures import count, plain


def others(facts: Facts) -> Iterator[Finding]:
    """Tell who uses the CPU now."""
    now = facts.activity
    if now.other is None:
        yield unknown("other", "whether other processes use the CPU now")
        return
    outcome = graded(now.other / facts.cpus, *LIMITS["other"])
    who = [f"{plain(name)} {100 * share:.0f} %" for name, share in now.processes]
    if sum(share for _, share in now.processes) < now.other / 2:
        who.append("the most by what cannot be seen: short processes, or those of another container")
    used = f"{now.other:.2f} of {count(facts.cpus, 'CPU')} are used by others"
    yield Finding(
        "other",
        outcome,
        used if outcome == "ok" else f"{used}: {', '.join(who)}",
        "" if outcome == "ok" else "stop them, or wait until they are done",
    )


def load(facts: Facts) -> Iterator[Finding]:
    """Tell how many wanted a CPU of late."""
    average = facts.fact("load_average")
    load = average[0] if isinstance(average, list | tuple) and average else None
    if not isinstance(load, int | float):
        yield unknown("load", "the load average", facts.why("load_average"))
        return
    outcome = graded(load / facts.cpus, *LIMITS["load"])
    fix = "" if outcome == "ok" else "wait a minute, and find out who it is with `top`"
    yield Finding(
        "load",
        outcome,
        f"{load:.1f} processes wanted one of {count(facts.cpus, 'CPU')} over the last minute",
        fix,
    )


def steal(facts: Facts) -> Iterator[Finding]:
    """Tell what a hypervisor takes."""
    steal = facts.activity.steal
    if steal is None:
        yield unknown("steal", "whether a hypervisor takes CPU time")
        return
    outcome = graded(steal / facts.cpus, *LIMITS["steal"])
    fix = (
        "" if outcome == "ok" else "the host is shared: measure at another hour, or on a machine of your own"
    )
    yield Finding(
        "steal", outcome, f"a hypervisor takes {100 * steal / facts.cpus:.1f} % of the CPU time", fix
    )


def virtual(facts: Facts) -> Iterator[Finding]:
    """Tell whether there may be neighbours that nobody here can see."""
    virtual = facts.fact("cpu.virtual")
    if virtual is None:
        yield unknown("virtual", "whether this is a virtual machine", facts.why("cpu.virtual"))
    elif virtual:
        yield Finding(
            "virtual",
            "doubtful",
            "this is a virtual machine: what its neighbours on the host do cannot be seen from here",
            "compare with `kdbench ab`, which alternates both sides; two separate runs may differ by luck",
        )
    else:
        yield Finding("virtual", "ok", "no hypervisor shows itself")
