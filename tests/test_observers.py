"""Observers: found by name, in a pass of their own, and never taken for the backend that they watch."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from kdbench import bench, cli, hookimpl, journal, observed, observers, profile, render, results, watched
from kdbench.backends import connect
from kdbench.errors import BackendError, Interrupted, ObserverError, ProfileError, UsageError
from kdbench.observing import Watch, make
from kdbench.records import ObservedRecord, Result
from kdbench.request import Request
from kdbench.spec import Pipelined
from kdbench.student import open_student
from tests import faulty

HEAD = """
import json, os, sys
from kdbench import hookimpl, watched

class Observer:
    def __init__(self, observation):
        self.observation, self.seen = observation, []
    def begin(self, stage): self.seen.append(f"begin {stage}")
    def end(self, stage): self.seen.append(f"end {stage}")
"""
DIARY = """
    @hookimpl(wrapper=True)
    def kdbench_load(self, artifact, target):
        assert "numpy" in sys.modules
        session = yield
        self.seen.append(f"load {target.precision} {len(artifact.files)}")
        return session
    @hookimpl(wrapper=True)
    def kdbench_run(self, batch_size):
        runner = yield
        self.seen.append(f"run {batch_size}")
        def around(name, method, *arguments):
            self.seen.append(name)
            return method(*arguments)
        return watched(runner, around)
    def close(self):
        folder = self.observation.folder
        (folder / "parts").mkdir()
        (folder / "parts" / "cell.txt").write_text(str(self.observation.cell))
        (folder / "diary.json").write_text(json.dumps(self.seen))
        (folder / "link.txt").symlink_to("diary.json")
def observe(observation):
    return Observer(observation)
