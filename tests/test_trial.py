"""Two sides alternated in one go: real workers, real plugins, a second interpreter of its own."""

from __future__ import annotations

import os
import site
import stat
import subprocess
import sys
import venv
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from msgspec import structs

from kdbench import bench, compiling, environment, journal, results, roster, trial
from kdbench.errors import Interrupted, ResultError, UnknownBackend, UsageError
from kdbench.request import Request, asked_before
from kdbench.sections import Latency, Plan, Profile, Throughput
from kdbench.student import open_student
from kdbench.trial import TrialRequest

TINY = Profile(
    schema=1,
    name="tiny",
    plan=Plan(batches=(1,), scenarios=("latency",), threads=1),
    latency=Latency(
        blocks=3,
        rounds=4,
        slice_s=0.004,
        calls_min=3,
        calls_aim=5,
        settle_calls=2,
        settle_s=0.002,
        warm_up_s=0.01,
        warm_up_max_s=0.05,
    ),
    throughput=Throughput(blocks=1, window_s=0.02, latencies=2),
)


@pytest.fixture(scope="module")
def student():
    return open_student("digits-2x5")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def of(student, output: Path, **sides) -> TrialRequest:
    """Ask for NumPy against itself, in three blocks, but for what is said of a side."""
    base = Request(student=student, profile=TINY, output=output, backends=("numpy",))
    asked = {"blocks": 3, "budget_s": None, **sides}
    a, b = asked.pop("a", {}), asked.pop("b", {})
    return TrialRequest(a=replace(base, **a), b=replace(base, **b), output=output, **asked)


@pytest.fixture(scope="module")
def alike(student, tmp_path_factory):
    """Run NumPy against itself; give what was announced and the result."""
    output = tmp_path_factory.mktemp("alike") / "r.json"
    said = []
    return said, trial.run(of(student, output), announce=said.append), output


def test_both_sides_are_in_one_file_and_verified(alike):
    _, result, output = alike
    assert [one.cell.side for one in result.cells] == ["a", "b"]
    assert [one.status for one in result.cells] == ["measured", "measured"]
    assert all(one.accuracy.images == result.subject.images for one in result.cells)
    assert len(result.subject.labels) == result.subject.images
    assert results.read(output) == result


def test_the_sides_take_turns_in_every_block_and_each_begins_equally_often(alike):
    _, result, _ = alike
    for _, own in groupby(result.slices, key=lambda one: (one.block, one.round)):
        assert sorted(one.cell for one in own) == [0, 1]
    firsts = [one.cell for one in result.slices if one.position == 0]
    assert firsts.count(0) == firsts.count(1) == 3 * 4 / 2


def test_the_number_of_blocks_is_told_before_the_first(alike):
    said, result, _ = alike
    assert said == ["A and B are alike. 3 blocks."]
    assert len({one.block for one in result.slices}) == 3
    assert result.trial.budget_s is None
    assert result.trial.block_s is None


def test_the_yardstick_is_timed_before_and_after_each_block(alike):
    _, result, _ = alike
    assert [(one.block, one.after) for one in result.yardsticks] == [
        (block, after) for block in range(3) for after in (False, True)
    ]
    assert all(one.median_ns >= one.p10_ns > 0 for one in result.yardsticks)


def test_a_budget_fixes_the_blocks_from_a_rehearsal(student, tmp_path):
    result = trial.run(of(student, tmp_path / "r.json", blocks=None, budget_s=0.01))
    assert len({one.block for one in result.slices}) == trial.FEWEST
    assert result.trial.budget_s == 0.01


def test_a_budget_for_many_blocks_gives_as_many_as_fit(student, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "_rehearsed", lambda *_: 2.5)
    planned = trial._fixed(
        of(student, tmp_path / "r.json", blocks=None, budget_s=30.0),
        trial.plan(of(student, tmp_path / "r.json")),
        *(None,) * 4,
    )
    assert planned.blocks == 12


def test_two_backends_are_labelled_by_what_tells_them_apart(student, tmp_path):
    asked = of(student, tmp_path / "r.json", b={"backends": ("onnxruntime",)})
    result = trial.run(asked)
    assert [side.label for side in result.trial.sides] == ["numpy", "onnxruntime"]
    assert [one.cell.backend for one in result.cells] == ["numpy", "onnxruntime"]
    assert {one.name for one in result.backends} == {"numpy", "onnxruntime"}


