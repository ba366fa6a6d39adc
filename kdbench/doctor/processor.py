"""What its processor and its clocks do to measurements."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.doctor.finding import LIMITS, Condition, Facts, Finding, graded, unknown
from kdbench.figures import count, duration, plain

SLOW_CLOCK_NS, TOO_SLOW_CLOCK_NS = 200.0, 1000.0
"""Reading a clock of the processor takes 20 to 60 ns; one that needs a system call or a device far more."""

FAST_SOURCES = frozenset({"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"})
"""Clock sources that are read without a system call."""


def cores(facts: Facts) -> Iterator[Finding]:
    """Tell whether a backend leaves anything to the rest of the system."""
    usable = facts.fact("cpu.usable")
    if not isinstance(usable, list | tuple) or not usable:
        yield unknown("cores", "which cores may be used", facts.why("cpu.usable"))
        return
    if len(usable) == 1:
        what = "there is one core to compute on, which backend, harness and system share"
        yield Finding("cores", "doubtful", what, "give the machine or the container more CPUs")
    elif len(usable) >= facts.cpus:
        what = (
            f"a backend on all {len(usable)} cores leaves none to the system: whatever else runs disturbs it"
        )
        fewer = "--threads 1" if len(usable) == 2 else f"--threads {len(usable) - 1}, or --threads 1,"
        yield Finding("cores", "doubtful", what, f"measure with {fewer} where small differences matter")
    else:
        yield Finding("cores", "ok", f"{count(len(usable), 'core')} to compute on, of {facts.cpus} CPUs")


def quota(facts: Facts) -> Iterator[Finding]:
    """Tell whether the CPU time is rationed, and whether the ration was used up."""
    quota, now = facts.number("cpu.quota"), facts.activity
    if quota is None:
        if facts.fact("os.system") == "Linux":
            yield Finding("quota", "ok", "no quota on the CPU time is seen")
        else:
            yield unknown("quota", "whether a quota limits the CPU time")
    else:
        lower = quota < facts.cpus
        yield Finding(
            "quota",
            "doubtful" if lower else "ok",
            f"a quota pays for {quota:g} of {count(facts.cpus, 'CPU')}; beyond it everything stands still",
            "raise it (docker: --cpus), or bind to whole CPUs instead (--cpuset-cpus)" if lower else "",
        )
    if now.throttled is None:
        if quota is not None:
            yield unknown("throttled", "how long the quota holds this group back")
    elif now.throttled > 0 or now.throttled_before_s:
        outcome: Condition = "bad" if now.throttled > LIMITS["throttled"][1] else "doubtful"
        before = duration(now.throttled_before_s or 0.0)
        what = f"the quota holds this group back {100 * now.throttled:.0f} % of the time now, {before} before"
        yield Finding("throttled", outcome, what, "raise the quota, or use fewer threads: --threads 1")


def governor(facts: Facts) -> Iterator[Finding]:
    """Tell who decides on the clock."""
    governor, driver = facts.fact("cpu.governor"), facts.fact("cpu.frequency_driver")
    if governor is None:
        yield unknown("governor", "the CPU's governor", facts.why("cpu.governor"))
    elif governor == "performance":
        yield Finding("governor", "ok", "the governor is performance")
    else:
        name = f"{plain(str(governor))} (driver {plain(str(driver))})"
        what = f"the governor is {name}: the clock follows the load"
        yield Finding("governor", "doubtful", what, "sudo cpupower frequency-set -g performance")


def turbo(facts: Facts) -> Iterator[Finding]:
    """Tell whether the clock may exceed what can be kept up."""
    turbo = facts.fact("cpu.turbo")
    if turbo is None:
        yield unknown("turbo", "turbo", facts.why("cpu.turbo"))
    elif turbo:
        pstate = facts.fact("cpu.frequency_driver") in ("intel_pstate", "intel_cpufreq")
        command = (
            "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
            if pstate
            else "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"
        )
        what = "turbo is on: the clock depends on heat and on how many cores work"
        yield Finding("turbo", "doubtful", what, command)
    else:
        yield Finding("turbo", "ok", "turbo is off")


def smt(facts: Facts) -> Iterator[Finding]:
    """Tell whether cores are shared by two threads."""
    smt = facts.fact("cpu.smt")
    if smt is None:
        yield unknown("smt", "whether two threads share a core", facts.why("cpu.smt"))
    elif smt:
        what = "two threads share each core: kdbench uses one of them, and whoever gets the other slows it"
        yield Finding("smt", "doubtful", what, "echo off | sudo tee /sys/devices/system/cpu/smt/control")
    else:
        yield Finding("smt", "ok", "every core has one thread")


def heat(facts: Facts) -> Iterator[Finding]:
    """Tell how hot it is, and whether that slowed it."""
    now = facts.activity
    if now.temperature_c is None:
        yield unknown("temperature", "the processor's temperature")
    else:
        outcome = graded(now.temperature_c, *LIMITS["temperature"])
        fix = "" if outcome == "ok" else "let it cool down, and clean its fans"
        yield Finding(
            "temperature", outcome, f"the processor has {now.temperature_c:.0f} degrees Celsius", fix
        )
    if now.throttles:
        what = f"heat slowed a CPU {count(now.throttles, 'time')} while it was looked at"
        yield Finding("heat", "bad", what, "let it cool down, and see to its cooling")
    elif now.throttles_before:
        what = f"heat has slowed a CPU {count(now.throttles_before, 'time')} since the machine was started"
        yield Finding("heat", "doubtful", what, "see to its cooling before long runs")


def clock(facts: Facts) -> Iterator[Finding]:
    """Tell what times the calls, and what reading it costs."""
    source, reading_ns = facts.fact("clock.source"), facts.number("clock.reading_ns")
    if source is None:
        yield unknown("clock-source", "the clock source", facts.why("clock.source"))
    elif source in FAST_SOURCES:
        yield Finding("clock-source", "ok", f"the clock source is {plain(str(source))}")
    else:
        what = f"the clock source is {plain(str(source))}, and reading it needs the kernel"
        place = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        yield Finding("clock-source", "doubtful", what, f"echo tsc | sudo tee {place}")
    if reading_ns is None:
        yield unknown("timer", "what reading the clock costs", facts.why("clock.reading_ns"))
    else:
        outcome = graded(reading_ns, SLOW_CLOCK_NS, TOO_SLOW_CLOCK_NS)
        fix = "" if outcome == "ok" else "use a faster clock source; calls under 100 µs are not told rightly"
        yield Finding("timer", outcome, f"reading the clock takes {reading_ns:.0f} ns", fix)
