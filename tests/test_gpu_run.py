"""A whole run of a backend whose device has a UUID: real workers, and a fake NVML where they import pynvml.

Its device is the CPU, which is called a GPU. Nothing here has run on a GPU.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from msgspec import structs

from kdbench import bench, environment, profile, trial
from kdbench.render import console, report
from kdbench.request import Request
from kdbench.results import read
from kdbench.student import open_student
from kdbench.trial import TrialRequest
from tests.fake_nvidia import FIRST, SECOND
from tests.faulty import STUDENT, tiny

PLUGIN = """
import kdbench_numpy as plain
from dataclasses import replace
from kdbench import *
from kdbench_numpy import kdbench_compile, kdbench_run

@hookimpl
def kdbench_describe():
    return replace(plain.kdbench_describe(), title="Pretended GPU", devices=("cuda",))

@hookimpl
def kdbench_probe():
    return Available("1.0", (Device("cuda:0", "NVIDIA H100", uuid={uuid!r}),))

@hookimpl
def kdbench_load(artifact):
    session = plain.kdbench_load(artifact)
    class Opened:
        placement, runner, close = replace(session.placement, device="cuda:0"), session.runner, session.close
    return Opened()
"""

PYNVML = """
import itertools
from types import SimpleNamespace
from tests.fake_nvidia import FIRST, SECOND, FakeNvml, everything

card = everything() | {{"nvmlDeviceGetEnforcedPowerLimit": 700_000}}
library = FakeNvml(uuids=[FIRST, SECOND], answers={{FIRST: card | {told!r}, SECOND: card}})
clocks = itertools.chain({clocks!r}, itertools.repeat({clocks!r}[-1]))

def nvmlDeviceGetClockInfo(handle, kind):
    return next(clocks) if kind == 1 else 2619

def __getattr__(name):
    return getattr(library, name)
"""
"""NVML of two cards, the first of which tells its SM clocks one after the other, in each process anew."""

QUIET_CLOCKS = (345, 1200, 1755)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Give a folder on the path with a fake pynvml and two pretended GPUs, and what writes these anew."""
    folder = tmp_path_factory.mktemp("gpus")

    def write(clocks=QUIET_CLOCKS, **told) -> None:
        (folder / "pynvml.py").write_text(PYNVML.format(told=told, clocks=clocks))
        sys.modules.pop("pynvml", None)

    for name, uuid in (("pretended", FIRST), ("pretended-b", FIRST), ("another", SECOND)):
        module = f"kdbench_{name.replace('-', '_')}"
        metadata = folder / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (folder / f"{module}.py").write_text(PLUGIN.format(uuid=uuid))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kdbench-{name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[kdbench]\n{name} = {module}\n")
    repository = str(Path(__file__).parent.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "pynvml", raising=False)
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), repository]))
        write()
        yield write
    sys.modules.pop("pynvml", None)


def asked(output: Path, *names: str, tail_s: float = 0.0, scenarios=("latency",), **more) -> Request:
    plan = profile.resolve(tiny(blocks=2, tail_s=tail_s), scenarios=scenarios)
    plan = structs.replace(
        plan,
        accuracy=structs.replace(plan.accuracy, images=8, later_images=8),
        memory=structs.replace(plan.memory, measure=False),
    )
    return Request(student=open_student(STUDENT), profile=plan, output=output, backends=names, **more)


@pytest.fixture(scope="module")
def ran(place, tmp_path_factory, kept_artifacts):
    """Give the result of a run of the CPU and of two GPUs, with all that can be timed, and its file."""
    output = tmp_path_factory.mktemp("run") / "r.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(kept_artifacts))
        request = asked(
            output,
            *("numpy", "pretended", "pretended-b", "another"),
            tail_s=0.05,
            scenarios=("latency", "throughput"),
        )
        return bench.run(request), output


def of(result, parts, name: str) -> list:
    return [one for one in parts if result.cells[one.cell].cell.backend == name]


def test_everything_was_measured(ran):
    result, _ = ran
    assert {(one.status, one.reason) for one in result.cells} == {("measured", "")}
    assert {one.placement.uuid for one in result.cells} == {"", FIRST, SECOND}


def test_each_slice_of_a_gpu_tells_how_it_stood_after_its_clock_had_settled(ran):
    result, _ = ran
    for one in of(result, result.slices, "pretended"):
        assert (one.gpu_clock_mhz, one.gpu_memory_clock_mhz, one.gpu_settled) == (1755, 2619, True)
        assert (one.gpu_temperature_c, one.gpu_power_w) == (41, 71.5)
        assert (one.gpu_throttle, one.gpu_throttled_ns) == ((), 0)
        assert (one.gpu_pcie_generation, one.gpu_pcie_width) == (5, 16)
        assert one.settle_ns >= 60_000_000
        assert one.settle_calls > 10


def test_each_window_of_a_gpu_tells_it_too(ran):
    result, _ = ran
    for one in of(result, result.windows, "another"):
        assert (one.gpu_clock_mhz, one.gpu_settled, one.gpu_throttle) == (1755, True, ())


def test_a_long_stretch_tells_clock_and_heat_step_by_step(ran):
    result, _ = ran
    (one,) = of(result, result.stretches, "pretended")
    assert len(one.gpu_clocks_mhz) == len(one.gpu_temperatures_c) == len(one.medians_ns)
    known = [mhz for mhz in one.gpu_clocks_mhz if mhz is not None]
    assert known[0] >= 345
    assert one.gpu_read_ns > 0


