"""What a result says about its GPU: checks, the doctor's findings, and what differs between two runs."""

from __future__ import annotations

from dataclasses import replace as replaced

import pytest
from msgspec.structs import replace

from kdbench.checks import RULES
from kdbench.compare.conditions import differences
from kdbench.compare.evidence import evidence
from kdbench.doctor import examine
from kdbench.environment import host, must_agree
from kdbench.export.tidy import select
from kdbench.records import PlacementRecord, Stretch
from kdbench.render import verdict
from kdbench.render.hardware import gpus
from kdbench.render.rows import sections
from kdbench.summary import summarise
from tests import synthetic
from tests.fake_nvidia import FIRST
from tests.test_doctor import facts as host_facts

QUIET = {
    "gpu_clock_mhz": 1755.0,
    "gpu_temperature_c": 60.0,
    "gpu_throttle": (),
    "gpu_throttled_ns": 0,
    "gpu_foreign": 0,
    "gpu_pcie_generation": 5,
    "gpu_pcie_width": 16,
    "gpu_settled": True,
}
GPU = {
    "uuid": FIRST,
    "parent": None,
    "name": "NVIDIA H100",
    "driver": "580.65.06",
    "cuda": "13.0",
    "power_limit_w": 700.0,
    "power_limit_default_w": 700.0,
    "throttle": [],
    "ecc": True,
    "ecc_corrected": 0,
    "ecc_uncorrected": 0,
    "mig": False,
    "persistence": True,
    "compute_mode": "default",
    "pcie_generation": 1,
    "pcie_generation_max": 5,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "foreign": 0,
    "foreign_reason": "",
    "drawing": 0,
}
PLACED = PlacementRecord(requested="cuda:0", device="cuda:0", precision="fp32", uuid=FIRST)
ALL = range(1000)


def measured(change=None, *, where=ALL, gpu=GPU, stretches=(), quiet=QUIET):
    """A summarised result of one cell of a GPU whose slices `where` stood otherwise."""
    own = [
        synthetic.a_slice(
            0,
            1e6,
            block=number // 8,
            round=number % 8,
            started_ns=number * 10**8,
            **{**quiet, **((change or {}) if number in where else {})},
        )
        for number in range(24)
    ]
    return summarise(
        synthetic.result(
            [synthetic.record(synthetic.cell("a", device="cuda:0"), placement=PLACED)],
            slices=tuple(own),
            stretches=tuple(stretches),
            environment={**synthetic.ENVIRONMENT, "gpus": [gpu]},
        )
    )


def judged(*args, **facts):
    return {one.id: one for one in measured(*args, **facts).cells[0].checks if one.id.startswith("gpu-")}


def test_a_gpu_that_nothing_disturbs_has_nothing_to_doubt():
    found = judged()
    assert {one.outcome for one in found.values()} == {"ok"}
    assert found.keys() == {
        *("gpu-throttled", "gpu-foreign", "gpu-clock-steady", "gpu-unsettled", "gpu-link", "gpu-throttle")
    }


@pytest.mark.parametrize(
    ("name", "change", "where", "outcome", "told"),
    [
        ("gpu-throttled", {"gpu_throttle": ("sw power cap",)}, range(3), "doubtful", "12 % of visits"),
        ("gpu-throttled", {"gpu_throttle": ("hw thermal slowdown",)}, ALL, "bad", "100 % of visits"),
        ("gpu-throttled", {"gpu_throttled_ns": 5_000_000}, range(3), "doubtful", "12 % of visits"),
        ("gpu-throttled", {"gpu_throttled_ns": 900_000}, ALL, "ok", ""),
        ("gpu-throttle", {"gpu_throttle": ("sw power cap",)}, range(1), "doubtful", "lowered: sw power cap"),
        ("gpu-foreign", {"gpu_foreign": 1}, range(1), "doubtful", "other processes on its GPU: 1"),
        ("gpu-foreign", {"gpu_foreign": 2}, range(1), "bad", "other processes on its GPU: 2"),
        ("gpu-clock-steady", {"gpu_clock_mhz": 1600.0}, range(8), "doubtful", "varied by 10 %"),
        ("gpu-clock-steady", {"gpu_clock_mhz": 1600.0}, range(2), "ok", ""),
        ("gpu-unsettled", {"gpu_settled": False}, range(6), "doubtful", "before 25 % of visits"),
        ("gpu-link", {"gpu_pcie_width": 8}, ALL, "doubtful", "lacks 50 % of its bandwidth"),
        ("gpu-link", {"gpu_pcie_generation": 3}, ALL, "bad", "lacks 75 % of its bandwidth"),
        ("gpu-link", {"gpu_pcie_generation": 1}, range(23), "ok", ""),
    ],
)
def test_what_disturbs_a_gpu_is_told_with_value_and_limit(name, change, where, outcome, told):
    check = judged(change, where=where)[name]
    assert check.outcome == outcome
    assert told in check.message
    if name != "gpu-throttle":
        assert check.value is not None
        assert check.limit == next(rule.doubtful for rule in RULES if rule.id == name)


