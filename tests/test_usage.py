"""Counters of this process and machine: what grows, what is not told, and what belongs to others."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest

from kdbench import sensors, ticks
from kdbench.usage import Usage, conditions, usage

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
CPUS = "sys/devices/system/cpu"


@pytest.fixture
def tree(tmp_path):
    def make(files: Mapping[str, str]):
        for name, content in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content + "\n")
        return tmp_path

    return make


def a_usage(**changes) -> Usage:
    return replace(Usage(100, 10, 1, 20, 50, 5, frozenset({0, 1})), **changes)


def test_the_difference_of_two_readings_is_what_was_used_between_them():
    later = a_usage(cpu_ns=160, run_delay_ns=11, switches=3, steal_ns=20, other_ns=80, throttled_ns=9)
    spent = later.since(a_usage())
    assert (spent.cpu_ns, spent.run_delay_ns, spent.switches, spent.steal_ns) == (60, 1, 2, 0)
    assert (spent.other_ns, spent.throttled_ns) == (30, 4)


def test_a_counter_that_went_backwards_counts_as_zero():
    spent = a_usage(other_ns=40, run_delay_ns=0).since(a_usage())
    assert (spent.other_ns, spent.run_delay_ns) == (0, 0)


@pytest.mark.parametrize("unknown", [{"other_ns": None}, {"cpus": frozenset({1})}])
def test_what_others_used_is_unknown_where_it_is_not_counted_or_the_process_was_bound_anew(unknown):
    assert a_usage(**unknown).since(a_usage()).other_ns is None
    assert a_usage().since(a_usage(**unknown)).other_ns is None
    assert a_usage(throttled_ns=None).since(a_usage()).throttled_ns is None


@pytest.mark.skipif(sys.platform != "linux", reason="the counters are those of Linux")
def test_this_process_is_not_among_the_others():
    before = usage()
    while usage().since(before).cpu_ns < 30_000_000:
        pass
    spent = usage().since(before)
    assert spent.cpus == frozenset(os.sched_getaffinity(0))
    assert spent.other_ns is not None
    assert spent.other_ns >= 0


def test_the_conditions_are_numbers_or_unknown():
    for value in conditions():
        assert value is None or value > 0


def test_unused_time_is_idle_waiting_and_stolen_time_of_the_cpus_asked_for(tree):
    stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 1 0 0 10 1 0 0 2 0 0\nintr 5\ncpu7 x"
    times = ticks.read(tree({"proc/stat": stat}))
    assert ticks.unused_ns(times, [0]) == 53 * TICK_NS
    assert ticks.unused_ns(times, [0, 1]) == 66 * TICK_NS
    assert ticks.unused_ns(times, [0, 2]) is None
    assert ticks.unused_ns(times, []) is None


@pytest.mark.parametrize("stat", ["", "nonsense", "cpu  1 2", "cpu0 a b c d e f g h", "\0\0"])
def test_a_stat_that_cannot_be_read_tells_nothing(tree, stat):
    times = ticks.read(tree({"proc/stat": stat}))
    assert ticks.stolen_ns(times) is None
    assert ticks.unused_ns(times, [0]) is None


def test_clock_and_temperature_are_read_from_the_processors_own_sensors(tree):
    root = tree(
        {
            f"{CPUS}/cpu0/cpufreq/scaling_cur_freq": "3000000",
            f"{CPUS}/cpu1/cpufreq/scaling_cur_freq": "2000000",
            f"{CPUS}/cpu2/cpufreq/scaling_cur_freq": "9000000",
            "sys/class/hwmon/hwmon0/name": "nvme",
            "sys/class/hwmon/hwmon0/temp1_input": "91000",
            "sys/class/hwmon/hwmon1/name": "k10temp",
            "sys/class/hwmon/hwmon1/temp1_input": "61500",
            "sys/class/hwmon/hwmon1/temp2_input": "-128000",
        }
    )
    assert sensors.read(sensors.find([0, 1], root)) == (2500.0, 61.5)


def test_a_thermal_zone_is_taken_where_there_is_no_chip_and_a_sensor_may_vanish(tree):
    zone = "sys/class/thermal/thermal_zone0"
    root = tree({f"{zone}/type": "x86_pkg_temp", f"{zone}/temp": "47000"})
    found = sensors.find([0], root)
    assert sensors.read(found) == (None, 47.0)
    (root / zone / "temp").unlink()
    assert sensors.read(found) == (None, None)


def test_heat_is_counted_over_all_cpus_or_not_at_all(tree):
    name = "thermal_throttle/core_throttle_count"
    assert sensors.throttle_count(tree({})) is None
    assert sensors.throttle_count(tree({f"{CPUS}/cpu0/{name}": "2", f"{CPUS}/cpu1/{name}": "3"})) == 5
