"""`kdbench plugin check`: the contract from the command line, of plugins installed and not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdbench import cli
from kdbench.certificate import Certificate
from kdbench.discovery import Source
from kdbench.testing import CHECKS, Finding

HEALTHY = """
from kdbench import *
from kdbench_numpy import kdbench_compile, kdbench_describe, kdbench_load, kdbench_probe, kdbench_run
"""
LACKING = """
@hookimpl
def kdbench_probe():
    return Unavailable("The mine is closed.", "Open it.")
"""
FEW = "connects,opens,close-twice"


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Call `kdbench plugin check` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def called(*words: object):
        return CliRunner().invoke(cli.main, ["plugin", "check", *map(str, words)])

    return called


@pytest.fixture
def module(tmp_path):
    """Write a module and give its path."""

    def written(text: str, name: str = "mine") -> Path:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return tmp_path / f"{name}.py"

    return written


def test_an_installed_plugin_keeps_its_contract(check):
    done = check("numpy")
    assert done.exit_code == 0, done.output
    kept, skipped = (f"{done.stdout.count(f'  {word} ')}" for word in ("kept", "skipped"))
    assert f"{len(CHECKS)} checks in " in done.stdout
    assert f": {kept} kept, 0 broken, " in done.stdout
    assert int(skipped) > 0
    for one in CHECKS:
        assert one.id in done.stdout
    assert "kdbench contract: " in done.stdout
    assert "**kdbench contract**: " in done.stdout
    assert "· `numpy` " in done.stdout


def test_a_module_is_checked_without_being_installed_or_changed(check, module, tmp_path):
    done = check(module(HEALTHY), "--only", FEW)
    assert done.exit_code == 0, done.output
    assert f"(3 of {len(CHECKS)} checks)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    assert "mine" not in sys.modules


def test_a_path_comes_before_what_is_installed_under_the_same_name(check, tmp_path):
    entry = '[project]\nname = "x"\n[project.entry-points.kdbench]\nnumpy = "kdbench_numpy"\n'
    (tmp_path / "pyproject.toml").write_text(entry)
    (tmp_path / "kdbench_numpy.py").write_text("raise ValueError('this one')")
    done = check(".", "--only", "connects")
    assert done.exit_code == 1
    assert "ValueError: this one" in done.stdout
    assert f"{tmp_path}/kdbench_numpy.py:1" in done.stdout.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("def (", "SyntaxError: invalid syntax"),
        ("import os; os._exit(7)", "It ended its process with the code 7."),
        ("import os; os.kill(os.getpid(), 11)", "Its process died of SIGSEGV."),
        ("import time; time.sleep(600)", "It was not done after 1 s."),
        ("import os, time; os.closerange(3, 64); time.sleep(600)", "It closed what the findings"),
        ("import os, sys; os.write(int(sys.argv[1]), b'{}' * 9)", "It wrote into what the findings"),
        ("import os\nwhile True: os.write(1, bytes(1 << 20))", "It printed more than 64 MiB."),
        (HEALTHY.replace("kdbench_probe, ", ""), "lacks the hooks kdbench_probe"),
        ("import no_such_library", "No module named 'no_such_library'"),
    ],
)
def test_a_plugin_that_does_not_import_breaks_one_promise_and_harms_nobody(check, module, text, seen):
    limit = ("--timeout", "1s") if "600" in text else ()
    done = check(module(text), *limit)
    assert done.exit_code == 1, done.output
    assert seen in done.stdout
    assert f": 0 kept, 1 broken, {len(CHECKS) - 1} skipped." in done.stdout
    assert "docs/hooks.md#errors" in done.stdout
    assert "Traceback" not in done.output
    assert done.stderr == ""


def test_the_traceback_is_shown_where_it_is_asked_for(check, module):
    path = module("def fail():\n    raise ValueError('deep')\n\nfail()")
    assert "in fail" not in check(path, "--only", "connects").stdout
    done = check(path, "--only", "connects", "--debug")
    assert "in fail" in done.stdout
    assert f"look at  {path}:2" in done.stdout


def test_a_backend_that_cannot_run_here_exits_with_3_and_the_rest_is_checked(check, module):
    done = check(module(HEALTHY + LACKING))
    assert done.exit_code == 3, done.output
    assert done.stdout.count("The mine is closed. Open it.") == 1
    assert ": 4 kept, 0 broken, " in done.stdout
    assert "could not run there" in done.stdout


def test_a_broken_promise_weighs_more_than_a_lacking_device(check, tmp_path, module):
    entries = 'mine = "mine"\nyours = "yours"\n'
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname="x"\n[project.entry-points.kdbench]\n{entries}'
    )
    module(HEALTHY + LACKING)
    module("raise ValueError", "yours")
    assert check(".", "--only", FEW).exit_code == 1
    assert check(".", "--only", FEW, "--backend", "mine").exit_code == 3
    done = check(".", "--backend", "ours")
    assert done.exit_code == 2
    assert "It has mine, yours." in done.stderr


def test_json_has_every_finding_and_nothing_else_is_printed(check, module):
    done = check(module("raise ValueError('\\x1b[31mred')"), "--json")
    assert done.exit_code == 1
    [told] = json.loads(done.stdout)
    assert [one["check"] for one in told["findings"]] == [one.id for one in CHECKS]
    assert (told["backend"], told["exit_code"], told["broken"]) == ("mine", 1, 1)
    assert "\x1b" not in told["findings"][0]["seen"]
    assert told["text"].startswith("kdbench contract: 0 kept, 1 broken")


def test_the_list_has_every_check(check):
    listed = check("--list").stdout
    assert [line.split()[0] for line in listed.splitlines() if not line.startswith(" ")] == [
        one.id for one in CHECKS
    ]
    assert [one["id"] for one in json.loads(check("--list", "--json").stdout)] == [one.id for one in CHECKS]


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        ([], "Which plugin", 2),
        (["nmpy"], "There is no backend 'nmpy'", 2),
        (["./nothing"], "There is no nothing", 2),
        (["nothing.py"], "There is no nothing.py", 2),
        (["numpy", "--only", "conects"], "There is no check 'conects'", 2),
        (["numpy", "--backend", "numpy"], "is one backend", 2),
        (["numpy", "--timeout", "5"], "is no duration", 2),
        (["."], "has no pyproject.toml", 2),
    ],
)
def test_bad_input_is_refused_in_a_sentence(check, words, told, code):
    done = check(*words)
    assert done.exit_code == code, done.output
    first, *hint = done.stderr.splitlines()
    assert first.startswith("Error: ")
    assert told in first
    assert len(hint) <= 1
    assert done.stdout == ""


def test_a_backend_that_kdbench_knows_and_that_is_not_installed_is_not_available(check, monkeypatch):
    monkeypatch.setenv("KDBENCH_PLUGINS", "")
    done = check("numpy")
    assert done.exit_code == 3
    assert "KDBENCH_PLUGINS is set" in done.stderr


def test_choices_that_are_left_out_stand_in_the_summary():
    source = Source("mine", "mine", "kdbench-mine", "1.0", "")
    finding = Finding(check="opens", promised="", verdict="kept")
    told = Certificate(source, [finding], 1, ["mode=slow"]).text
    assert told.startswith("kdbench contract: 1 kept, 0 broken, 0 skipped · mine 1.0 · kdbench ")
    assert told.endswith(" · without mode=slow")


def test_pytest_is_not_needed(tmp_path, module):
    block = "import sys; sys.modules['pytest'] = None; from kdbench.cli import main; main()"
    words = [sys.executable, "-c", block, "plugin", "check", str(module(HEALTHY)), "--only", FEW]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_plugin_left_behind_is_ended(check, module, tmp_path):
    pid = tmp_path / "pid"
    text = f"""
    import subprocess, sys
    from pathlib import Path
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, pass_fds=[int(sys.argv[1])])
    Path({str(pid)!r}).write_text(str(child.pid))
    """
    done = check(module(text), "--only", "connects")
    assert done.exit_code == 1, done.output
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