def test_what_a_driver_does_not_tell_is_no_check():
    assert judged(quiet={}) == {}
    assert "gpu-link" not in judged(gpu={"uuid": FIRST})
    assert "gpu-link" not in judged(gpu={**GPU, "uuid": "GPU-another"})
    assert "gpu-foreign" not in judged({"gpu_foreign": None})


@pytest.mark.parametrize("gpu", ["nonsense", None, {"uuid": FIRST, "pcie_width_max": "x"}, [1]])
def test_facts_that_are_none_are_no_crash(gpu):
    assert "gpu-link" not in judged(gpu=gpu)


def test_windows_are_judged_as_slices_are():
    windows = [
        replace(one, **{**QUIET, "gpu_throttle": ("sw power cap",), "gpu_settled": False})
        for one in synthetic.windows({0: 1000.0}, blocks=4)
    ]
    key = synthetic.cell("a", device="cuda:0", scenario="throughput")
    result = summarise(synthetic.result([synthetic.record(key, placement=PLACED)], windows=windows))
    found = {one.id: one.outcome for one in result.cells[0].checks}
    assert (found["gpu-throttled"], found["gpu-unsettled"]) == ("bad", "bad")


def test_a_long_stretch_shows_throttling():
    hot = Stretch(
        cell=0,
        started_ns=0,
        duration_ns=60 * 10**9,
        calls=100,
        step_s=20.0,
        medians_ns=(1e6, 1.2e6, 1.4e6),
        gpu_clocks_mhz=(1755.0, 1500.0, 1200.0),
        gpu_temperatures_c=(60.0, 80.0, 87.0),
        gpu_throttle=("sw thermal slowdown",),
        gpu_throttled_ns=30 * 10**9,
    )
    found = {one.id: one for one in measured(stretches=[hot]).cells[0].checks}
    assert (found["gpu-held-back"].outcome, found["gpu-held-back"].value) == ("bad", 0.5)
    assert "sw thermal slowdown" in found["gpu-throttle"].message
    assert found["throttling"].outcome == "bad"


def test_names_of_what_lowers_a_clock_are_one_text_in_a_tidy_row():
    result = measured({"gpu_throttle": ("sw power cap", "board limit")}, where=range(1))
    first, second, *_ = select(result, "slices")
    assert (first["gpu_throttle"], second["gpu_throttle"]) == ("sw power cap, board limit", "")
    assert (first["gpu_clock_mhz"], first["gpu_settled"]) == (1755.0, True)


def test_the_table_shows_the_worst_of_a_gpus_doubts():
    told = verdict.doubts(measured({"gpu_throttle": ("sw power cap",)}))
    assert (
        "a fp32, batch 1, latency: power or heat lowered the GPU's clock in 100 % of visits.",
        True,
    ) in told


def test_a_lead_across_devices_is_told_as_not_alternated():
    cells = [
        synthetic.record(synthetic.cell("a")),
        synthetic.record(synthetic.cell("v", device="cuda:0"), placement=PLACED),
    ]
    result = summarise(
        synthetic.result(cells, slices=synthetic.slices({0: 3e6, 1: 1e6}, cohorts=((0,), (1,))))
    )
    ((_, sentence),) = verdict.sentences(sections(result)[0], result)
    assert "not alternated: they run on unlike devices" in sentence


def test_a_gpu_is_a_line_with_its_driver_and_power_limit():
    assert list(gpus([GPU])) == ["NVIDIA H100 · driver 580.65.06 · power limit 700 W"]
    assert list(gpus([{"name": "a\x1b[31m"}, {}, 3])) == ["a", "unknown GPU"]
    assert list(gpus(None)) == list(gpus("x")) == []


@pytest.mark.parametrize("fact", ["name", "uuid", "driver", "power_limit_w", "ecc", "mig"])
def test_a_run_goes_on_only_under_the_facts_of_a_gpu_that_decide(fact):
    assert must_agree(f"gpus.0.{fact}")
    assert must_agree(f"gpus.11.{fact}")


