"""`kdbench compare` as a user and a CI script meet it: exit codes, formats, files, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from msgspec.structs import replace

from kdbench import results
from kdbench.cli import main
from kdbench.cli.compare import ACROSS
from kdbench.compare import KEYS
from kdbench.records import ArtifactRecord
from tests import synthetic
from tests.test_startup import VENDORS, imported


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder with a base, a run with a larger artifact, and a trial of something slower."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDBENCH_CACHE", str(tmp_path / "cache"))
    for day, (name, size) in enumerate((("base", 100_000), ("same", 100_000), ("bigger", 150_000)), start=2):
        artifact = ArtifactRecord(key="k", bytes=size, compile_s=1.0, cached=True)
        run = synthetic.run_of(synthetic.trial(blocks=4), name, day, trial=None)
        cells = tuple(replace(one, artifact=artifact) for one in run.cells)
        results.write(replace(run, cells=cells), tmp_path / f"{name}.json")
    results.write(synthetic.run_of(synthetic.trial(b_ns=1.2e5), "trial"), tmp_path / "trial.json")
    return tmp_path


def code(*words: str) -> int:
    """Give the exit code of `kdbench compare`."""
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("base.json same.json", 0),
        ("base.json same.json --strict", 5),
        ("base.json bigger.json", 1),
        ("base.json bigger.json --fail-on latency.p50:5%", 0),
        ("base.json bigger.json --fail-on artifact.bytes:10%", 1),
        ("base.json bigger.json --fail-on artifact.bytes:60%", 0),
        ("base.json bigger.json --fail-on latency.p99:5%", 4),
        ("base.json bigger.json --metric latency.p50", 0),
        ("base.json same.json bigger.json", 1),
        ("trial.json", 1),
        ("trial.json --margin 30%", 0),
        ("trial.json --across backend", 4),
        ("base.json --across backend --fail-on latency.p50:5%", 2),
        ("base.json --across backend --metric memory.peak", 2),
        ("base.json same.json --remeasure --across backend", 2),
        ("base.json same.json --remeasure --format bmf", 2),
        ("base.json", 2),
        ("base.json base.json", 2),
        ("base.json none.json", 2),
        ("base.json same.json --fail-on latency.p50:5", 2),
        ("base.json same.json --metric latency", 2),
        ("base.json same.json --across backend", 2),
        ("base.json same.json --margin 3", 2),
    ],
)
def test_the_exit_code_is_what_a_script_can_rely_on(folder, words, expected):
    assert code(*words.split()) == expected


def test_json_holds_the_whole_report(folder, capsys):
    assert code("base.json", "bigger.json", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["schema"]["name"] == "kdbench.comparison"
    assert told["exit_code"] == 1
    assert told["comparisons"][0]["new"]["file"] == "bigger.json"


@pytest.mark.parametrize(
    "form",
    ["table", "markdown", "json", "csv", "bmf", "github-action-benchmark", "github-action-benchmark-bigger"],
)
def test_every_format_prints_something(folder, capsys, form):
    assert code("base.json", "bigger.json", "--format", form) == 1
    assert capsys.readouterr().out.strip()


def test_output_is_written_whole_and_never_over_another_file(folder, capsys):
    assert code("base.json", "same.json", "--format", "markdown", "--output", "told.md") == 0
    written = (folder / "told.md").read_text()
    assert written.endswith("\n")
    assert not capsys.readouterr().out
    assert code("base.json", "bigger.json", "--format", "markdown", "--output", "told.md") == 2
    assert (folder / "told.md").read_text() == written
    assert code("base.json", "bigger.json", "--output", "table.txt") == 2
    assert code("base.json", "same.json", "--json", "--output", "nowhere/told.json") == 2


def test_nothing_that_is_wrong_shows_a_traceback(folder, capsys):
    (folder / "torn.json").write_bytes((folder / "same.json").read_bytes()[:1000])
    assert code("base.json", "torn.json") == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: torn.json cannot be read")
    assert "Traceback" not in told


def test_no_vendor_is_imported_and_what_can_be_compared_across_is_known(folder):
    assert not imported("compare", "base.json", "same.json") & (VENDORS | {"pluggy"})
    assert ACROSS == KEYS


def test_help_needs_nothing_but_click():
    modules = imported("compare", "--help")
    assert not modules & (VENDORS | {"numpy", "scipy", "rich", "pluggy"})


def test_a_script_can_pipe_it(folder):
    command = [sys.executable, "-m", "kdbench", "compare", "base.json", "same.json", "--format", "csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "latency.p50" in done.stdout
    assert not done.stderr
