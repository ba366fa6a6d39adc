"""The doctor: what it makes of facts, of machines that tell nothing, and what it shows."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from kdbench import activity, cli, environment, floors, surroundings
from kdbench.activity import Activity, Sample
from kdbench.cli import doctor as cli_doctor
from kdbench.doctor import Facts, Finding, examine
from kdbench.errors import Interrupted
from kdbench.records import BackendRecord, Floor
from kdbench.render import doctor as render
from kdbench.surroundings import Place

GIB = 2**30

HOST = {
    "kdbench": "0.1.0",
    "python": {"version": "3.11.7"},
    "os": {"system": "Linux", "distribution": "Debian 12", "kernel": "6.1", "container": None},
    "cpu": {
        "model": "AMD EPYC 9R14",
        "logical": 8,
        "physical": 8,
        "usable": [0, 1, 2, 3],
        "virtual": False,
        "smt": False,
        "governor": "performance",
        "frequency_driver": "acpi-cpufreq",
        "turbo": False,
        "quota": None,
        "max_mhz": 3700.0,
        "caches": [{"level": 1, "type": "data", "bytes": 32768, "shared_by": 1}],
    },
    "memory": {
        "total_bytes": 32 * GIB,
        "available_bytes": 24 * GIB,
        "limit_bytes": None,
        "swap_used_bytes": 0,
    },
    "load_average": [0.3, 0.2, 0.1],
    "clock": {"source": "tsc", "reading_ns": 40.0},
    "power": {"on_battery": False},
    "settings": {"address_randomization": 2, "transparent_huge_pages": "madvise"},
    "variables": {"KDBENCH_PLUGINS": "numpy"},
    "unknown": {},
}
QUIET = Activity(
    seconds=1.0,
    cpus=8,
    other=0.05,
    steal=0.0,
    throttled=0.0,
    throttled_before_s=0.0,
    throttles=0,
    throttles_before=0,
    clock_mhz=3700.0,
    temperature_c=45.0,
)
WORKS = BackendRecord(name="numpy", status="available", distribution="kdbench-numpy", title="NumPy")
ROOM = Place("results", free_bytes=50 * GIB, used_bytes=0)


def facts(path: str = "", value: object = None, *, now: Mapping[str, object] | None = None, **more) -> Facts:
    """Give the facts of a machine on which nothing disturbs, one of them changed."""
    host = copy.deepcopy(HOST)
    if path:
        *parts, last = path.split(".")
        place = host
        for part in parts:
            place = place[part]
        place[last] = value
    plain = {"backends": (WORKS,), "results": ROOM, "cache": ROOM}
    return Facts(environment=host, activity=replace(QUIET, **(now or {})), **{**plain, **more})


def found(told: Facts, name: str) -> Finding:
    return next(one for one in examine(told) if one.id == name)


def test_a_quiet_machine_has_nothing_to_mend():
    seen = examine(facts())
    assert {one.outcome for one in seen} == {"ok"}
    assert not any(one.fix for one in seen)


@pytest.mark.parametrize(
    ("name", "path", "value", "outcome", "fix"),
    [
        ("governor", "cpu.governor", "powersave", "doubtful", "cpupower frequency-set -g performance"),
        ("turbo", "cpu.turbo", True, "doubtful", "cpufreq/boost"),
        ("smt", "cpu.smt", True, "doubtful", "smt/control"),
        ("virtual", "cpu.virtual", True, "doubtful", "kdbench ab"),
        ("cores", "cpu.usable", [3], "doubtful", "more CPUs"),
        ("cores", "cpu.usable", list(range(8)), "doubtful", "--threads 7"),
        ("quota", "cpu.quota", 1.5, "doubtful", "--cpus"),
        ("load", "load_average", [6.0, 1.0, 1.0], "doubtful", "top"),
        ("load", "load_average", [16.0, 1.0, 1.0], "bad", "top"),
        ("clock-source", "clock.source", "hpet", "doubtful", "current_clocksource"),
        ("timer", "clock.reading_ns", 700.0, "doubtful", "faster clock source"),
        ("timer", "clock.reading_ns", 2000.0, "bad", "faster clock source"),
        ("battery", "power.on_battery", True, "doubtful", "plug it in"),
        ("memory", "memory.available_bytes", 1 * GIB, "doubtful", "-b"),
        ("memory", "memory.limit_bytes", GIB // 4, "bad", "-b"),
        ("swap", "memory.swap_used_bytes", 4 * GIB, "doubtful", "swapoff"),
        ("variables", "variables", {"OMP_NUM_THREADS": "3"}, "doubtful", "unset OMP_NUM_THREADS"),
    ],
)
def test_each_disturbance_of_the_host_is_told_with_what_mends_it(name, path, value, outcome, fix):
    seen = found(facts(path, value), name)
    assert seen.outcome == outcome
    assert fix in seen.fix


@pytest.mark.parametrize(
    ("name", "now", "outcome", "told"),
    [
        ("other", {"other": 1.0, "processes": (("rsync", 0.9),)}, "doubtful", "rsync 90 %"),
        ("other", {"other": 4.0, "processes": (("make", 0.1),)}, "bad", "what cannot be seen"),
        ("steal", {"steal": 0.4}, "doubtful", "5.0 %"),
        ("throttled", {"throttled": 0.02}, "doubtful", "2 %"),
        ("throttled", {"throttled": 0.4}, "bad", "40 %"),
        ("throttled", {"throttled_before_s": 90.0}, "doubtful", "90 s before"),
        ("temperature", {"temperature_c": 95.0}, "doubtful", "95 degrees"),
        ("heat", {"throttles": 3}, "bad", "3 times while it was looked at"),
        ("heat", {"throttles_before": 1}, "doubtful", "1 time since"),
    ],
)
def test_what_goes_on_now_is_told(name, now, outcome, told):
    seen = found(facts(now=now), name)
    assert seen.outcome == outcome
    assert told in seen.what
    assert seen.fix


def test_turbo_is_mended_where_its_driver_has_the_switch():
    told = facts("cpu.turbo", True)
    told.environment["cpu"]["frequency_driver"] = "intel_pstate"
    assert "intel_pstate/no_turbo" in found(told, "turbo").fix


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("backends", {"backends": ()}, "no backend works here"),
        (
            "broken",
            {
                "backends": (
                    WORKS,
                    BackendRecord(name="x", status="failed", reason="It crashed.", log="x.log"),
                )
            },
            "x is broken: It crashed.",
        ),
        (
            "rivals",
            {"rivals": (("onnxruntime", ("onnxruntime", "onnxruntime-gpu")),)},
            "onnxruntime and onnxruntime-gpu",
        ),
        (
            "results",
            {"results": Place("out", "Permission denied")},
            "(out) cannot be written: Permission denied",
        ),
        ("cache", {"cache": Place("", "It belongs to another user.")}, "It belongs to another user."),
        ("results", {"results": Place("out", free_bytes=1000)}, "0.0 GiB of room"),
    ],
)
def test_what_keeps_kdbench_from_working_is_bad(name, more, told):
    seen = found(facts(**more), name)
    assert seen.outcome == "bad"
    assert told in seen.what
    assert seen.fix


def test_a_large_cache_and_damaged_self_tests_are_doubtful():
    told = facts(cache=replace(ROOM, used_bytes=20 * GIB), floors_fault="They cannot be read.")
    assert found(told, "cache-size").what == "the cache holds 20.0 GiB"
    assert found(told, "selftests").outcome == "doubtful"


def test_what_is_not_known_is_unknown_with_a_reason_and_never_ok():
    blank = Activity(seconds=1.0, cpus=1)
    told = Facts(environment={}, activity=blank, backends=(WORKS,), results=Place("r"), cache=Place("c"))
    seen = examine(told)
    assert {one.outcome for one in seen} == {"unknown"}
    assert all(one.fix for one in seen)
    names = {"governor", "turbo", "smt", "virtual", "battery", "temperature", "steal", "other", "quota"}
    assert names <= {one.id for one in seen}


@pytest.mark.parametrize("nonsense", [None, 7, "x", [], ["x"], {}, {"governor": 7, "usable": 3}, True])
def test_a_host_described_by_nonsense_is_looked_at_without_a_crash(nonsense):
    host = dict.fromkeys(HOST, nonsense)
    told = Facts(environment=host, activity=QUIET, results=ROOM, cache=ROOM)
    assert examine(told)
    shown(lambda console: render.machine(console, told))


def test_the_host_of_a_system_without_proc_and_sys_can_be_judged(tmp_path):
    now = activity.between(activity.sample(tmp_path), activity.sample(tmp_path), tmp_path)
    told = Facts(
        environment=environment.host(root=tmp_path), activity=now, backends=(WORKS,), results=ROOM, cache=ROOM
    )
    outcomes = {one.id: one.outcome for one in examine(told)}
    assert outcomes["steal"] == outcomes["other"] == outcomes["governor"] == "unknown"


def test_the_worst_comes_first():
    seen = examine(facts("cpu.turbo", True, backends=(), now={"temperature_c": None}))
    assert [one.outcome for one in seen][:4] == ["bad", "doubtful", "unknown", "ok"]


def a_sample(at_s: float, *, idle: int, own_s: float = 0.0, steal: int = 0, used: Mapping[str, float] = {}):
    tick = 10**9
    states = ("user", "nice", "system", "iowait", "irq", "softirq")
    one = {**dict.fromkeys(states, 0), "idle": idle * tick // 100, "steal": steal * tick // 100}
    processes = {(number, 0.0): (seconds, name) for number, (name, seconds) in enumerate(used.items())}
    return Sample(at_s, {"cpu": one, "cpu0": one}, int(own_s * 1e9), processes, 0, None)


def test_two_samples_tell_who_computed_meanwhile():
    first = a_sample(0.0, idle=0, used={"rsync": 5.0, "idle": 1.0})
    second = a_sample(2.0, idle=100, own_s=0.2, steal=20, used={"rsync": 5.5, "idle": 1.0, "new": 0.1})
    now = activity.between(first, second)
    assert now.steal == pytest.approx(0.1)
    assert now.other == pytest.approx(0.3)
    assert now.processes == (("rsync", pytest.approx(0.25)), ("new", pytest.approx(0.05)))
    assert now.throttled == 0.0
    assert now.throttles is None


def test_this_process_is_not_among_those_that_disturb():
    assert os.getpid() not in {pid for pid, _ in activity.sample().processes}


def test_the_cache_and_the_results_folder_are_looked_at_without_leaving_anything(
    tmp_path, monkeypatch, cache_folder
):
    monkeypatch.chdir(tmp_path)
    (cache_folder / "artifacts").mkdir()
    (cache_folder / "artifacts" / "x").write_bytes(b"x" * 1000)
    assert surroundings.cache_place().used_bytes == 1000
    assert surroundings.results_place().fault == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_told_of(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert "cannot be used" in surroundings.cache_place().fault


def test_distributions_that_installed_one_package_over_each_other_are_found(tmp_path, monkeypatch):
    for name, package in (
        ("vendor", "engine"),
        ("vendor-gpu", "engine"),
        ("tool", "tool"),
        ("else", "other"),
    ):
        home = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        home.mkdir()
        (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (home / "RECORD").write_text(f"{package}/__init__.py,,\n{package}/deep/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert surroundings.rivals({"vendor", "tool"}) == (("engine", ("vendor", "vendor-gpu")),)
    assert surroundings.rivals({"tool"}) == ()


def shown(draw, width: int = 80) -> str:
    stream = StringIO()
    draw(Console(file=stream, width=width, markup=False, emoji=False, highlight=False))
    return stream.getvalue()


def a_floor(**changes) -> Floor:
    key = {"backend": "onnxruntime", "device": "cpu", "scenario": "latency", "batch": 1, "threads": 1}
    return Floor(
        **{**key, "block_sd": 0.006, "blocks": 9, "block_s": 2.5, "runs": 3, "run_sd": 0.05, **changes}
    )


def test_the_machine_and_the_findings_fit_eighty_columns_and_say_what_mends():
    told = facts("cpu.governor", "power\x1b[31msave", now={"temperature_c": None})
    text = shown(lambda console: (render.machine(console, told), render.findings(console, examine(told))))
    assert max(map(len, text.splitlines())) <= 80
    assert "AMD EPYC 9R14" in text
    assert "fix: sudo cpupower frequency-set -g performance" in text
    assert "unknown" in text
    assert "\x1b[31m" not in text


def test_a_machine_on_which_nothing_is_wrong_is_called_so():
    assert "Nothing is seen that disturbs" in shown(
        lambda console: render.findings(console, examine(facts()))
    )


def test_without_a_self_test_the_table_says_how_to_make_one():
    assert "kdbench doctor --selftest" in shown(lambda console: render.detectable(console, ()))


def test_what_can_be_told_apart_is_a_row_a_backend_and_thread_count():
    known = [
        a_floor(),
        a_floor(threads=2, block_sd=0.05, run_sd=None, runs=1),
        a_floor(block_sd=5.0, threads=3),
    ]
    text = shown(lambda console: render.detectable(console, known, [(1, 12), (0, 12)]))
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines() if line.strip().startswith("onnxruntime")]
    assert rows[0][1:8] == ["1", "1.0", "%", "0.4", "%", "36", "%"]
    assert "unknown" in rows[1]
    assert "1000" in rows[2]
    assert "1 of 12 sittings saw a difference all the same" in " ".join(text.split())
    assert "Slower drift is not seen" in " ".join(text.split())


def test_floors_with_times_that_are_none_and_several_versions_are_shown():
    known = [a_floor(since_utc="x", until_utc="y"), a_floor(runtime_version="2.0", batch=8, device="gpu.0")]
    text = shown(lambda console: render.detectable(console, known), width=100)
    assert "onnxruntime gpu.0 2.0" in text
    assert "batch" in text


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command line in an empty folder with no plugin, and without waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDBENCH_PLUGINS", "")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(cli_doctor, "LOOK_S", 0.0)
    return lambda *words: CliRunner().invoke(cli.main, ["doctor", *words])


def test_the_command_shows_everything_and_exits_with_zero_whatever_it_finds(call):
    done = call()
    assert done.exit_code == 0, done.output
    for told in ("This machine", "Backends", "no backend works here", "The smallest change"):
        assert told in done.stdout


def test_a_strict_doctor_exits_with_one_where_something_is_bad(call):
    assert call("--strict").exit_code == 1


def test_the_command_gives_json_and_nothing_else(call):
    floors.add(
        [
            floors.Sitting(
                utc="2026-03-02T10:00:00Z",
                backend="a",
                device="cpu",
                scenario="latency",
                batch=1,
                threads=1,
                ratios=(0.01, 0.02),
                block_s=1.0,
                levels=(13.0, 13.0),
            )
        ]
    )
    told = json.loads(call("--json").stdout)
    assert {"machine", "activity", "backends", "findings", "floors", "selftest"} == told.keys()
    assert told["floors"][0]["blocks"] == 2
    assert {"id", "outcome", "what", "fix"} == told["findings"][0].keys()


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["--budget", "1m", "--threads", "1"], "Only a self-test takes --budget, --threads", 2),
        (["--selftest", "--threads", "vendor"], "must know its number of threads", 2),
        (["--selftest", "--threads", "0"], "'0' is not", 2),
        (["--selftest", "--batch", "0"], "'0' is not a whole number", 2),
        (["--selftest", "-b", "nonesuch"], "nonesuch", 2),
        (["--selftest", "-b", "openvino"], "openvino", 3),
        (["--selftest", "no-such-student"], "nothing to test", 3),
        (["--selftest"], "nothing to test", 3),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(call, words, told, code):
    done = call(*words)
    assert done.exit_code == code, done.output
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_a_cache_folder_that_cannot_be_had_is_a_finding_and_no_crash(call, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDBENCH_CACHE", str(tmp_path / "file" / "below"))
    done = call()
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "cannot be used" in told
    assert "which backends work" in told
    assert "no backend works here" not in told


def test_an_interrupted_self_test_says_that_what_was_finished_is_kept(call, monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted("Interrupted.", hint="Go on with a file that is gone.")

    monkeypatch.setattr(cli_doctor, "_tested", interrupted)
    done = call("--selftest")
    assert done.exit_code == 130
    assert "The sittings that were finished are kept." in done.stderr
    assert "gone" not in done.stderr