def test_two_option_sets_are_two_variants(student, tmp_path):
    both = {"backends": ("onnxruntime",)}
    info = roster.describe(roster.chosen(roster.names(), ["onnxruntime"]), tmp_path, tmp_path, _limits())
    option = next(one for one in info[0].info.options if one.choices or one.type == "bool")
    other = next(one for one in option.choices or (True, False) if one != option.default)
    asked = of(
        student, tmp_path / "r.json", a=both, b=both | {"options": {"onnxruntime": {option.name: other}}}
    )
    sides = trial.plan(asked).trial.sides
    assert [side.label for side in sides] == ["defaults", f"{option.name}={other}"]
    assert sides[1].options == {"onnxruntime": {option.name: other}}


def _limits():
    from kdbench.sections import Limits

    return Limits()


def test_rebuilding_compiles_for_every_block(student, tmp_path, monkeypatch):
    compiled = []
    original = compiling._compile

    def counted(*arguments):
        compiled.append(arguments[1].side)
        return original(*arguments)

    monkeypatch.setattr(compiling, "_compile", counted)
    result = trial.run(of(student, tmp_path / "r.json", rebuild=True))
    assert result.trial.rebuild
    # A rehearsal and three blocks compile each side; the cache may lack the artifact, too.
    assert compiled.count("b") >= 4
    assert compiled.count("a") >= 4


def test_first_outputs_are_one_cold_and_one_for_each_block(alike):
    _, result, _ = alike
    assert [len(one.first_output.load_ns) for one in result.cells] == [1 + 3, 1 + 3]


def test_pairs_have_numbers_in_the_file(alike):
    _, result, _ = alike
    assert [one.pair for one in result.cells] == [0, 0]


BREAKS = """
def kdbench_run_of(inner):
    def run(session, batch_size):
        runner, calls = inner(session, batch_size), []

        def call(inputs):
            calls.append(1)
            if len(calls) > 3:
                raise RuntimeError("it broke")
            return runner(inputs)

        return call

    return run


import kdbench_numpy
from kdbench import hookimpl
from kdbench_numpy import kdbench_compile, kdbench_describe, kdbench_load, kdbench_probe


@hookimpl
def kdbench_run(session, batch_size):
    return kdbench_run_of(kdbench_numpy.kdbench_run)(session, batch_size)
"""


def test_a_side_that_fails_ends_the_trial_and_the_other_one_is_not_blamed(student, tmp_path, monkeypatch):
    _install(tmp_path / "plugins", "1.0", name="breaks", source=BREAKS)
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugins"), prepend=os.pathsep)
    result = trial.run(of(student, tmp_path / "r.json", b={"backends": ("breaks",)}))
    a, b = result.cells
    assert (b.status, b.phase) == ("failed", "check")
    assert "it broke" in b.reason
    assert (a.status, a.reason) == ("unavailable", "It was not measured, because the other side failed.")
    assert not result.slices


def test_alike_sides_keep_their_queues_equally_deep(student, tmp_path):
    plan = structs.replace(TINY.plan, scenarios=("throughput",), threads=2)
    profile = structs.replace(TINY, plan=plan)
    both = {"backends": ("onnxruntime",), "profile": profile}
    result = trial.run(of(student, tmp_path / "r.json", a=both, b=both))
    assert {one.cell for one in result.windows} == {0, 1}
    assert len({one.depth for one in result.windows}) == 1


def test_a_finished_trial_whose_file_could_not_be_written_is_finished_by_resuming(student, tmp_path):
    output = tmp_path / "r.json"

    def plant(progress):
        if progress.stage == "latency blocks":
            output.write_text("mine")

    with pytest.raises(ResultError, match="appeared while the run went on"):
        trial.run(of(student, output), plant)
    output.unlink()
    result = bench.resume(journal.journal_path(output))
    assert len({one.block for one in result.slices}) == 3
    assert results.read(output) == result


def test_an_interrupted_trial_keeps_its_blocks_and_is_not_resumed(student, tmp_path):
    output = tmp_path / "r.json"

    def stop(progress):
        if progress.stage == "latency blocks" and "block 3" in progress.detail:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        trial.run(of(student, output), stop)
    kept = journal.fold(journal.journal_path(output))
    assert {one.block for one in kept.slices} == {0, 1}
    with pytest.raises(ResultError, match="A trial cannot be taken up again"):
        asked_before(kept, output)


def test_a_side_that_cannot_be_measured_is_refused_with_its_reason(student, tmp_path):
    profile = structs.replace(TINY, plan=structs.replace(TINY.plan, precisions=("bf16",)))
    with pytest.raises(UsageError, match=r"Side B cannot be measured: .* does not offer bf16"):
        trial.plan(of(student, tmp_path / "r.json", b={"profile": profile}))


