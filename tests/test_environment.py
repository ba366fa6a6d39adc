"""Facts of the host: on this machine, and on trees of /proc and /sys as other machines have them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kdbench import __version__, environment

Tree = Callable[[Mapping[str, str]], Path]
CPUS = "sys/devices/system/cpu"


@pytest.fixture
def tree(tmp_path) -> Tree:
    def make(files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content + "\n")
        return tmp_path

    return make


def cores(pairs: Mapping[int, str], allowed: str, **files: str) -> dict[str, str]:
    """Describe a machine by each CPU's siblings; `allowed` is the affinity."""
    siblings = {f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": group for cpu, group in pairs.items()}
    status = f"Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\nMems_allowed:\t1"
    return {**siblings, f"{CPUS}/online": f"0-{max(pairs)}", "proc/thread-self/status": status, **files}


SMT8 = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
FLAT8 = {cpu: str(cpu) for cpu in range(8)}


def test_one_cpu_of_each_physical_core_is_used(tree):
    assert environment.usable_cores(tree(cores(SMT8, "0-7"))) == (0, 1, 2, 3)


def test_affinity_limits_the_cores_and_a_lone_sibling_still_counts(tree):
    assert environment.usable_cores(tree(cores(SMT8, "1,4-6"))) == (1, 4, 6)


def test_cpus_that_could_be_plugged_in_but_are_not_are_left_out(tree):
    assert environment.usable_cores(tree(cores({0: "0", 1: "1"}, "0-127"))) == (0, 1)


def test_without_topology_each_cpu_is_a_core(tree):
    root = tree({"proc/thread-self/status": "Cpus_allowed_list:\t0-2"})
    assert environment.usable_cores(root) == (0, 1, 2)


def test_only_declared_performance_cores_of_a_hybrid_processor_are_used(tree):
    hybrid = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4", 5: "5", 6: "6", 7: "7"}
    files = {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7"}
    assert environment.usable_cores(tree(cores(hybrid, "0-7", **files))) == (0, 2)


@pytest.mark.parametrize(
    ("name", "strong", "good", "weak"),
    [("cpu_capacity", "1024", "870", "446"), ("cpufreq/cpuinfo_max_freq", "5100000", "4900000", "3300000")],
)
def test_weaker_cores_are_left_out_and_nearly_equal_ones_kept(tree, name, strong, good, weak):
    strengths = [strong, good, good, good, weak, weak, weak, weak]
    files = {f"{CPUS}/cpu{cpu}/{name}": strength for cpu, strength in enumerate(strengths)}
    assert environment.usable_cores(tree(cores(FLAT8, "0-7", **files))) == (0, 1, 2, 3)


def test_a_process_tied_to_efficiency_cores_uses_them(tree):
    files = {f"{CPUS}/cpu{cpu}/cpu_capacity": "1024" if cpu < 4 else "446" for cpu in range(8)}
    files["sys/devices/cpu_core/cpus"] = "0-3"
    assert environment.usable_cores(tree(cores(FLAT8, "5-6", **files))) == (5, 6)


@pytest.mark.parametrize(
    ("files", "quota", "usable"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None, 8),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5, 1),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
            },
            3.0,
            3,
        ),
        ({"proc/self/cgroup": "0::/../../a", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4.0, 4),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n0::/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1.5,
            1,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/x",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            },
            None,
            8,
        ),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "1 2 3"}, None, 8),
    ],
)
def test_a_quota_at_any_level_of_either_version_caps_the_cores(tree, files, quota, usable):
    root = tree(cores(FLAT8, "0-7", **files))
    assert len(environment.usable_cores(root)) == usable
    assert environment.host(root=root)["cpu"]["quota"] == quota


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (
            {
                "proc/self/cgroup": "0::/a",
                "sys/fs/cgroup/a/memory.max": "1000",
                "sys/fs/cgroup/memory.max": "max",
            },
            1000,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            None,
        ),
    ],
)
def test_the_memory_limit_is_the_tightest_and_the_largest_number_is_none(tree, files, limit):
    assert environment.host(root=tree(files))["memory"]["limit_bytes"] == limit


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.stat": "nr_throttled 2\nthrottled_usec 7"}, 7000),
        ({"proc/self/cgroup": "3:cpu:/", "sys/fs/cgroup/cpu/cpu.stat": "throttled_time 7"}, 7),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.stat": "usage_usec 5"}, None),
        ({}, None),
    ],
)
def test_the_time_throttled_by_a_quota_is_in_nanoseconds(tree, files, expected):
    assert environment.throttled_ns(tree(files)) == expected


