"""Measuring again, side by side, what two files tell: only what is here, and nothing a file says to run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from msgspec import structs

from kdbench import bench, remeasure, results, trial
from kdbench.errors import ResultError, UsageError
from kdbench.request import Request
from kdbench.student import open_student
from tests.test_trial import TINY


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Measure NumPy twice, minutes apart as it were; give both paths."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDBENCH_CACHE", str(folder / "cache"))
        paths = []
        for name in ("base", "new"):
            paths.append(folder / f"{name}.json")
            request = Request(
                student=open_student("digits-2x5"), profile=TINY, output=paths[-1], backends=("numpy",)
            )
            bench.run(request)
        yield paths


@pytest.fixture
def both(files):
    return [results.read(path) for path in files]


def test_what_both_files_measured_is_asked_for_again(both, tmp_path):
    request = remeasure.trial_request(both, tmp_path / "again.json")
    assert request.a.student.sha256 == both[0].subject.student_sha256
    assert request.a.backends == request.b.backends == ("numpy",)
    assert request.a.profile.plan.batches == (1,)
    assert request.a.profile.plan.threads == 1
    whole = trial.plan(request)
    remeasure.refuse_other_versions(both, whole)
    assert [job.side for job in whole.jobs] == ["a", "b"]


def test_a_version_that_is_not_here_is_refused_by_name(both, tmp_path):
    whole = trial.plan(remeasure.trial_request(both, tmp_path / "again.json"))
    old = structs.replace(both[0].backends[0], runtime_version="0.1")
    base = structs.replace(both[0], backends=(old,))
    with pytest.raises(ResultError, match=r"The base file was measured with the runtime of numpy 0\.1"):
        remeasure.refuse_other_versions([base, both[1]], whole)


def test_a_student_that_is_not_here_is_told(both, tmp_path):
    other = structs.replace(both[1].subject, student_sha256="0" * 64)
    with pytest.raises(UsageError, match="is not here") as caught:
        remeasure.trial_request([both[0], structs.replace(both[1], subject=other)], tmp_path / "again.json")
    assert "--student" in caught.value.hint


def test_a_student_is_found_in_a_folder_that_is_given(both, tmp_path):
    renamed = [
        structs.replace(one, subject=structs.replace(one.subject, student="elsewhere")) for one in both
    ]
    root = open_student("digits-2x5").root
    request = remeasure.trial_request(renamed, tmp_path / "again.json", students=[root])
    assert request.a.student.name == "digits-2x5"


def test_a_path_in_a_file_is_neither_opened_nor_passed_on(both, tmp_path):
    profile = {**both[0].run.profile, "backends": {"numpy": {"options": {"library": "/tmp/evil.so"}}}}
    base = structs.replace(both[0], run=structs.replace(both[0].run, profile=profile))
    with pytest.raises(ResultError, match="no path from a file is opened"):
        remeasure.trial_request([base, both[1]], tmp_path / "again.json")


def test_numbers_of_a_file_are_checked_as_those_of_a_command_line(both, tmp_path):
    from dataclasses import replace

    cells = tuple(structs.replace(one, cell=replace(one.cell, threads=10**9)) for one in both[0].cells)
    spoilt = [structs.replace(one, cells=cells) for one in both]
    with pytest.raises(Exception, match="threads") as caught:
        remeasure.trial_request(spoilt, tmp_path / "again.json")
    assert caught.value.exit_code == 2


def test_files_without_a_common_cell_are_refused(both, tmp_path):
    with pytest.raises(UsageError, match="no cell in common"):
        remeasure.trial_request([both[0], structs.replace(both[1], cells=())], tmp_path / "again.json")


def test_the_command_measures_again_and_says_the_verdict(files, tmp_path):
    words = ["compare", *map(str, files), "--remeasure", "--budget", "1s", "--json"]
    command = [sys.executable, "-m", "kdbench", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"]
    assert report["comparisons"][0]["base"]["side"] == "a"
    written = list(tmp_path.glob("*remeasure*.json"))
    assert len(written) == 1
    assert results.read(written[0]).trial is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--student", "x"], "is for --remeasure"),
        (["--budget", "3s"], "is for --remeasure"),
        (["--remeasure", "--across", "backend"], "--across"),
    ],
)
def test_what_does_not_go_together_is_refused(files, words, message):
    command = [sys.executable, "-m", "kdbench", "compare", *map(str, files), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
