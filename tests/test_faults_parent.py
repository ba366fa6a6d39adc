"""The run itself is killed, interrupted or out of disk: what was finished is kept, and nothing lives on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdbench import bench, journal, profile, results
from kdbench.errors import KdbenchError, ResultError
from tests import faulty
from tests.faulty import HEALTHY, ROGUE

PATIENCE_S = 60.0
"""Only a run that is broken makes a test wait for so long."""

HOLD = """
def hold(place):
    if (HERE.parent / "hold").exists() and (HERE.parent / "hold").read_text() == place:
        (HERE.parent / "held.draft").write_text(str(os.getpid()))
        (HERE.parent / "held.draft").rename(HERE.parent / "held")
        while True:
            time.sleep(60)

def blocks():
    return sum(1 for _ in HERE.parent.glob("block-*"))
"""
"""Lets a test stop the plugin at a place: it reports there, and stays until it is killed."""

HELD = (
    faulty.HEAD
    + HOLD
    + f"CHECKED = {faulty.checked()}"
    + """
@hookimpl
def kdbench_probe():
    hold("probe")
    return healthy.kdbench_probe()

@hookimpl
def kdbench_compile(student, target):
    hold("compile")
    return healthy.kdbench_compile(student, target)

@hookimpl
def kdbench_load(artifact):
    (HERE.parent / f"block-{blocks() + 1}").touch()
    return healthy.kdbench_load(artifact)

@hookimpl
def kdbench_run(session, batch_size):
    runner, calls = healthy.kdbench_run(session, batch_size), []
    def call(inputs):
        calls.append(inputs)
        if len(calls) > CHECKED:
            hold(f"block {blocks()}")
        return runner(inputs)
    return call