def test_sides_of_unlike_batch_sizes_are_refused(student, tmp_path):
    profile = structs.replace(TINY, plan=structs.replace(TINY.plan, batches=(2,)))
    with pytest.raises(UsageError, match="must have the same batch sizes"):
        trial.plan(of(student, tmp_path / "r.json", b={"profile": profile}))


TWIN = """
from kdbench_numpy import kdbench_describe, kdbench_probe, kdbench_compile, kdbench_load, kdbench_run
"""


@pytest.fixture(scope="module")
def second_python(tmp_path_factory) -> Path:
    """Give the interpreter of a virtual environment that has all of this one, and a plugin `twin` 2.0."""
    home = tmp_path_factory.mktemp("second")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    packages = next(home.glob("lib/python*/site-packages"))
    paths = [one for one in site.getsitepackages() if Path(one).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    (packages / "all-of-the-first.pth").write_text("\n".join(lines) + "\n")
    _install(packages, "2.0")
    return python


def _install(folder: Path, version: str, *, name: str = "twin", source: str = TWIN) -> None:
    facts = folder / f"kdbench_{name}-{version}.dist-info"
    facts.mkdir(parents=True)
    (folder / f"kdbench_{name}.py").write_text(source)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kdbench-{name}\nVersion: {version}\n")
    (facts / "entry_points.txt").write_text(f"[kdbench]\n{name} = kdbench_{name}\n")


def test_the_same_backend_of_two_environments_is_two_sides(student, tmp_path, second_python, monkeypatch):
    _install(tmp_path / "plugins", "1.0")
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugins"), prepend=os.pathsep)
    both = {"backends": ("twin",)}
    asked = of(student, tmp_path / "r.json", a=both, b=both | {"python": second_python})
    result = trial.run(asked)
    assert [one.status for one in result.cells] == ["measured", "measured"], result.cells
    a, b = result.trial.sides
    assert [side.backends[0].version for side in (a, b)] == ["1.0", "2.0"]
    keys = [one.artifact.key for one in result.cells]
    assert keys[0] != keys[1]


def test_a_python_without_kdbench_is_told(tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    with pytest.raises(UsageError, match="it has no kdbench") as caught:
        roster.foreign_names(tmp_path / "bare" / "bin" / "python")
    assert "Install kdbench" in caught.value.hint


def test_a_python_with_another_kdbench_is_told(tmp_path, second_python):
    packages = next(second_python.parent.parent.glob("lib/python*/site-packages"))
    other = packages / "zz-other.pth"
    other.write_text("import kdbench; kdbench.__version__ = '9.9'\n")
    try:
        with pytest.raises(UsageError, match=r"has kdbench 9\.9"):
            roster.foreign_names(second_python)
    finally:
        other.unlink()


def test_what_is_no_program_is_told(tmp_path):
    text = tmp_path / "python"
    text.write_text("hello")
    text.chmod(text.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(UsageError, match="cannot be started"):
        roster.foreign_names(text)


def test_a_backend_that_the_other_environment_lacks_is_told(student, tmp_path, second_python, monkeypatch):
    _install(tmp_path / "plugins", "1.0")
    with pytest.raises(UnknownBackend, match="numpi") as caught:
        trial.plan(of(student, tmp_path / "r.json", b={"backends": ("numpi",), "python": second_python}))
    assert "twin" in caught.value.hint


def test_the_command_line_says_what_it_will_do_and_what_came_of_it(tmp_path):
    profile = tmp_path / "tiny.toml"
    profile.write_text(
        "schema = 1\n[plan]\nbatches = [1]\nscenarios = ['latency']\n"
        "[latency]\nrounds = 2\nslice_s = 0.004\nwarm_up_s = 0.01\nwarm_up_max_s = 0.05\n"
    )
    words = ["ab", "-b", "numpy", "--threads", "1", "--blocks", "3", "--profile", str(profile)]
    command = [sys.executable, "-m", "kdbench", *words, "--output", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert "A and B are alike. 3 blocks" in done.stderr
    assert "r.json" in done.stdout
    assert environment.host()["host_hash"] == results.read(tmp_path / "r.json").environment["host_hash"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "A trial needs a backend"),
        (["-b", "a,b,c"], "-b is given 3 times, and a trial has two sides"),
        (["-b", "numpy", "--blocks", "3", "--budget", "3s"], "exclude each other"),
        (["-b", "numpy", "--python", "nowhere/python"], "is no program that can be run"),
        (["-b", "numpy", "--a", "streams"], "is not KEY=VALUE"),
        (["-b", "numpy", "--margin", "3"], "is no margin such as 3%"),
        (["-b", "numpy", "--a", "nothing=1"], "has no option 'nothing'"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_2(words, message, tmp_path):
    command = [sys.executable, "-m", "kdbench", "ab", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.json*"))