@pytest.mark.parametrize(
    "fact", ["temperature_c", "power_w", "sm_clock_mhz", "free_bytes", "foreign", "throttle"]
)
def test_how_a_gpu_stands_at_the_moment_keeps_no_run_from_going_on(fact):
    assert not must_agree(f"gpus.0.{fact}")


def test_a_host_without_a_gpu_has_no_word_of_one(tmp_path):
    assert "gpus" not in host(root=tmp_path)
    found = host(root=tmp_path, gpus=[{**GPU, "ecc": None}])
    assert found["gpus"][0]["name"] == "NVIDIA H100"
    assert found["unknown"]["gpus.0.ecc"] == "not told by this system"


def told(base, new):
    pair = tuple(zip(evidence(base), evidence(new), strict=True))
    return {one.what: (one.base, one.new) for one in differences(base, new, pair)}


def test_two_runs_on_unlike_gpus_say_so():
    other = {**GPU, "name": "NVIDIA A100", "driver": "550.1", "power_limit_w": 400.0, "temperature_c": 70}
    assert told(measured(), measured(gpu=other)) == {
        "GPU": ("NVIDIA H100", "NVIDIA A100"),
        "driver of the GPU": ("580.65.06", "550.1"),
        "power limit of the GPU in W": ("700.0", "400.0"),
    }


def test_two_runs_at_unlike_clocks_of_one_gpu_say_so():
    slow = measured({"gpu_clock_mhz": 1410.0})
    assert told(measured(), slow) == {
        "SM clock of cuda:0 under a in MHz, batch 1": ("1755", "1410"),
    }
    assert told(measured(), measured({"gpu_clock_mhz": 1700.0})) == {}


def found(change=None, *others):
    environment = {**host_facts().environment, "gpus": [{**GPU, **(change or {})}, *others]}
    seen = examine(replaced(host_facts(), environment=environment))
    return [one for one in seen if one.id.startswith("gpu-")]


def test_a_gpu_that_is_set_up_well_has_nothing_to_mend():
    seen = {one.id: one.outcome for one in found()}
    assert seen.pop("gpu-clocks") == "unknown"
    assert set(seen.values()) == {"ok"}


@pytest.mark.parametrize(
    ("name", "change", "outcome", "what", "fix"),
    [
        (
            "gpu-persistence",
            {"persistence": False},
            "doubtful",
            "persistence",
            f"nvidia-smi -i {FIRST} -pm 1",
        ),
        ("gpu-foreign", {"foreign": 1}, "doubtful", "1 other process may", "--device UUID"),
        ("gpu-foreign", {"foreign": 2}, "doubtful", "2 other processes", "stop them"),
        ("gpu-foreign", {"foreign": None, "foreign_reason": "WSL"}, "unknown", "who else", "WSL"),
        ("gpu-drawing", {"drawing": 3}, "doubtful", "draws a screen", "multi-user"),
        ("gpu-link", {"pcie_width": 8}, "doubtful", "8 of 16 lanes", "slot with 16 lanes"),
        ("gpu-power", {"power_limit_w": 350.0}, "doubtful", "below its default of 700 W", "-pl 700"),
        ("gpu-throttled", {"throttle": ["hw thermal slowdown"]}, "bad", "hw thermal slowdown", "cool down"),
        ("gpu-mode", {"compute_mode": "exclusive process"}, "bad", "exclusive process", "-c DEFAULT"),
        ("gpu-errors", {"ecc_uncorrected": 2}, "bad", "2 errors", "--gpu-reset"),
        ("gpu-errors", {"ecc_corrected": 1}, "doubtful", "1 error, all corrected", "-q -d ECC"),
    ],
)
def test_each_trouble_of_a_gpu_is_told_with_what_mends_it(name, change, outcome, what, fix):
    seen = next(one for one in found(change) if one.id == name)
    assert seen.outcome == outcome
    assert what in seen.what
    assert fix in seen.fix


def test_an_instance_is_mended_at_its_gpu_and_two_gpus_are_told_apart():
    part = {**GPU, "uuid": "MIG-1", "parent": FIRST, "persistence": False}
    seen = [one for one in found({}, part) if one.id == "gpu-persistence"]
    assert [one.outcome for one in seen] == ["doubtful", "ok"]
    assert f"-i {FIRST}" in seen[0].fix
    assert "MIG-1" in seen[0].what


def test_a_driver_that_tells_nothing_is_unknown_and_never_ok():
    nothing = dict.fromkeys(GPU)
    seen = found(nothing)
    assert {one.outcome for one in seen} == {"unknown"}


def test_facts_of_a_gpu_that_are_nonsense_are_no_crash():
    assert found({"foreign": "many", "throttle": 3, "pcie_width": [], "name": "a\x1b[31m"})