"""
)
MOMENTS = {"probe": None, "compile": 0, "block 1": 0, "block 2": 1}
"""Where the rogue can be held, and how many blocks are finished then; None before there is a journal."""

CLI = "from kdbench.cli import main; main()"
NAMES = (HEALTHY, f"{ROGUE}held")


@dataclass
class Started:
    """A run as a user starts it, in a folder of its own; `mark` is inherited by all that it starts."""

    folder: Path
    mark: str
    process: subprocess.Popen[str]

    @property
    def output(self) -> Path:
        return self.folder / "result.json"

    @property
    def journal(self) -> Path:
        return journal.journal_path(self.output)

    def held(self) -> int:
        """Wait until the rogue is where it is held, and give the id of its worker."""
        report = self.folder / "plugins" / "held"
        wait_for(lambda: report.exists() or self.process.poll() is not None)
        assert report.exists(), self.process.communicate()
        (self.folder / "plugins" / "hold").unlink()
        return int(report.read_text())

    def end(self) -> tuple[int, str]:
        """Wait for the end; give the exit code and what stood on standard error."""
        _, told = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, told


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finished(result) -> set[int]:
    """Give the blocks of which every planned slice is there, and make sure that there is no other slice."""
    places = [(one.cell, one.block, one.round) for one in result.slices]
    blocks = {block for _, block, _ in places}
    assert sorted(places) == [(c, b, r) for c in range(2) for b in sorted(blocks) for r in range(2)]
    return blocks


@pytest.fixture
def start(tmp_path, kept_artifacts, monkeypatch) -> Iterator[Callable[..., Started]]:
    """Give what starts a run with the rogue held at a place; later runs of the test see the same plugins."""
    started: list[Started] = []
    plugins, plan = tmp_path / "plugins", tmp_path / "tiny.toml"
    faulty.install(plugins, NAMES[1], HELD)
    mark = faulty.environment(monkeypatch, plugins, kept_artifacts)

    def begin(place: str = "", *, wrapper: str = CLI, **settings: float) -> Started:
        (plugins / "hold").write_text(place)
        plan.write_text(profile.to_toml(faulty.tiny(**settings)))
        words = ["run", "--profile", str(plan), "--backend", ",".join(NAMES), "--output", "result.json"]
        process = subprocess.Popen(
            [sys.executable, "-c", wrapper, *words, "--quiet"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Started(tmp_path, mark, process))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize(("place", "blocks"), MOMENTS.items())
def test_a_killed_run_keeps_every_finished_block_and_can_be_finished(start, place, blocks):
    run = start(place)
    run.held()
    run.process.kill()
    assert run.end()[0] == -signal.SIGKILL
    wait_for(lambda: not faulty.living(run.mark))
    assert not run.output.exists()
    if blocks is None:
        assert not run.journal.exists()
        return
    partial = journal.open_result(run.journal)
    assert partial.run.status == "partial"
    assert finished(partial) == set(range(blocks))
    command = [sys.executable, "-m", "kdbench", "run", "--resume", run.journal.name, "--quiet"]
    done = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == run.output.name
    whole = results.read(run.output)
    assert (whole.run.status, whole.run.resumed, finished(whole)) == ("complete", 1, {0, 1})
    assert not run.journal.exists()
    assert faulty.living(run.mark) == ()


def test_tails_and_memory_that_were_measured_are_not_measured_again(start):
    run = start("block 3", tail_s=0.05)
    run.held()
    run.process.kill()
    run.end()
    assert [one.cell for one in journal.open_result(run.journal).stretches] == [0]
    whole = bench.resume(run.journal)
    assert [one.cell for one in whole.stretches] == [0, 1]
    assert [(one.cell, one.kind) for one in whole.samples if one.kind == "tail"] == [(0, "tail"), (1, "tail")]
    assert all(one.memory.peak_bytes for one in whole.cells)


def test_a_killed_worker_is_a_row_and_the_run_goes_on(start):
    run = start("block 1")
    os.kill(run.held(), signal.SIGKILL)
    code, _ = run.end()
    result = results.read(run.output)
    healthy, held = result.cells
    assert code == 1
    assert healthy.status == "measured"
    assert (held.status, held.phase) == ("failed", "run")
    assert "SIGKILL" in held.reason
    assert faulty.living(run.mark) == ()


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 20), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
def test_an_interrupted_run_keeps_what_is_finished_however_impatient_the_user(start, number, times):
    run = start("block 2")
    run.held()
    for _ in range(times):
        run.process.send_signal(number)
    code, told = run.end()
    assert code == 130
    assert f"kdbench run --resume {run.journal.name}" in told
    assert "Traceback" not in told
    assert finished(journal.open_result(run.journal)) == {0}
    assert faulty.living(run.mark) == ()


def test_a_run_interrupted_before_its_plan_leaves_nothing(start):
    run = start("probe")
    run.held()
    run.process.send_signal(signal.SIGINT)
    code, told = run.end()
    assert (code, "Nothing was measured yet." in told) == (130, True)
    assert not run.journal.exists()
    assert faulty.living(run.mark) == ()


def test_a_run_is_not_resumed_under_other_conditions(start):
    run = start("compile")
    run.held()
    run.process.send_signal(signal.SIGTERM)
    run.end()
    lines = run.journal.read_text().splitlines(keepends=True)
    before = run.journal.read_bytes()

    def resumed(alter: Callable[[dict], object]) -> str:
        header = json.loads(lines[0])
        alter(header["result"])
        run.journal.write_text("".join([json.dumps(header) + "\n", *lines[1:]]))
        altered = run.journal.read_bytes()
        with pytest.raises(ResultError) as refused:
            bench.resume(run.journal)
        assert run.journal.read_bytes() == altered
        assert not run.output.exists()
        return refused.value.message

    assert "student" in resumed(lambda result: result["subject"].update(student_sha256="0" * 64))
    assert "another plan" in resumed(lambda result: result["cells"][0]["cell"].update(batch=7))
    assert "cannot go on" in resumed(lambda result: result["environment"]["cpu"].update(model="Another 9000"))
    run.journal.write_bytes(before)
    shutil.rmtree(run.folder / "plugins")
    with pytest.raises(KdbenchError, match=NAMES[1]):
        bench.resume(run.journal)
    assert run.journal.read_bytes() == before


def test_a_full_disk_ends_the_run_in_a_sentence_and_keeps_the_journal(start):
    room = """
import resource, sys
from kdbench import journal
from kdbench.cli import main

create = journal.create

def create_and_fill(path, planned):
    book = create(path, planned)
    size = path.stat().st_size + 1500
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return book

journal.create = create_and_fill
main()
"""
    run = start(wrapper=room)
    code, told = run.end()
    assert code == 2
    assert f"Error: {run.journal.name} cannot be written: File too large." in told
    assert "Make room" in told
    assert f"kdbench run --resume {run.journal.name}" in told
    assert "Traceback" not in told
    assert not run.output.exists()
    assert journal.open_result(run.journal).run.status == "partial"
    assert faulty.living(run.mark) == ()
