"""What was timed, as it stands in a result file: slices, samples, windows, stretches, yardsticks.

These are the truth of a result; all that people read is derived from them. Units stand in the names, and
what a system does not tell is None.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Nanoseconds = Annotated[int, Meta(ge=0)]
Estimate = Annotated[float, Meta(ge=0, le=1e18)]
"""Nanoseconds of a statistic; 30 years at most, so that arithmetic with it stays within numbers."""

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Deviation = Annotated[float, Meta(ge=0, le=100)]
"""A standard deviation in log terms."""


class Record(Struct, frozen=True, omit_defaults=True):
    """A part of a result file."""


class Slice(Record, frozen=True, kw_only=True):
    """About 100 ms of timed calls by one living worker; statistics over its calls.

    cell: index into `Result.cells`. block, cohort, round, position: where in the schedule.
    settle_calls, settle_ns: the calls just after the switch, kept out of the statistics.
    cpu_ns: CPU time of the worker's whole process during the slice.
    run_delay_ns: how long its threads were runnable but not running. switches: involuntary ones.
    steal_ns: time the hypervisor took from its CPUs. leaked_ns: CPU time that the other
    workers of the block used meanwhile. other_ns: CPU time that everybody but this worker used on its CPUs,
    the mean over them (in clock ticks, usually 10 ms). throttled_ns: time for which the control group was
    kept from running.
    first_ns: the first timed call. clock_mhz, temperature_c: read just after the slice.
    device_ns: what the device's own clock tells of a call, the median of a few calls made after the slice; no
    latency.
    gpu_clock_mhz (of its SMs), gpu_memory_clock_mhz, gpu_temperature_c, gpu_power_w, gpu_throttle,
    gpu_foreign: of the GPU that computes, read just after the slice. gpu_throttle: what lowers its clock, by
    name, empty for nothing. gpu_throttled_ns: for how long power or heat held it back meanwhile, the longer
    of the two. gpu_foreign: other processes that have a context on it. gpu_pcie_generation, gpu_pcie_width:
    of its link, under load. gpu_settled: whether its clock had settled before calls counted.
    """

    cell: Count
    block: Count
    cohort: Count = 0
    round: Count = 0
    position: Count = 0
    started_ns: Nanoseconds
    duration_ns: Nanoseconds
    calls: Count
    settle_calls: Count = 0
    settle_ns: Nanoseconds = 0
    median_ns: float
    p10_ns: float
    p25_ns: float
    p75_ns: float
    min_ns: Nanoseconds
    max_ns: Nanoseconds
    mean_ns: float
    cpu_ns: Nanoseconds = 0
    run_delay_ns: Nanoseconds = 0
    switches: Count = 0
    steal_ns: Nanoseconds = 0
    leaked_ns: Nanoseconds = 0
    other_ns: Nanoseconds | None = None
    throttled_ns: Nanoseconds | None = None
    first_ns: Nanoseconds | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None
    device_ns: Estimate | None = None
    gpu_clock_mhz: float | None = None
    gpu_memory_clock_mhz: float | None = None
    gpu_temperature_c: float | None = None
    gpu_power_w: float | None = None
    gpu_throttle: tuple[str, ...] | None = None
    gpu_throttled_ns: Nanoseconds | None = None
    gpu_foreign: Count | None = None
    gpu_pcie_generation: Count | None = None
    gpu_pcie_width: Count | None = None
    gpu_settled: bool | None = None


class Samples(Record, frozen=True, kw_only=True):
    """Timed calls of one cell in one block: raw, or beyond 2,000 a histogram.

    kind: `slices` (all slices of the block together) or `tail` (one uninterrupted stretch).
    values_ns: every sample, in order. Otherwise `bins` and `counts`: bin k holds the samples whose
    rounded `log(ns) / log(growth)` is k, so a bin's centre `growth ** k` is off by at most half a step.
    """

    cell: Count
    block: Count
    kind: Literal["slices", "tail"] = "slices"
    calls: Count
    values_ns: tuple[int, ...] = ()
    growth: float | None = None
    bins: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


class Window(Record, frozen=True, kw_only=True):
    """One throughput window with the queue kept full at `depth`: images completed in `duration_ns`.

    gpu_…: as of a slice, read just after the window.
    """

    cell: Count
    block: Count
    cohort: Count = 0
    round: Count = 0
    depth: Count
    started_ns: Nanoseconds
    duration_ns: Nanoseconds
    images: Count
    cpu_ns: Nanoseconds = 0
    gpu_clock_mhz: float | None = None
    gpu_memory_clock_mhz: float | None = None
    gpu_temperature_c: float | None = None
    gpu_power_w: float | None = None
    gpu_throttle: tuple[str, ...] | None = None
    gpu_throttled_ns: Nanoseconds | None = None
    gpu_foreign: Count | None = None
    gpu_pcie_generation: Count | None = None
    gpu_pcie_width: Count | None = None
    gpu_settled: bool | None = None


class Stretch(Record, frozen=True, kw_only=True):
    """One uninterrupted stretch of timed calls of a cell that runs alone: where tails and heat show.

    step_s: width of a step; medians_ns: the median of each step in order, None for a step without a call.
    gpu_clocks_mhz, gpu_temperatures_c: of the GPU's SMs at the end of each step, read between two calls and
    in no call's time; None where a call outlasted the step. gpu_read_ns: what such a reading took, their
    median. gpu_throttle: what lowered the clock at any of them. gpu_throttled_ns, gpu_foreign: as of a slice,
    over all of it.
    """

    cell: Count
    started_ns: Nanoseconds
    duration_ns: Nanoseconds
    calls: Count
    step_s: float
    medians_ns: tuple[float | None, ...] = ()
    cpu_ns: Nanoseconds = 0
    run_delay_ns: Nanoseconds = 0
    steal_ns: Nanoseconds = 0
    gpu_clocks_mhz: tuple[float | None, ...] = ()
    gpu_temperatures_c: tuple[float | None, ...] = ()
    gpu_throttle: tuple[str, ...] | None = None
    gpu_throttled_ns: Nanoseconds | None = None
    gpu_foreign: Count | None = None
    gpu_read_ns: Nanoseconds | None = None


class Yardstick(Record, frozen=True, kw_only=True):
    """One timing of a fixed piece of work by a process of its own, before or after a block.

    It tells how fast the machine was, whatever was measured on it: a gauge, never a divisor of a result.
    median_ns, p10_ns: of one repetition of the work, see `kdbench.yardstick`.
    """

    block: Count
    cohort: Count = 0
    scenario: Literal["latency", "throughput"] = "latency"
    after: bool = False
    started_ns: Nanoseconds
    calls: Count
    median_ns: Estimate
    p10_ns: Estimate
