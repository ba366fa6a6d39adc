"""The command line: what it takes, what it refuses in a sentence, and the code with which it exits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from kdbench import cli, errors, profile, results
from kdbench.cli.types import AccuracyDrop, Duration, Setting, Several, Timeout, together
from kdbench.records import Result, Run, Subject

DOCS = Path(__file__).parents[1] / "docs" / "cli.md"


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command line in an empty folder, with no plugin to look at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDBENCH_PLUGINS", "")
    monkeypatch.setenv("COLUMNS", "80")

    def called(*words: object):
        return CliRunner().invoke(cli.main, [str(word) for word in words])

    return called


@pytest.fixture
def failing(monkeypatch):
    """Add a command that raises what it is given."""

    def added(name: str, fault: BaseException) -> str:
        @click.command()
        def command() -> None:
            raise fault

        monkeypatch.setitem(sys.modules, f"cli_{name}", SimpleNamespace(command=command))
        monkeypatch.setitem(cli.COMMANDS, name, (f"cli_{name}:command", ""))
        return name

    return added


def refused(result, told: str, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    first, *hint = result.stderr.splitlines()
    assert first.startswith("Error: ")
    assert told in first
    assert len(hint) <= 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--profile", "quik"], "no profile named 'quik'"),
        (["--profile", "no/such.toml"], "no profile file 'no/such.toml'"),
        (["--blocks", "4", "--budget", "60s"], "--blocks and --budget exclude each other"),
        (["--blocks", "0"], "'0' is not a whole number from 1 to 1000"),
        (["--blocks", "-3"], "'-3' is not a whole number from 1 to 1000"),
        (["--blocks", "many"], "'many' is not a whole number"),
        (["--budget", "60"], "'60' is no duration such as 30s, 2m or 1h"),
        (["--budget", "0s"], "'0s' is no duration"),
        (["--budget", "99999h"], "'99999h' is no duration"),
        (["--batch", "0"], "'0' is not a whole number from 1 to 65536"),
        (["--batch", "1,1000000000"], "'1000000000' is not a whole number from 1 to 65536"),
        (["--batch", "1,,8"], "'1,,8' has nothing before, after or between commas"),
        (["--batch", ""], "has nothing before"),
        (["--precision", "fp31"], "'fp31' is not fp32, tf32, fp16, bf16 or int8; did you mean fp32?"),
        (["--scenario", "latncy"], "did you mean latency?"),
        (["--threads", "0"], "'0' is not cores, vendor or a whole number from 1 to 4096"),
        (["--threads", "vender"], "did you mean vendor?"),
        (["--max-drop", "0.5"], "'0.5' is no drop in percentage points such as 0.5pp"),
        (["--max-drop", "101pp"], "'101pp' is no drop"),
        (["--timeout", "compil=30s"], "'compil' is no phase; did you mean compile?"),
        (["--timeout", "compile=soon"], "'soon' is no duration"),
        (["-o", "mode=compile"], "'mode=compile' is not BACKEND.KEY=VALUE"),
        (["-o", "torch-cpu.mode"], "'torch-cpu.mode' is not BACKEND.KEY=VALUE"),
        (["-b", ","], "has nothing before"),
        (["--device", "a\x1b[31mb"], "is not plain text"),
        (
            ["--output", "missing/result.json"],
            "missing/result.json cannot be written: No such file or directory",
        ),
        (["--output", "."], ". exists, and no result is overwritten"),
        (["--output", "/proc/result.json"], "/proc/result.json cannot be written"),
        (["--outptu", "x"], "No such option '--outptu'"),
        (["one", "two"], "unexpected extra argument"),
        (["--resume", "x.journal", "--batch", "1"], "so --batch cannot be given with it"),
        (["--resume", "x.journal", "student"], "so STUDENT cannot be given with it"),
        (["--resume", "x.journal", "--with-teacher"], "so --with-teacher cannot be given with it"),
        (["--resume", "x.json.journal"], "no file x.json.journal"),
        (["--weights", "random"], "--weights random goes with a student that is made on first use"),
        (["--weights", "half"], "'half' is not one of 'trained', 'random'"),
        (["--eval", "mine.npz"], "--eval goes with a model file, such as model.onnx"),
        (["no-such-student"], "'no-such-student' is neither an embedded student nor a bundle directory"),
        (["--resume", "/"], "/ is not a file"),
        (["--output", "x" * 300], "cannot be written: File name too long"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(call, words, told):
    refused(call("run", *words), told)
    assert list(Path().iterdir()) == []


def test_a_model_file_that_is_no_onnx_is_told_to_come_as_a_bundle(call):
    Path("model.pt2").write_bytes(b"model")
    result = call("run", "model.pt2")
    refused(result, "'model.pt2' is a file; a student is a bundle")
    assert "`kdbench import` makes a bundle" in result.stderr


def test_a_question_in_an_error_bears_no_full_stop(call):
    assert "did you mean latency?\n" in call("run", "--scenario", "latncy").stderr


def test_a_finished_run_has_nothing_to_resume_and_no_resumption_overwrites(call):
    Path("done.json").write_text("mine")
    refused(call("run", "--resume", "done.json"), "no journal done.json.journal, so nothing is left")
    refused(call("run", "--resume", "done.json.journal"), "no journal done.json.journal, so nothing is left")
    Path("done.json.journal").write_text("unfinished")
    refused(call("run", "--resume", "done.json"), "done.json exists, and no result is overwritten")
    assert (Path("done.json").read_text(), Path("done.json.journal").read_text()) == ("mine", "unfinished")


def test_an_output_that_is_a_link_to_nowhere_is_left_alone(call):
    Path("link.json").symlink_to("nowhere")
    refused(call("run", "--output", "link.json"), "link.json exists")
    assert Path("link.json").is_symlink()


def test_a_backend_that_is_hidden_by_the_environment_is_told_so(call, monkeypatch):
    monkeypatch.setenv("KDBENCH_PLUGINS", "other")
    result = call("run", "-b", "numpy")
    refused(result, "'numpy'", 3)
    assert "KDBENCH_PLUGINS is set, and lets kdbench see only other." in result.stderr


def test_a_profile_with_escape_sequences_in_its_name_is_listed_without(call):
    Path("profiles").mkdir()
    Path("profiles/a\x1b[31m.toml").write_text("schema = 1\n")
    assert call("profiles").exit_code == 0
    assert "\x1b" not in call("profiles", "check", "profiles/a\x1b[31m.toml").stdout


def test_an_existing_output_is_refused_and_left_alone(call):
    Path("kept.json").write_text("mine")
    refused(call("run", "--output", "kept.json"), "kept.json exists, and no result is overwritten")
    assert Path("kept.json").read_text() == "mine"


def test_an_output_with_a_journal_beside_it_says_how_to_finish_that_run(call):
    Path("kept.json.journal").write_text("unfinished")
    result = call("run", "--output", "kept.json")
    refused(result, "kept.json belongs to a run that did not end")
    assert "--resume kept.json.journal" in result.stderr


def test_every_unknown_key_of_a_profile_is_told_at_once(call):
    Path("mine.toml").write_text("schema = 1\n[plan]\nbatchs = [1]\n[latency]\nblock = 3\n")
    result = call("run", "--profile", "mine.toml")
    assert result.exit_code == 2
    assert "mine.toml has 2 problems" in result.stderr
    assert "plan.batchs is not a known key; did you mean plan.batches?" in result.stderr
    assert "latency.block is not a known key; did you mean latency.blocks?" in result.stderr


def test_a_backend_that_nobody_knows_is_refused_and_one_that_is_not_installed_exits_3(call):
    assert call("run", "-b", "no-such-thing").exit_code == 2
    result = call("run", "-b", "tensorrt")
    assert result.exit_code == 3
    assert "tensorrt" in result.stderr
    assert list(Path().iterdir()) == []


def test_units_are_read_and_others_refused():
    assert Duration().convert("1.5m", None, None) == 90
    assert Duration().convert("500ms", None, None) == 0.5
    assert AccuracyDrop().convert("0.5pp", None, None) == 0.5
    assert AccuracyDrop().convert("resolution", None, None) == "resolution"
    assert Timeout().convert("compile=5m", None, None) == {"compile": 300.0}
    assert set(Timeout().convert("30s", None, None).values()) == {30.0}
    assert Setting().convert("torch-cpu.flags=a=b,c", None, None) == ("torch-cpu", "flags", "a=b,c")
    with pytest.raises(click.BadParameter):
        Duration().convert("1d", None, None)


def test_lists_are_put_together_without_repeats():
    @click.command()
    @click.option("-x", type=Several(click.INT), multiple=True, callback=together)
    def command(x):
        click.echo(x)

    assert CliRunner().invoke(command, ["-x", "8, 1", "-x", "1,32"]).output == "(8, 1, 32)\n"


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (
            errors.BackendUnavailable("It is not here.", hint="Install it."),
            3,
            "It is not here.\nInstall it.\n",
        ),
        (errors.PhaseTimeout("Too slow."), 1, "Too slow."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (errors.Interrupted("Stopped."), 130, "Stopped."),
        (
            ZeroDivisionError("by\x1b[2J nothing"),
            1,
            "kdbench has a bug: ZeroDivisionError: by nothing; run again",
        ),
        (PermissionError(13, "Permission denied", "/a/b"), 2, "The system refused: Permission denied: /a/b."),
        (click.UsageError("Not so."), 2, "Not so."),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else "",
)
def test_every_error_becomes_a_sentence_and_its_exit_code(call, failing, fault, code, told):
    result = call(failing(f"fails-{type(fault).__name__}", fault))
    assert result.exit_code == code
    assert f"Error: {told}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [["--debug", "fails-loud"], ["fails-loud", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(call, failing, words):
    failing("fails-loud", errors.UsageError("No."))
    result = call(*words)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "Error: No." in result.stderr


def test_debug_is_taken_after_a_command_below_a_command(call):
    assert call("profiles", "list", "--debug").exit_code == 0


def test_an_unknown_command_offers_the_nearest(call):
    refused(call("rnu"), "There is no command 'rnu'. Did you mean run?")
    refused(call("zzz"), "There are run, compile, show, compare, ab, backends")


def test_no_command_shows_the_help(call):
    assert call().exit_code == 0
    assert call().stdout == call("--help").stdout


def test_the_version_is_that_of_the_distribution(call):
    from importlib.metadata import version

    assert call("--version").stdout == f"kdbench, version {version('kdbench')}\n"


def test_every_command_says_the_same_of_itself_wherever_it_is_listed(call):
    for name, (_, short) in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(short[:40])}", call("--help").stdout, re.MULTILINE)
        assert call(name, "--help").exit_code == 0


def test_profiles_are_listed_shown_and_checked(call):
    assert [line.split()[0] for line in call("profiles").stdout.splitlines()] == list(profile.available())
    Path("copy.toml").write_text(call("profiles", "show", "standard").stdout)
    assert profile.load("copy.toml").latency == profile.load("standard").latency
    assert call("profiles", "check", "copy.toml").exit_code == 0
    Path("copy.toml").write_text("schema = 1\nfoo = 1\n")
    refused(call("profiles", "check", "copy.toml"), "foo is not a known key")
    refused(call("profiles", "show", "quik"), "no profile named 'quik'")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": {"name": "other", "major": 1}}', "\x00" * 9])
def test_what_is_no_result_is_refused_in_one_sentence(call, content):
    Path("bad.json").write_text(content)
    refused(call("show", "bad.json"), "bad.json")


def test_a_result_that_is_not_there_is_refused(call):
    refused(call("show", "nowhere.json"), "no file nowhere.json")


def test_a_picture_never_takes_the_place_of_another_kind_of_file(call):
    subject = Subject(student="any", student_sha256="0" * 64, task="classification", classes=("a", "b"))
    run = Run(id="1", started_utc="2026-01-01T00:00:00Z")
    results.write(Result(run=run, subject=subject, environment={}), Path("result.json"))
    before = Path("result.json").read_bytes()
    refused(call("show", "result.json", "--svg", "result.json"), "result.json does not end in .svg")
    assert Path("result.json").read_bytes() == before
    assert call("show", "result.json", "--svg", "table.svg").exit_code == 0
    assert Path("table.svg").read_text().startswith("<svg")


def test_a_picture_is_written_whole_or_not_at_all(call, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    subject = Subject(student="any", student_sha256="0" * 64, task="classification", classes=("a", "b"))
    run = Run(id="1", started_utc="2026-01-01T00:00:00Z")
    results.write(Result(run=run, subject=subject, environment={}), Path("result.json"))
    monkeypatch.setattr(os, "fsync", full)
    refused(call("show", "result.json", "--svg", "table.svg"), "table.svg cannot be written: No space left")
    assert [path.name for path in Path().iterdir()] == ["result.json"]


def test_a_closed_standard_output_is_no_bug(tmp_path):
    words = f'"{sys.executable}" -m kdbench profiles list >&-'
    done = subprocess.run(["sh", "-c", words], stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "asked", [["profiles", "show", "quick"], ["--help"], ["run", "--help"], ["--version"]]
)
def test_a_reader_that_goes_away_is_no_error(tmp_path, asked):
    words = [sys.executable, "-m", "kdbench", *asked]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(words, stdout=gone, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    assert done.returncode == cli.READER_GONE == 128 + signal.SIGPIPE
    assert done.stderr == b""


def test_the_documented_help_is_the_real_one(call):
    blocks = re.findall(r"```console\n\$ kdbench(.*?) --help\n(.*?)```", DOCS.read_text(), re.DOTALL)
    documented = {words.strip(): text for words, text in blocks}
    for words in ["", *cli.COMMANDS]:
        assert documented.pop(words) == call(*words.split(), "--help").stdout, f"kdbench {words} --help"
    for words, text in documented.items():
        assert text == call(*words.split(), "--help").stdout, f"kdbench {words} --help"


def test_the_documented_exit_codes_are_those_of_the_errors():
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", DOCS.read_text(), re.MULTILINE))
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    assert {str(one.exit_code) for one in kinds} | {"0", "4", "5", str(cli.READER_GONE)} == set(rows)