def test_stolen_time_is_summed_over_the_cpus_asked_for(tree):
    stat = "cpu  1 0 0 0 0 0 0 30 0 0\ncpu0 1 0 0 0 0 0 0 10 0 0\ncpu1 1 0 0 0 0 0 0 20 0 0\nintr 5"
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    root = tree({"proc/stat": stat})
    assert environment.steal_ns(root=root) == 30 * tick_ns
    assert environment.steal_ns([1], root=root) == 20 * tick_ns
    assert environment.steal_ns([7], root=root) is None


def test_a_system_without_proc_and_sys_is_described_without_a_crash(tmp_path):
    facts = environment.host(root=tmp_path)
    assert facts["cpu"]["usable"]
    assert facts["cpu"]["features"] is None
    assert facts["settings"]["address_randomization"] is None
    assert environment.steal_ns(root=tmp_path) is None


def test_an_arm_processor_has_a_model_and_its_features(tree):
    info = "\n".join(
        [
            "processor\t: 0",
            "Features\t: fp asimd asimddp bf16 i8mm sve",
            "CPU implementer\t: 0x41",
            "CPU variant\t: 0x0",
            "CPU part\t: 0xd4f",
            "CPU revision\t: 1",
        ]
    )
    cpu = environment.host(root=tree({"proc/cpuinfo": info}))["cpu"]
    assert cpu["model"] == "ARM implementer 0x41, part 0xd4f, variant 0x0, revision 1"
    assert cpu["features"] == ["asimd", "asimddp", "bf16", "i8mm", "sve"]
    assert cpu["virtual"] is None


def test_governor_frequency_turbo_and_caches_are_read_where_there_is_a_driver(tree):
    cpu0 = f"{CPUS}/cpu0"
    files = {
        f"{cpu0}/cpufreq/scaling_governor": "powersave",
        f"{cpu0}/cpufreq/scaling_driver": "intel_pstate",
        f"{cpu0}/cpufreq/scaling_max_freq": "3400000",
        f"{CPUS}/intel_pstate/no_turbo": "1",
        f"{CPUS}/smt/active": "1",
        f"{cpu0}/cache/index0/level": "1",
        f"{cpu0}/cache/index0/type": "Data",
        f"{cpu0}/cache/index0/size": "48K",
        f"{cpu0}/cache/index0/shared_cpu_list": "0,4",
    }
    facts = environment.host(root=tree(cores(SMT8, "0-7", **files)))
    cpu = facts["cpu"]
    assert (cpu["governor"], cpu["frequency_driver"], cpu["max_mhz"]) == ("powersave", "intel_pstate", 3400.0)
    assert (cpu["turbo"], cpu["smt"], cpu["logical"], cpu["physical"]) == (False, True, 8, 4)
    assert cpu["caches"] == [{"level": 1, "type": "data", "bytes": 49152, "shared_by": 2}]
    assert "cpu.governor" not in facts["unknown"]


@pytest.mark.parametrize(
    ("files", "on_battery"),
    [
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging", "AC/type": "Mains", "AC/online": "0"}, True),
        ({"BAT0/type": "Battery", "BAT0/status": "Full", "AC/type": "Mains", "AC/online": "1"}, False),
        ({"mouse/type": "Battery", "mouse/scope": "Device", "mouse/status": "Discharging"}, None),
        ({}, None),
    ],
)
def test_running_on_battery_is_told_from_mains_and_from_a_mouse(tree, files, on_battery):
    root = tree({f"sys/class/power_supply/{name}": content for name, content in files.items()})
    assert environment.host(root=root)["power"]["on_battery"] is on_battery


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"run/systemd/container": "systemd-nspawn"}, "systemd-nspawn"),
        ({"proc/1/cgroup": "0::/kubepods/burstable/pod1"}, "kubepods"),
        ({"proc/1/cgroup": "0::/init.scope"}, None),
    ],
)
def test_signs_of_a_container_are_seen(tree, files, container):
    assert environment.host(root=tree(files))["os"]["container"] == container


