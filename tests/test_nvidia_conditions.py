"""How a GPU stands, and its facts, from a fake NVML."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kdbench import nvidia
from kdbench.nvidia import inventory
from tests.fake_nvidia import FIRST, GIB, SECOND, SLICE, FakeNvml, Machine, everything, memory, process

HOST = 4026531836


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path).namespace(HOST)


def watch(machine, management, uuid=FIRST):
    return nvidia.Watch(uuid, library=management, root=machine.root)


def running(*processes, uuid=FIRST):
    return FakeNvml(answers={uuid: {**everything(), "nvmlDeviceGetComputeRunningProcesses": list(processes)}})


def test_a_reading_has_every_field_that_the_driver_tells(machine):
    found = watch(machine, running()).read()
    assert found == nvidia.Conditions(
        sm_clock_mhz=1755,
        memory_clock_mhz=2619,
        temperature_c=41,
        power_w=71.5,
        throttle=(),
        power_violation_ns=12_000_000,
        thermal_violation_ns=0,
        foreign=0,
        used_bytes=GIB,
        free_bytes=79 * GIB,
        pcie_generation=5,
        pcie_width=16,
    )


def test_what_a_consumer_card_does_not_tell_is_none(machine):
    found = watch(machine, FakeNvml()).read()
    assert found == nvidia.Conditions(foreign_reason="the driver does not tell who computes on the GPU")
    assert found.untold == ""


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, ()),
        (0x1 | 0x2 | 0x100, ()),
        (0x4, ("sw power cap",)),
        (0x8 | 0x40, ("hw slowdown", "hw thermal slowdown")),
        (0x20 | 0x80 | 0x1, ("sw thermal slowdown", "hw power brake")),
        (1 << 40, ()),
    ],
)
def test_throttling_has_names_and_idling_is_none(machine, bits, names):
    management = FakeNvml(answers={FIRST: {"nvmlDeviceGetCurrentClocksEventReasons": bits}})
    assert watch(machine, management).read().throttle == names


def test_an_older_driver_is_asked_by_the_older_name(machine):
    management = FakeNvml(answers={FIRST: {"nvmlDeviceGetCurrentClocksThrottleReasons": 0x4}})
    assert watch(machine, management).read().throttle == ("sw power cap",)


def test_a_newer_nvml_is_asked_by_the_newer_name(machine):
    management = FakeNvml(answers={FIRST: {"nvmlDeviceGetTemperatureV": 60}})
    assert watch(machine, management).read().temperature_c == 60


def test_foreign_processes_are_those_that_are_not_our_own(machine):
    management = running(process(11), process(12), process(12), process(13))
    assert watch(machine, management).read(own={11}).foreign == 2


def test_in_a_container_others_cannot_be_told_from_our_own(tmp_path):
    inside = Machine(tmp_path).namespace(4026533001)
    found = watch(inside, running(process(11))).read(own={1})
    assert (found.foreign, found.foreign_reason) == (
        None,
        "in a container the driver's process numbers are those of the host",
    )


def test_in_a_container_all_are_others_while_none_is_our_own(tmp_path):
    inside = Machine(tmp_path).namespace(4026533001)
    assert watch(inside, running(process(11), process(12))).read().foreign == 2


def test_wsl_does_not_tell_other_processes(machine):
    machine.write("dev/dxg")
    found = watch(machine, running()).read()
    assert found.foreign is None
    assert "WSL 2" in found.foreign_reason


def test_process_numbers_that_cannot_be_are_not_believed(machine):
    found = watch(machine, running(process(4294967295))).read()
    assert found.foreign is None
    assert "do not fit together" in found.foreign_reason


def test_a_mig_instance_has_its_own_memory_and_processes_and_its_gpu_s_clock(machine):
    part = {
        "nvmlDeviceGetMemoryInfo": memory(5 * GIB, 4 * GIB),
        "nvmlDeviceGetComputeRunningProcesses": [process(11)],
    }
    whole = {**everything(), "nvmlDeviceGetComputeRunningProcesses": [process(11), process(99)]}
    management = FakeNvml(parts={FIRST: [SLICE]}, answers={FIRST: whole, SLICE: part})
    found = watch(machine, management, SLICE).read(own={11})
    assert (found.free_bytes, found.foreign) == (4 * GIB, 0)
    assert (found.sm_clock_mhz, found.temperature_c, found.throttle) == (1755, 41, ())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (12, "there is no libnvidia-ml.so.1"),
        (9, "kernel module is not loaded"),
        (18, "unlike versions"),
        (4, "does not let this user"),
        (999, "NVML does not start"),
    ],
)
def test_without_nvml_a_reading_says_why_and_is_none(machine, code, words):
    found = watch(machine, FakeNvml(start=code)).read()
    assert words in found.untold
    assert found == nvidia.Conditions(untold=found.untold)


def test_a_uuid_that_nvml_does_not_know_is_named(machine):
    management = FakeNvml()
    assert watch(machine, management, SECOND).read().untold == f"NVML does not know {SECOND}"
    assert management.open == 0


def test_a_device_without_a_uuid_is_not_watched(machine):
    assert "has no UUID" in watch(machine, FakeNvml(), "").read().untold


def test_a_gpu_that_is_lost_meanwhile_reads_as_none(machine):
    management = running()
    watching = watch(machine, management)
    assert watching.read().temperature_c == 41
    management.answers.clear()
    assert watching.read().temperature_c is None


def test_a_watch_opens_nvml_once_and_closes_it_once(machine):
    management = running()
    watching = watch(machine, management)
    assert management.open == 0
    watching.read()
    watching.read()
    assert management.open == 1
    watching.close()
    watching.close()
    assert management.open == 0
    assert watching.read().sm_clock_mhz == 1755


def test_facts_tell_all_of_a_gpu_as_plain_json(machine):
    management = running(process(77, 3 * GIB))
    (found,) = inventory.facts(library=management, root=machine.root)
    assert found == {
        "uuid": FIRST,
        "parent": None,
        "name": "NVIDIA H100",
        "driver": "580.65.06",
        "cuda": "13.0",
        "capability": "9.0",
        "memory_bytes": 80 * GIB,
        "free_bytes": 79 * GIB,
        "sm_clock_mhz": 1755,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 2619,
        "memory_clock_max_mhz": 2619,
        "power_w": 71.5,
        "power_limit_w": 650.0,
        "power_limit_default_w": 700.0,
        "temperature_c": 41,
        "throttle": [],
        "ecc": True,
        "ecc_corrected": 3,
        "ecc_uncorrected": 0,
        "mig": False,
        "persistence": True,
        "compute_mode": "default",
        "pcie_generation": 5,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "foreign": 1,
        "foreign_memory_bytes": 3 * GIB,
        "foreign_reason": "",
        "drawing": 0,
    }
    assert json.loads(json.dumps(found)) == found
    assert management.open == 0


def test_facts_that_a_driver_does_not_tell_are_none(machine):
    (found,) = inventory.facts(library=FakeNvml(), root=machine.root)
    told = {name: value for name, value in found.items() if value is not None}
    assert told == {
        "uuid": FIRST,
        "driver": "580.65.06",
        "cuda": "13.0",
        "foreign_reason": "the driver does not tell who computes on the GPU",
    }


def test_memory_of_others_is_not_told_where_one_of_them_is_not(machine):
    (found,) = inventory.facts(library=running(process(1), process(2, None)), root=machine.root)
    assert (found["foreign"], found["foreign_memory_bytes"]) == (2, None)


def test_facts_list_mig_instances_below_their_gpu(machine):
    part = {
        "nvmlDeviceGetName": "NVIDIA A100 MIG 1g.5gb",
        "nvmlDeviceGetMemoryInfo": memory(5 * GIB, 5 * GIB),
    }
    whole = {**everything(), "nvmlDeviceGetMigMode": [1, 1]}
    management = FakeNvml(parts={FIRST: [SLICE]}, answers={FIRST: whole, SLICE: part})
    gpu, instance = inventory.facts(library=management, root=machine.root)
    assert (gpu["uuid"], gpu["parent"], gpu["mig"]) == (FIRST, None, True)
    assert (instance["uuid"], instance["parent"], instance["memory_bytes"]) == (SLICE, FIRST, 5 * GIB)
    assert instance["sm_clock_mhz"] == 1755


def test_without_nvml_there_are_no_facts_and_a_reason_with_its_command(machine):
    missing = FakeNvml(start=12)
    assert inventory.facts(library=missing, root=machine.root) == []
    assert "libnvidia-ml.so.1" in inventory.untold(library=missing).reason
    assert inventory.untold(library=FakeNvml()) is None


def test_without_nvidia_ml_py_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvidia.facts() == []
    assert nvidia.untold().fix == "pip install 'kdbench[nvidia]'"
    assert "nvidia-ml-py is not installed" in nvidia.Watch(FIRST).read().untold


def test_this_machine_s_own_nvml_answers_or_says_why():
    assert isinstance(nvidia.facts({os.getpid()}), list)
    assert bool(nvidia.facts()) == (nvidia.untold() is None)


def test_importing_the_package_loads_no_vendor_library():
    code = (
        "import sys, kdbench.nvidia; print(sorted({'pynvml', 'cuda', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