"""
LOAD = "    @hookimpl(wrapper=True)\n    def kdbench_load(self):\n        session = yield\n        "
RUN = "    @hookimpl(wrapper=True)\n    def kdbench_run(self):\n        runner = yield\n        "
FOOT = "\ndef observe(observation):\n    return Observer(observation)\n"
BAD = {
    "exits": "raise SystemExit(3)",
    "loud": HEAD + LOAD + "raise ValueError('boom')" + FOOT,
    "deep": HEAD + RUN + "return watched(runner, lambda *rest: 1 / 0)" + FOOT,
    "forgets": HEAD + RUN + "pass" + FOOT,
    "swaps": HEAD + LOAD + "return object()" + FOOT,
    "kills": HEAD
    + "    def begin(self, stage):\n        stage == 'calls' and os.kill(os.getpid(), 9)"
    + FOOT,
    "late": HEAD + "    def close(self):\n        raise OSError('the disk is full')" + FOOT,
    "misspelt": HEAD + LOAD.replace("kdbench_load", "kdbench_laod") + "return session" + FOOT,
    "useless": "import json",
}
WATCHED_FAILS = "if 'observer_diary' in sys.modules and len(calls) > 20: raise ValueError('shy')"


def install(folder: Path, name: str, source: str, *, distribution: str = "") -> None:
    module = f"observer_{name}"
    metadata = folder / f"{distribution or module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution or module}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(f"[kdbench.observers]\n{name} = {module}\n")


def on_the_page() -> str:
    """The observer that docs/hooks.md shows."""
    page = (Path(__file__).parent.parent / "docs" / "hooks.md").read_text()
    return next(
        text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "def observe" in text
    )


@dataclass(frozen=True)
class Ran:
    result: Result
    output: Path

    def of(self, observer: str, backend: str = "numpy") -> ObservedRecord:
        cell = next(one for one in self.result.cells if one.cell.backend == backend)
        return next(one for one in cell.observed if one.observer == observer)

    def read(self, record: ObservedRecord, name: str) -> str:
        path = next(one.path for one in record.files if one.path.endswith(name))
        return (self.output.parent / path).read_text()


@pytest.fixture(scope="module")
def ran(tmp_path_factory, kept_artifacts):
    """Run two backends with all observers of this file, the sound ones and the broken ones."""
    folder = tmp_path_factory.mktemp("observed")
    sources = {"page": on_the_page(), "diary": HEAD + DIARY, "silent": HEAD + FOOT, **BAD}
    for name, source in sources.items():
        install(folder / "plugins", name, source)
    faulty.install(folder / "plugins", "rogue-shy", faulty.rogue("run", WATCHED_FAILS))
    plan = faulty.tiny(blocks=1)
    plan = structs.replace(plan, observe=structs.replace(plan.observe, observers=tuple(sources), calls=7))
    with pytest.MonkeyPatch.context() as patch:
        faulty.environment(patch, folder / "plugins", kept_artifacts)
        request = Request(
            student=open_student(faulty.STUDENT),
            profile=plan,
            output=folder / "r.json",
            plugins=("numpy", "rogue-shy"),
        )
        return Ran(bench.run(request), request.output)


def test_an_observer_is_told_of_every_stage_and_sees_hooks_and_calls_in_their_order(ran):
    record = ran.of("diary")
    seen = json.loads(ran.read(record, "diary.json"))
    assert record.reason == ""
    assert [one for one in seen if one.startswith(("begin", "end", "load", "run"))] == [
        "begin import",
        "end import",
        "begin load",
        "load fp32 1",
        "end load",
        "begin first call",
        "run 1",
        "end first call",
        "begin warm-up",
        "end warm-up",
        "begin calls",
        "end calls",
        "begin close",
        "end close",
    ]
    assert seen[seen.index("run 1") + 1] == "call"
    assert seen[seen.index("begin calls") + 1 : seen.index("end calls")] == ["call"] * 7


def test_the_result_tells_what_was_written_and_by_whom(ran):
    record = ran.of("diary")
    assert (record.distribution, record.version) == ("observer_diary", "1.0")
    home = "r.observed/diary/00-numpy-cpu-fp32-batch1-latency"
    assert [one.path for one in record.files] == [f"{home}/diary.json", f"{home}/parts/cell.txt"]
    for one in record.files:
        data = (ran.output.parent / one.path).read_bytes()
        assert (one.bytes, one.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert ran.read(record, "cell.txt") == "numpy cpu fp32 batch 1 latency"
    assert results.read(ran.output).cells[0].observed == ran.result.cells[0].observed


def test_the_observer_on_the_page_does_what_the_page_says(ran):
    lines = ran.read(ran.of("page"), "diary.txt").splitlines()
    assert lines[:4] == [
        "numpy cpu fp32 batch 1 latency",
        "import begins",
        "load begins",
        "loaded ['student.safetensors'] on cpu",
    ]
    assert lines[-8:] == ["call"] * 7 + ["close begins"]


def test_one_that_writes_nothing_leaves_no_folder(ran):
    assert (ran.of("silent").files, ran.of("silent").reason) == ((), "")
    assert {path.name for path in observed.folder_of(ran.output).iterdir()} == {"page", "diary"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("exits", "The observer exits failed in import: SystemExit: 3"),
        ("loud", "The observer loud failed in kdbench_load: ValueError: boom"),
        ("deep", "The observer deep failed in its runner's call: ZeroDivisionError"),
        ("forgets", "The observer forgets breaks its contract: its kdbench_run gives nothing back"),
        ("swaps", "The observer swaps breaks its contract: its kdbench_load gives another answer back"),
        ("kills", "While kills observed it, it failed in run: The process was killed by SIGKILL"),
        ("late", "The observer late failed in close: OSError: the disk is full"),
        ("misspelt", "The observer misspelt has a hook 'kdbench_laod', which does not exist."),
        ("useless", "The observer useless breaks its contract: observer_useless has no function observe"),
    ],
)
def test_a_broken_observer_is_told_by_its_name_and_takes_nothing_from_the_cell(ran, name, told):
    record = ran.of(name)
    assert record.reason.startswith(told)
    assert record.log
    cell = ran.result.cells[0]
    assert (cell.status, cell.reason, bool(cell.summary)) == ("measured", "", True)


def test_what_a_backend_does_wrong_under_observation_is_its_own_fault_and_costs_no_figure(ran):
    record = ran.of("diary", "rogue-shy")
    assert record.reason == "While diary observed it, it failed in run: ValueError: shy"
    assert json.loads(ran.read(record, "diary.json"))[-1] == "end close"
    shy = next(one for one in ran.result.cells if one.cell.backend == "rogue-shy")
    assert (shy.status, bool(shy.summary)) == ("measured", True)


def test_a_resumed_run_observes_what_was_not_observed_yet(tmp_path, kept_artifacts, monkeypatch):
    install(tmp_path / "plugins", "diary", HEAD + DIARY)
    faulty.environment(monkeypatch, tmp_path / "plugins", kept_artifacts)
    plan = profile.resolve(faulty.tiny(blocks=1), observers=("diary",), batches=(1, 2))
    request = Request(
        student=open_student(faulty.STUDENT), profile=plan, output=tmp_path / "r.json", backends=("numpy",)
    )
    with monkeypatch.context() as patch:
        patch.setattr(bench, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(Interrupted):
            bench.run(request)
    kept = journal.journal_path(request.output)
    lines = kept.read_bytes().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if b'"observed":[' in line)
    kept.write_bytes(b"".join(lines[: first + 1]))
    done, _ = sorted((tmp_path / "r.observed" / "diary").iterdir())
    (done / "diary.json").write_text("as it was")
    result = bench.resume(kept)
    assert [len(one.observed[0].files) for one in result.cells] == [2, 2]
    assert (done / "diary.json").read_text() == "as it was"
    assert [one.status for one in result.cells] == ["measured", "measured"]


def test_the_exit_code_tells_of_an_observer_that_failed(ran):
    assert bench.exit_code(ran.result) == 1
    sound = [structs.replace(one, observed=()) for one in ran.result.cells]
    assert bench.exit_code(structs.replace(ran.result, cells=tuple(sound))) == 0


def test_the_report_says_where_the_files_are_and_what_failed(ran, capsys):
    render.result(render.console(stderr=False), ran.result, ran.output)
    text = " ".join(capsys.readouterr().out.split())
    assert "Observed by diary: 4 files in" in text
    assert "not observed by loud" in text
    assert "boom" in text


def test_a_folder_of_an_earlier_run_is_not_written_to(tmp_path):
    observed.refuse_kept(tmp_path / "r.json")
    (tmp_path / "r.observed" / "trace").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"r\.observed exists, and what was observed before"):
        observed.refuse_kept(tmp_path / "r.json")


def test_an_unknown_observer_is_refused_with_the_nearest_name(tmp_path, monkeypatch):
    install(tmp_path, "energy", "")
    monkeypatch.syspath_prepend(tmp_path)
    answer = CliRunner().invoke(cli.main, ["run", "digits-2x5", "--observe", "enregy"])
    told = " ".join(answer.stderr.split())
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "There is no observer 'enregy'. Did you mean 'energy'? Installed: energy" in told


def test_a_name_that_two_distributions_claim_is_nobodys(tmp_path, monkeypatch):
    install(tmp_path, "energy", "")
    install(tmp_path, "energy", "", distribution="other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="both claim the name 'energy'"):
        observers.chosen(["energy"])
    assert "energy" not in {one.name for one in observers.here()}


def test_a_search_for_crossovers_is_not_observed():
    with pytest.raises(ProfileError, match="observers must be empty"):
        profile.resolve(profile.load("crossover"), observers=("trace",))


def test_a_plan_tells_how_long_observing_takes(tmp_path):
    plan = profile.resolve(profile.load("ci"), observers=("trace",))
    assert profile.load("ci").observe.observers == ()
    assert 'observers = ["trace"]' in profile.to_toml(plan)


def test_a_wrapped_runner_can_do_what_the_backends_can():
    class Both:
        def __call__(self, inputs):
            return inputs

        def submit(self, inputs, tag):
            pass

        def wait(self):
            return [(1, ())]

    seen = []

    def around(name, method, *arguments):
        seen.append(name)
        return method(*arguments)

    runner = watched(Both(), around)
    assert isinstance(runner, Pipelined)
    assert not hasattr(runner, "upload")
    assert (runner((3,)), runner.submit((), 1), runner.wait()) == ((3,), None, [(1, ())])
    assert seen == ["call", "submit", "wait"]
    assert not isinstance(watched(lambda inputs: inputs, around), Pipelined)


class Narrow:
    """Puts something around a runner that has less than the backend's."""

    @hookimpl(wrapper=True)
    def kdbench_run(self):
        runner = yield
        return lambda inputs: runner(inputs)