def test_this_host_is_described_as_plain_json_with_a_reason_for_every_gap():
    facts = environment.host(["pytest", "no-such-distribution"])
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["kdbench"] == __version__
    assert facts["os"]["machine"] == platform.machine()
    assert facts["versions"]["pytest"] == pytest.__version__
    assert "no-such-distribution" not in facts["versions"]
    assert set(facts["cpu"]["usable"]) <= set(facts["cpu"]["affinity"])
    assert facts["clock"]["smallest_step_ns"] > 0
    parts = {part: facts[part] for part in facts if isinstance(facts[part], dict)}
    gaps = {f"{part}.{name}" for part, held in parts.items() for name in held if held[name] is None}
    assert gaps == set(facts["unknown"])
    assert all(facts["unknown"].values())


def test_neither_the_machine_nor_its_user_nor_a_folder_is_named(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "analytical-engine")
    monkeypatch.setenv("USER", "lovelace")
    monkeypatch.setenv("KDBENCH_LABEL", "run of lovelace")
    monkeypatch.setenv("OV_CACHE_DIR", "/home/ada/cache")
    monkeypatch.setenv("ORT_API_TOKEN", "hunter2")
    monkeypatch.setenv("OMP_NUM_THREADS", "3\x1b[31m\x1b]0;title\x07")
    monkeypatch.setenv("LESSOPEN", "unlisted")
    facts = environment.host()
    text = json.dumps(facts)
    for private in ("analytical-engine", "lovelace", "/home", "hunter2", "unlisted"):
        assert private not in text
    assert facts["host_hash"] == hashlib.sha256(b"analytical-engine").hexdigest()[:16]
    assert facts["variables"]["OMP_NUM_THREADS"] == "3"
    assert "withheld" in facts["variables"]["OV_CACHE_DIR"]


def test_one_host_does_not_differ_from_itself_read_again_from_a_file():
    old = json.loads(json.dumps(environment.host(["pytest"])))
    old["load_average"], old["memory"]["available_bytes"], old["clock"]["reading_ns"] = (
        [9.0, 9.0, 9.0],
        1,
        1e9,
    )
    assert environment.differences(old, environment.host(["pytest"])) == ()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("host_hash",), "host_hash was 'other'"),
        (("kdbench",), "kdbench was 'other'"),
        (("python", "version"), "python.version was 'other'"),
        (("versions", "numpy"), "versions.numpy was 'other'"),
        (("versions", "gone"), "versions.gone was 'other' and is absent"),
        (("os", "kernel"), "os.kernel was 'other'"),
        (("cpu", "model"), "cpu.model was 'other'"),
        (("cpu", "usable"), "cpu.usable was 'other'"),
        (("cpu", "quota"), "cpu.quota was 'other'"),
        (("variables", "OMP_PLACES"), "variables.OMP_PLACES was 'other' and is absent"),
    ],
)
def test_a_fact_that_must_agree_is_named_when_it_differs(monkeypatch, path, told):
    monkeypatch.delenv("OMP_PLACES", raising=False)
    now = environment.host()
    old = copy.deepcopy(now)
    part = old
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = "other"
    (clause,) = environment.differences(old, now)
    assert clause.startswith(told)


def test_the_environment_of_a_strange_file_gives_differences_and_no_crash():
    assert environment.differences({"cpu": 7, "versions": ["x"]}, environment.host())
    assert environment.differences({}, {}) == ()


def test_the_load_average_has_three_values_or_is_not_kept():
    load = environment.load_average()
    assert load is None or (len(load) == 3 and min(load) >= 0)


def test_the_environment_is_found_without_numpy():
    program = "import sys; from kdbench import environment; environment.host(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
