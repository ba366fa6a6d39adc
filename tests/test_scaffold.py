"""`kdbench plugin new`: what it writes keeps the contract, and is built, installed and measured as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdbench import cli, scaffold
from kdbench.catalogue import KNOWN
from kdbench.errors import UsageError

HOME = Path(__file__).parent.parent
NAMES = ["mine", "my-npu2", "3d", "a" * scaffold.LONGEST]


@dataclass(frozen=True)
class Place:
    """An environment with a plugin that was scaffolded, built and installed; and where that was written."""

    name: str
    folder: Path
    python: Path

    def call(self, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KDBENCH"))
        }
        own = {
            "KDBENCH_CACHE": str(self.folder.parent / "cache"),
            "COLUMNS": "200",
            "KDBENCH_PLUGINS": self.name,
        }
        return subprocess.run(
            [str(self.python), *map(str, words)],
            cwd=cwd or self.folder,
            env=inherited | own,
            capture_output=True,
            text=True,
            check=False,
        )


def pip(*words: object) -> None:
    flags = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", *words, *flags]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def built(source: Path, folder: Path) -> Path:
    """Build a wheel of a copy, so that nothing is written beside the source."""
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Make an environment with kdbench as a wheel; others' packages are lent by the one that runs this."""
    home = tmp_path_factory.mktemp("environment")
    for name in ("kdbench", "profiles"):
        shutil.copytree(HOME / name, home / "core" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, home / "core")
    venv.create(home / "venv", with_pip=False, symlinks=True)
    scheme = {"base": str(home / "venv"), "platbase": str(home / "venv")}
    own = Path(sysconfig.get_path("purelib", "venv", scheme))
    # As a path alone: what is installed there as editable stays out.
    (own / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    executable = home / "venv" / "bin" / "python"
    pip("--python", executable, "install", "--ignore-installed", built(home / "core", home / "wheels"))
    return executable


@pytest.fixture(scope="module", params=["my-npu2"])
def place(request, python, tmp_path_factory):
    """Scaffold by the installed kdbench; build a wheel of that, and install it."""
    home = tmp_path_factory.mktemp("new")
    made = Place(request.param, home / "plugin", python)
    for folder in ("plugin", "copy"):
        done = made.call("-m", "kdbench", "plugin", "new", request.param, "--directory", folder, cwd=home)
        assert done.returncode == 0, done.stderr
    pip("--python", python, "install", built(home / "copy", home / "wheels"))
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_distribution_that_ruff_finds_nothing_in(name, tmp_path):
    written = scaffold.write(name, tmp_path / "plugin")
    assert set(written.files) == {
        str(path.relative_to(written.folder)) for path in written.folder.rglob("*") if path.is_file()
    }
    for words in (["format", "--check", "."], ["check", "--no-cache", "."]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words],
            cwd=written.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    assert not [mark for text in scaffold.rendered(name).values() for mark in re.findall("@[A-Z]+@", text)]
    project = tomllib.loads((written.folder / "pyproject.toml").read_text())
    module = f"kdbench_{name.replace('-', '_')}"
    assert project["project"]["entry-points"] == {"kdbench": {name: module}}
    assert (written.folder / "src" / module / "py.typed").exists()


def test_mypy_finds_nothing_in_it(place):
    done = place.call("-m", "mypy", "--cache-dir", place.folder.parent / "mypy")
    assert done.returncode == 0, done.stdout


def test_it_keeps_its_contract_at_once_without_being_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scaffold.write("mine", tmp_path / "plugin")
    done = CliRunner().invoke(cli.main, ["plugin", "check", "plugin"])
    assert done.exit_code == 0, done.output
    assert ", 0 broken, " in done.stdout


def test_its_own_test_passes_once_it_is_installed(place):
    done = place.call("-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def test_installed_it_is_checked_by_name(place, tmp_path):
    done = place.call("-m", "kdbench", "plugin", "check", place.name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = json.loads(done.stdout)
    assert (told["backend"], told["broken"], told["lacking"]) == (place.name, 0, "")
    assert told["kept"] > 15


def test_installed_it_is_measured(place, tmp_path):
    words = ("--profile", "ci", "--blocks", "1", "--scenario", "latency", "--batch", "1", "--json")
    done = place.call("-m", "kdbench", "run", "-b", place.name, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert {(one["cell"]["backend"], one["status"]) for one in result["cells"]} == {(place.name, "measured")}


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("My_NPU", "'My_NPU' cannot be the name", "Did you mean my-npu?"),
        ("", "'' cannot be the name", "at most 40"),
        ("a.b", "cannot be the name", "Did you mean a-b?"),
        ("a,b", "cannot be the name", ""),
        ("../evil", "cannot be the name", "Did you mean evil?"),
        ("-x", "cannot be the name", ""),
        ("a--b", "cannot be the name", ""),
        ("ä", "cannot be the name", ""),
        ("a\n", "cannot be the name", ""),
        ("a" * 41, "cannot be the name", "at most 40"),
        ("kdbench", "does not begin with kdbench", ""),
        ("kdbench-mine", "does not begin with kdbench: mine", "Its distribution is called kdbench-mine"),
        ("numpy", "installed already, by kdbench-numpy", "Choose another name"),
        ("torch", "There is a distribution kdbench-torch already", ""),
    ],
)
def test_a_name_that_cannot_be_had_is_refused(tmp_path, name, told, hint):
    with pytest.raises(UsageError) as refused:
        scaffold.write(name, tmp_path / "plugin")
    assert told in refused.value.message
    assert hint in refused.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", KNOWN)
def test_no_name_that_kdbench_knows_can_be_had(tmp_path, name):
    with pytest.raises(UsageError):
        scaffold.write(name, tmp_path / "plugin")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("kept")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, told in (("full", "is not empty"), ("file", "is no folder"), ("link", "is no folder")):
        with pytest.raises(UsageError, match=told):
            scaffold.write("mine", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "link"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["kept"]


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    done = CliRunner().invoke(cli.main, ["plugin", "new", "mine", "--directory", "."])
    assert done.exit_code == 0, done.output
    assert tmp_path.stat().st_ino == before
    assert {path.name for path in tmp_path.iterdir()} == {
        ".github", ".gitignore", "LICENSE", "README.md", "pyproject.toml", "src", "tests"
    }  # fmt: skip


def test_what_cannot_be_written_whole_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        scaffold.write("mine", tmp_path / "file" / "plugin")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    (tmp_path / "empty").mkdir()
    for folder in ("plugin", "empty"):
        with pytest.raises(UsageError, match="No space left on device"):
            scaffold.write("mine", tmp_path / folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]


def test_it_says_what_to_do_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.main, ["plugin", "new", "mine"])
    assert done.exit_code == 0, done.output
    for line in (
        "kdbench plugin check kdbench-mine ",
        "pip install -e 'kdbench-mine[dev]'",
        "kdbench run -b mine ",
    ):
        assert f"  {line}" in done.stdout
    again = CliRunner().invoke(cli.main, ["plugin", "new", "mine"])
    assert again.exit_code == 2
    assert again.stderr.startswith("Error: kdbench-mine is not empty")
