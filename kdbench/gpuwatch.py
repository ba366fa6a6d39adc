"""How a worker's GPU stands around what is timed: read between timed stretches, never inside one.

Reading goes by NVML alone. Without a GPU, or where its driver tells nothing, everything here does nothing,
and a result has no word of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter_ns
from typing import Any

from kdbench import nvidia
from kdbench.nvidia import Conditions, Watch
from kdbench.settling import Settled, settle


@dataclass(slots=True)
class GpuWatch:
    """Looks at one GPU for one worker. uuid: empty for none. fellows: processes that live beside this one.

    NVML is opened at the first reading: what was loaded before that is in nobody's time to the first output.
    """

    uuid: str = ""
    fellows: tuple[int, ...] = ()
    _watch: Watch | None = None
    _highest_mhz: float | None = None
    _before: Conditions = field(default_factory=Conditions)

    def settle(self, call: Callable[[], object]) -> Settled:
        """Keep the GPU busy by `call` until its clock settles; `told` then tells of what comes after that."""
        if not self.uuid or self.read().sm_clock_mhz is None:
            return Settled()
        settled = settle(call, lambda: self.read().sm_clock_mhz, self._highest_mhz)
        self._before = self.read()
        return settled

    def told(self) -> dict[str, Any]:
        """Read the GPU and give what it tells, named as in `raw.Slice`, of the time since it had settled."""
        if not self.uuid:
            return {}
        now, before = self.read(), self._before
        self._before = now
        return {
            "gpu_clock_mhz": now.sm_clock_mhz,
            "gpu_memory_clock_mhz": now.memory_clock_mhz,
            "gpu_temperature_c": now.temperature_c,
            "gpu_power_w": now.power_w,
            "gpu_throttle": now.throttle,
            "gpu_throttled_ns": throttled_ns(before, now),
            "gpu_foreign": now.foreign,
            "gpu_pcie_generation": now.pcie_generation,
            "gpu_pcie_width": now.pcie_width,
        }

    def read(self) -> Conditions:
        """Read the GPU now."""
        if self._watch is None:
            self._watch = Watch(self.uuid)
            own = [one for one in nvidia.facts() if one.get("uuid") == self.uuid]
            self._highest_mhz = own[0].get("sm_clock_max_mhz") if own else None
        return self._watch.read({os.getpid(), *self.fellows})

    def steps(self) -> Steps | None:
        """Give what reads the GPU at the edges of a stretch's steps; None without one."""
        return Steps(self.read, first=self.read()) if self.uuid else None


@dataclass(slots=True)
class Steps:
    """Reads a GPU where a step of a stretch ends and the next begins. first: how it stood beforehand."""

    read: Callable[[], Conditions]
    first: Conditions
    found: dict[int, Conditions] = field(default_factory=dict)
    cost_ns: list[int] = field(default_factory=list)

    def edge(self, step: int) -> None:
        """Read the GPU where a step begins, for the one that ends there; the first one, 0, ends none."""
        if step:
            begin = perf_counter_ns()
            self.found[step - 1] = self.read()
            self.cost_ns.append(perf_counter_ns() - begin)

    def told(self, steps: int) -> dict[str, Any]:
        """Read once more, for the last of so many steps; give what was seen, named as in `raw.Stretch`."""
        self.edge(steps)
        readings = [self.found.get(step, Conditions()) for step in range(steps)]
        known = [one.throttle for one in readings if one.throttle is not None]
        foreign = [one.foreign for one in readings if one.foreign is not None]
        last = self.found.get(steps - 1, Conditions())
        return {
            "gpu_clocks_mhz": tuple(one.sm_clock_mhz for one in readings),
            "gpu_temperatures_c": tuple(one.temperature_c for one in readings),
            "gpu_throttle": tuple(dict.fromkeys(name for own in known for name in own)) if known else None,
            "gpu_throttled_ns": throttled_ns(self.first, last),
            "gpu_foreign": max(foreign, default=None),
            "gpu_read_ns": round(median(self.cost_ns)) if self.cost_ns else None,
        }


def throttled_ns(before: Conditions, now: Conditions) -> int | None:
    """Tell for how long power or heat held a GPU back between two readings, the longer of the two.

    The two may overlap, so their sum would count time twice. None where the driver keeps neither counter.
    """
    grown = [
        _grown(before.power_violation_ns, now.power_violation_ns),
        _grown(before.thermal_violation_ns, now.thermal_violation_ns),
    ]
    return max((one for one in grown if one is not None), default=None)


def _grown(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else max(0, now - before)
