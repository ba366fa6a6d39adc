"""The trace of real cells, and each of its parts by hand-written input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from kdbench_trace import activity, chrome, operators
from kdbench_trace.tracer import PROFILED_CALLS, Sampler

PLAN = """
schema = 1
summary = "One short block."

[plan]
batches = [1]
scenarios = ["latency"]
threads = 1

[latency]
blocks = 1
rounds = 1
slice_s = 0.005
warm_up_s = 0.01
warm_up_max_s = 0.1
"""
CALLS = 100
STAGES = ["import", "load", "first call", "warm-up", "calls", "close"]
KNOWN = {
    "X": {"ts", "dur", "pid", "tid", "name"},
    "C": {"ts", "pid", "name", "args"},
    "M": {"pid", "name", "args"},
}


def backends() -> list[str]:
    return [
        name for name, module in (("numpy", "kdbench_numpy"), ("torch-cpu", "torch")) if find_spec(module)
    ]


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Run as a user does, and give the events of each backend's trace."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "short.toml").write_text(PLAN)
    names = ",".join(backends())
    command = [sys.executable, "-m", "kdbench", "run", "digits-2x5", "-b", names, "--observe", "trace"]
    ended = subprocess.run(
        [*command, "--profile", "short.toml", "--output", "r.json"],
        cwd=folder,
        env={**os.environ, "KDBENCH_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Observed by trace" in ended.stdout
    result = json.loads((folder / "r.json").read_text())
    found = {}
    for cell in result["cells"]:
        (record,) = cell["observed"]
        (file,) = record["files"]
        found[cell["cell"]["backend"]] = json.loads((folder / file["path"]).read_text())
    return found


def slices(trace, name=None):
    return [one for one in trace["traceEvents"] if one["ph"] == "X" and name in (None, one["name"])]


def tracks(trace):
    found = defaultdict(list)
    for one in slices(trace):
        found[one["pid"], one["tid"]].append(one)
    return found


def named(trace, kind):
    return {
        (one["pid"], one["tid"]): one["args"]["name"] for one in trace["traceEvents"] if one["name"] == kind
    }


def end(one):
    return round(one["ts"] + one["dur"], 3)


def inside(inner, outer):
    return outer["ts"] <= inner["ts"] and end(inner) <= end(outer) + 0.001


@pytest.mark.parametrize("backend", backends())
def test_every_event_is_of_the_format_in_its_order(traces, backend):
    trace = traces[backend]
    assert trace["displayTimeUnit"] == "ms"
    for one in trace["traceEvents"]:
        assert KNOWN[one["ph"]] <= one.keys()
        assert isinstance(one["pid"], int)
        assert one.get("ts", 0) >= 0
        assert one.get("dur", 0) >= 0
    times = [one["ts"] for one in trace["traceEvents"] if "ts" in one]
    assert times[0] == 0
    assert times == sorted(times)


@pytest.mark.parametrize("backend", backends())
def test_slices_of_a_track_nest_or_follow_one_another(traces, backend):
    for track in tracks(traces[backend]).values():
        open_ones = []
        for one in track:
            while open_ones and end(open_ones[-1]) <= one["ts"]:
                open_ones.pop()
            assert not open_ones or inside(one, open_ones[-1]), (one, open_ones[-1])
            open_ones.append(one)


@pytest.mark.parametrize("backend", backends())
def test_stages_come_in_their_order_with_hooks_and_calls_inside(traces, backend):
    trace = traces[backend]
    stages = [one for one in slices(trace) if one["name"] in STAGES]
    assert [one["name"] for one in stages] == STAGES
    by_name = {one["name"]: one for one in stages}
    assert inside(*slices(trace, "kdbench_load"), by_name["load"])
    assert inside(*slices(trace, "kdbench_run"), by_name["first call"])
    for call in slices(trace, "call"):
        assert inside(call, by_name[call["args"]["stage"]])


@pytest.mark.parametrize("backend", backends())
def test_all_calls_are_there_and_numbered(traces, backend):
    trace = traces[backend]
    numbers = [one["args"]["number"] for one in slices(trace, "call") if one["args"]["stage"] == "calls"]
    assert numbers == list(range(CALLS))
    assert Counter(one["args"]["stage"] for one in slices(trace, "call"))["first call"] == 1
    assert trace["otherData"]["calls_left_out"] == 0


@pytest.mark.parametrize("backend", backends())
def test_every_track_has_a_name_and_threads_have_their_cpu_time(traces, backend):
    trace = traces[backend]
    assert set(tracks(trace)) <= set(named(trace, "thread_name"))
    groups = {name for _, name in named(trace, "process_name").items()}
    assert groups == {f"{backend} cpu fp32 batch 1 latency", "CPU activity of its threads"}
    activities = [name for (pid, _), name in named(trace, "thread_name").items() if pid == activity.GROUP]
    assert sum("(main)" in name for name in activities) == 1
    assert all(name.endswith(" ms") for name in activities)


@pytest.mark.parametrize("backend", backends())
def test_memory_and_cpu_time_are_counted(traces, backend):
    counters = defaultdict(list)
    for one in traces[backend]["traceEvents"]:
        if one["ph"] == "C":
            counters[one["name"]] += one["args"].values()
    assert set(counters) == {"resident memory", "busy"}
    assert max(counters["resident memory"]) > counters["resident memory"][0] > 0
    assert sum(counters["busy"]) > 0


@pytest.mark.skipif("torch-cpu" not in backends(), reason="PyTorch is not installed")
def test_operators_stand_in_the_calls_that_were_profiled_where_pytorch_is_there(traces):
    trace = traces["torch-cpu"]
    convolutions = slices(trace, "aten::conv2d")
    calls = {one["args"]["number"]: one for one in slices(trace, "call") if one["args"]["stage"] == "calls"}
    counts = Counter(number for number, call in calls.items() for one in convolutions if inside(one, call))
    assert set(counts) == set(range(PROFILED_CALLS))
    assert sum(counts.values()) == len(convolutions)
    assert len(set(counts.values())) == 1
    assert not [one for one in slices(traces["numpy"]) if one["name"].startswith("aten")]
    assert traces["numpy"]["otherData"]["operators"] == "PyTorch is not loaded"


def test_the_sampler_sees_a_thread_that_computes_and_leaves_no_file(tmp_path):
    sampler = Sampler(tmp_path)
    numbers, done = [], threading.Event()

    def compute():
        numbers.append(threading.get_native_id())
        while not done.is_set():
            sum(range(1000))

    worker = threading.Thread(target=compute)
    worker.start()
    threading.Event().wait(0.1)
    done.set()
    worker.join()
    found = activity.read(sampler.stop())
    assert found.threads[numbers[0]].ran_ns > 1_000_000
    assert os.getpid() in found.threads
    assert all(size > 1 << 20 for _, size in found.memory)
    assert not list(tmp_path.iterdir())


SAMPLED = [
    "0 t 7 S 1000000 0 a b\n",
    "0 m 1048576\n",
    "10000000 t 7 R 1000000 0 a b\n",
    "14000000 t 7 R 5000000 0 a b\n",
    "15000000 t 7 S 6000000 100000 a b\n",
    "30000000 t 7 S 6500000 100000 a b\n",
    "31000000 t 8 R 0 0 c\n",
    "33000000 x 8\n",
    "34000000 t 7 R 65",
]


def test_a_thread_is_active_while_it_runs_or_has_run_since_the_last_sample():
    found = activity.read(SAMPLED)
    assert found.memory == [(0, 1 << 20)]
    assert found.threads[7].name == "a b"
    ran = [(one["ts"], one["dur"], one["args"]) for one in activity.running(1, found.threads[7], 40_000_000)]
    assert ran == [
        (10_000_000, 5_000_000, {"cpu_ms": 5.0, "waited_for_cpu_ms": 0.1}),
        (30_000_000, 0, {"cpu_ms": 0.5, "waited_for_cpu_ms": 0.0}),
    ]
    (last,) = activity.running(1, found.threads[8], 40_000_000)
    assert (last["ts"], last["dur"]) == (31_000_000, 2_000_000)


def test_the_busiest_thread_stands_first_and_no_cpu_time_is_lost():
    events = activity.tracks(activity.read(SAMPLED), 40_000_000, main=7)
    names = [one["args"]["name"] for one in events if one["name"] == "thread_name"]
    assert names == ["a b (main), 5.5 ms", "c, 0.0 ms"]
    busy = [one["args"]["CPUs"] for one in events if one["name"] == "busy"]
    assert sum(busy) * activity.BIN_NS == pytest.approx(5.5e6, rel=0.02)


def test_exported_spans_are_put_on_the_clock_of_their_calls():
    def span(name, at_us, kind="cpu_op", tid=5, **more):
        return {"ph": "X", "cat": kind, "name": name, "pid": 5, "tid": tid, "ts": at_us, "dur": 2, **more}

    exported = [
        span("early by a little", 99.9),
        span("between", 105),
        span("with shapes", 101, args={"Input Dims": [[1, 8]]}),
        span("elsewhere", 101, tid=6),
        span("on the GPU", 200, kind="kernel", tid=7),
        {"ph": "M", "name": "process_name", "ts": 0, "pid": 5, "tid": 0},
    ]
    events = operators.placed(exported, base_ns=1_000, pid=5, calls=[(5, 101_000, 104_000)])
    found = {one["name"]: one for one in events if one["ph"] == "X"}
    assert set(found) == {"early by a little", "with shapes", "on the GPU"}
    assert (found["early by a little"]["ts"], found["early by a little"]["dur"]) == (101_000, 1_900)
    assert found["with shapes"]["args"] == {"shapes": "[[1, 8]]"}
    assert found["on the GPU"]["pid"] == operators.GROUP


def test_times_are_written_as_microseconds_from_the_first_event_the_outer_slice_first(tmp_path):
    inner, outer = chrome.complete("in", 1, 1, 5_000, 5_500), chrome.complete("out", 1, 1, 5_000, 9_001)
    chrome.write(tmp_path / "t.json", [inner, outer, *chrome.process(1, "p", 0)], {"cell": "x"})
    written = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [one["ph"] for one in written] == ["M", "M", "X", "X"]
    assert [(one["name"], one["ts"], one["dur"]) for one in written[2:]] == [
        ("out", 0, 4.001),
        ("in", 0, 0.5),
    ]
    assert Path(tmp_path / "t.json").read_text().startswith('{"displayTimeUnit"')