def backend_of(plugin_source, runner, observer):
    names = {}
    exec(plugin_source(kdbench_run=f"@hookimpl\ndef kdbench_run():\n    {runner}"), names)
    plugin = type("Plugin", (), {key: staticmethod(one) for key, one in names.items() if callable(one)})
    return connect("thing", plugin, {"narrow": observer})


def test_a_runner_that_an_observer_made_poorer_is_the_observers_fault(plugin_source):
    rich = "import types\n    return type('Rich', (), {'__call__': len, 'submit': len, 'wait': len})()"
    with pytest.raises(ObserverError, match=r"its runner lacks submit, wait, which the backend's has"):
        backend_of(plugin_source, rich, Narrow()).run(None, 1)


def test_a_backends_own_error_passes_through_an_observers_runner_unchanged(plugin_source):
    runner = backend_of(plugin_source, "return lambda inputs: inputs.missing", Narrow()).run(None, 1)
    with pytest.raises(AttributeError, match="missing"):
        runner(())


def test_an_observer_cannot_swallow_what_the_backend_raises(plugin_source):
    class Swallows:
        @hookimpl(wrapper=True)
        def kdbench_run(self):
            try:
                return (yield)
            except ValueError:
                return len

    with pytest.raises(BackendError, match="thing failed in run: ValueError: no") as told:
        backend_of(plugin_source, "raise ValueError('no')", Swallows()).run(None, 1)
    assert not isinstance(told.value, ObserverError)


def test_an_observer_that_watches_no_hook_is_one_too(plugin_source):
    assert backend_of(plugin_source, "return len", object()).run(None, 1) is len


def test_what_goes_wrong_in_a_stage_is_not_hidden_by_what_goes_wrong_in_its_end():
    class Ends:
        def end(self, stage):
            raise OSError(stage)

    with pytest.raises(ValueError, match="first"), Watch("ends", Ends()).stage("load"):
        raise ValueError("first")
    told = "The observer ends failed in end: OSError: load"
    with pytest.raises(ObserverError, match=told), Watch("ends", Ends()).stage("load"):
        pass


def test_an_observer_that_answers_nothing_is_told(tmp_path, monkeypatch):
    install(tmp_path, "none", "def observe(observation): pass")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ObserverError, match=r"its observe\(\) answered nothing"):
        make("none", "observer_none", None)
