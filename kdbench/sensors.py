"""How fast the CPUs are clocked and how hot they are, where the kernel tells.

Which files there are is found once: reading them happens between two slices and must be cheap.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from kdbench.sysfs import ROOT, integer, text

_CHIPS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal"})
"""Drivers in /sys/class/hwmon that measure the processor."""

_ZONES = frozenset({"x86_pkg_temp", "cpu-thermal", "cpu_thermal", "TCPU"})
"""Kinds of zones in /sys/class/thermal that are the processor."""

_PLAUSIBLE_C = range(1, 150)


@dataclass(frozen=True, slots=True)
class Sensors:
    """The files to read: a clock (kHz) for each CPU, and temperatures (thousandths of a degree)."""

    clocks: tuple[Path, ...]
    temperatures: tuple[Path, ...]


def find(cpus: Collection[int], root: Path = ROOT) -> Sensors:
    """Find the sensors of these CPUs; none where the kernel has no driver, as in most virtual machines."""
    policies = [root / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq" for number in cpus]
    chips = [
        file
        for chip in sorted((root / "sys/class/hwmon").glob("hwmon*"))
        if text(chip / "name") in _CHIPS
        for file in sorted(chip.glob("temp*_input"))
    ]
    zones = [
        zone / "temp"
        for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
        if text(zone / "type") in _ZONES
    ]
    return Sensors(tuple(file for file in policies if file.exists()), tuple(chips or zones))


def read(sensors: Sensors) -> tuple[float | None, float | None]:
    """Give the mean clock (MHz) and the highest temperature (degrees Celsius); None for what is not told."""
    clocks = [khz for file in sensors.clocks if (khz := integer(file))]
    degrees = [milli / 1000 for file in sensors.temperatures if (milli := integer(file)) is not None]
    hot = [value for value in degrees if int(value) in _PLAUSIBLE_C]
    return fmean(clocks) / 1000 if clocks else None, max(hot, default=None)


def throttle_count(root: Path = ROOT) -> int | None:
    """Count how often heat has slowed the CPUs since the machine was started; None: not counted here."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [count for file in files if (count := integer(file)) is not None]
    return sum(counts) if counts else None