def test_the_file_has_no_word_of_gpus_where_a_cell_ran_on_the_cpu(ran):
    result, output = ran
    plain = json.loads(output.read_text())
    index = next(number for number, one in enumerate(result.cells) if one.cell.backend == "numpy")
    for section in ("slices", "windows", "stretches"):
        own = [one for one in plain[section] if one["cell"] == index or "gpu_clock_mhz" not in one]
        assert not any(
            key.startswith("gpu_") for one in plain[section] if one["cell"] == index for key in one
        )
        assert own
    assert "uuid" not in plain["cells"][index]["placement"]


def test_the_file_is_read_again_as_it_was_written(ran):
    result, output = ran
    assert read(output) == result


def test_cells_took_turns_within_a_device_only(ran):
    result, _ = ran
    met = {}
    for one in result.slices:
        met.setdefault((one.block, one.cohort), set()).add(result.cells[one.cell].cell.backend)
    assert set(map(frozenset, met.values())) == {
        frozenset({"numpy"}),
        frozenset({"pretended", "pretended-b"}),
        frozenset({"another"}),
    }
    assert {block for block, _ in met} == {0, 1}


def test_the_environment_has_the_gpus_that_were_used(ran):
    result, _ = ran
    assert [one["uuid"] for one in result.environment["gpus"]] == [FIRST, SECOND]
    first = result.environment["gpus"][0]
    assert (first["driver"], first["power_limit_w"], first["sm_clock_max_mhz"]) == ("580.65.06", 700.0, 1980)


def test_a_run_on_the_cpu_alone_looks_at_no_gpu(place, tmp_path, kept_artifacts, monkeypatch):
    monkeypatch.setenv("KDBENCH_CACHE", str(kept_artifacts))
    result = bench.run(asked(tmp_path / "r.json", "numpy"))
    text = (tmp_path / "r.json").read_text()
    assert "gpus" not in result.environment
    assert "gpu" not in text.replace("cpu", "").lower()


def test_the_heading_names_the_gpus_with_driver_and_power_limit(ran, capsys):
    result, _ = ran
    report.result(console(stderr=False), result)
    shown = capsys.readouterr().out
    assert shown.count("NVIDIA H100 · driver 580.65.06 · power limit 700 W") == 2
    assert "Cells alternate within one device only" in " ".join(shown.split())


def test_the_checks_of_a_gpu_are_made_and_nothing_is_wrong_with_it(ran):
    result, _ = ran
    for record in result.cells:
        own = {one.id: one.outcome for one in record.checks if one.id.startswith("gpu-")}
        if record.cell.backend == "numpy":
            assert own == {}
        else:
            assert set(own) >= {"gpu-throttled", "gpu-unsettled", "gpu-link", "gpu-throttle"}
            assert set(own.values()) == {"ok"}


def test_a_clock_that_never_settles_and_what_lowers_it_are_told(place, tmp_path, kept_artifacts, monkeypatch):
    monkeypatch.setenv("KDBENCH_CACHE", str(kept_artifacts))
    place(tuple(range(1000, 1900, 90)) * 40, nvmlDeviceGetCurrentClocksEventReasons=0x44)
    try:
        result = bench.run(asked(tmp_path / "r.json", "pretended"))
    finally:
        place()
    assert {one.gpu_throttle for one in result.slices} == {("sw power cap", "hw thermal slowdown")}
    assert {one.gpu_settled for one in result.slices} == {False}
    told = {one.id: one for one in result.cells[0].checks}
    assert (told["gpu-throttled"].outcome, told["gpu-throttled"].value) == ("bad", 1.0)
    assert "sw power cap, hw thermal slowdown" in told["gpu-throttle"].message
    assert told["gpu-unsettled"].outcome == "bad"


def test_a_run_does_not_go_on_with_another_driver_or_power_limit(ran):
    result, _ = ran
    was = result.environment["gpus"][0]
    now = {**was, "driver": "590.1", "power_limit_w": 350.0, "power_w": 9.0, "sm_clock_mhz": 210}
    found = environment.differences({"gpus": [was]}, {"gpus": [now]})
    assert found == (
        "gpus.0.driver was '580.65.06' and is '590.1'",
        "gpus.0.power_limit_w was 700.0 and is 350.0",
    )


def test_a_trial_alternates_a_cpu_with_a_gpu_in_the_same_blocks(place, tmp_path, kept_artifacts, monkeypatch):
    monkeypatch.setenv("KDBENCH_CACHE", str(kept_artifacts))
    output = tmp_path / "ab.json"
    a, b = (asked(output, name) for name in ("numpy", "pretended"))
    result = trial.run(TrialRequest(a=a, b=b, output=output, budget_s=None, blocks=2))
    names = {(one.block, one.cohort, one.round): set() for one in result.slices}
    for one in result.slices:
        names[one.block, one.cohort, one.round].add(result.cells[one.cell].cell.backend)
    assert all(own == {"numpy", "pretended"} for own in names.values())
    settled = {result.cells[one.cell].cell.backend: one.gpu_settled for one in result.slices}
    assert settled == {"numpy": None, "pretended": True}
    assert all(lead.alternated for lead in result.leads)


def test_the_backends_are_listed_with_their_uuids(place, kept_artifacts, monkeypatch, capsys):
    from kdbench.render import backends

    monkeypatch.setenv("KDBENCH_CACHE", str(kept_artifacts))
    records = bench.survey(probe=True, plugins=("another",))
    assert records[0].uuids == {"cuda:0": SECOND}
    backends(console(stderr=False), records[:1])
    shown = capsys.readouterr().out
    assert "cuda:0" in shown
    assert SECOND[:8] in shown
