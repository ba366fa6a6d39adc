"""What a worker tells of its GPU, from a fake NVML."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdbench.gpuwatch import GpuWatch, Steps, throttled_ns
from kdbench.measure import Ring, Samples, time_stretch
from kdbench.nvidia import Conditions, Watch
from tests.fake_nvidia import FIRST, FakeNvml, Machine, everything

MS = 1_000_000


class Busy:
    """NVML of a card whose clock climbs, and which counts for how long power held it back."""

    def __init__(self, *clocks_mhz: int, held_ns: int = 0) -> None:
        self.clocks_mhz, self.held_ns, self.readings = clocks_mhz, held_ns, 0
        self.fake = FakeNvml(answers={FIRST: everything()})

    def __getattr__(self, name):
        if name == "nvmlDeviceGetClockInfo":
            return self.clock
        if name == "nvmlDeviceGetViolationStatus":
            return lambda handle, policy: SimpleNamespace(
                violationTime=self.readings * self.held_ns * (policy == 0)
            )
        return getattr(self.fake, name)

    def clock(self, handle, kind):
        if kind == 1:
            self.readings += 1
        return self.clocks_mhz[min(self.readings, len(self.clocks_mhz)) - 1]


def watching(tmp_path, library) -> GpuWatch:
    root = Machine(tmp_path).namespace(4026531836).root
    return GpuWatch(FIRST, _watch=Watch(FIRST, library=library, root=root))


def test_without_a_gpu_nothing_is_called_and_nothing_told():
    gpu = GpuWatch()
    assert gpu.settle(lambda: pytest.fail("called")).settled is None
    assert gpu.told() == {}
    assert gpu.steps() is None


def test_a_gpu_that_tells_nothing_is_not_kept_busy(tmp_path):
    gpu = watching(tmp_path, FakeNvml())
    assert gpu.settle(lambda: pytest.fail("called")).calls == 0
    assert set(gpu.told().values()) == {None}


def test_what_is_told_is_of_the_time_after_settling(tmp_path):
    gpu = watching(tmp_path, Busy(300, 900, 1500, 1500, 1500, 1480, held_ns=3 * MS))
    assert gpu.settle(lambda: None).settled is True
    told = gpu.told()
    assert told["gpu_clock_mhz"] == 1480
    assert told["gpu_throttled_ns"] == 3 * MS
    assert told["gpu_throttle"] == ()
    assert (told["gpu_power_w"], told["gpu_temperature_c"], told["gpu_memory_clock_mhz"]) == (71.5, 41, 1480)
    assert (told["gpu_pcie_generation"], told["gpu_pcie_width"], told["gpu_foreign"]) == (5, 16, 0)


@pytest.mark.parametrize(
    ("before", "now", "held"),
    [
        ({}, {}, None),
        ({"power_violation_ns": 5}, {"power_violation_ns": 9}, 4),
        (
            {"power_violation_ns": 5, "thermal_violation_ns": 0},
            {"power_violation_ns": 9, "thermal_violation_ns": 7},
            7,
        ),
        ({"power_violation_ns": 5}, {}, None),
        ({"power_violation_ns": 9}, {"power_violation_ns": 0}, 0),
    ],
)
def test_power_and_heat_may_hold_a_clock_back_at_one_time_and_are_not_added_up(before, now, held):
    assert throttled_ns(Conditions(**before), Conditions(**now)) == held


def test_a_stretch_is_read_at_the_edges_of_its_steps_and_in_no_call(clock):
    readings = iter(range(1000, 2000, 100))
    steps = Steps(lambda: Conditions(sm_clock_mhz=next(readings), throttle=()), Conditions())

    def edge(step):
        clock.now_ns += 50 * MS  # what a reading costs is in no call
        steps.edge(step)

    samples = Samples()
    ring = Ring([(None,)])
    times = time_stretch(clock.runner(100 * MS), ring, samples, 3.0, 1.0, 100 * MS, clock, edge)
    told = steps.told(len(times.steps))
    assert told["gpu_clocks_mhz"] == (1000, 1100, 1200)
    assert told["gpu_throttle"] == ()
    assert told["gpu_read_ns"] >= 0
    assert set(samples.since(0)) == {100 * MS}


def test_a_step_that_a_call_outlasted_has_no_reading(clock):
    readings = iter([(1500, ("sw power cap",)), (1400, ("hw thermal slowdown", "sw power cap")), (1300, ())])

    def read():
        mhz, why = next(readings)
        return Conditions(sm_clock_mhz=mhz, throttle=why, foreign=1, power_violation_ns=int(mhz))

    steps = Steps(read, Conditions(power_violation_ns=1000))
    times = time_stretch(
        clock.runner(2500 * MS, 500 * MS), Ring([(None,)]), Samples(), 5.0, 1.0, 1000 * MS, clock, steps.edge
    )
    told = steps.told(len(times.steps))
    assert times.steps == (0, 1, 1, 2)
    assert told["gpu_clocks_mhz"] == (None, 1500, 1400, 1300)
    assert told["gpu_temperatures_c"] == (None,) * 4
    assert told["gpu_throttle"] == ("sw power cap", "hw thermal slowdown")
    assert (told["gpu_throttled_ns"], told["gpu_foreign"]) == (300, 1)
