"""Wheels of the core and of every plugin, installed outside the repository, run in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
PLUGINS = sorted(path.parent for path in HOME.glob("plugins/*/pyproject.toml"))


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KDBENCH"))
    }
    environment |= {"KDBENCH_CACHE": str(cwd.parent / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from copies, so that nothing is written into the repository."""
    folder = tmp_path_factory.mktemp("wheels")
    copy = tmp_path_factory.mktemp("source") / "kdbench"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HOME,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (HOME / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((HOME / name).read_bytes())
    sources = [copy, *(copy / plugin.relative_to(HOME) for plugin in PLUGINS)]
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    _run(sys.executable, "-m", *build, "--wheel-dir", folder, *sources, cwd=copy)
    return folder


@pytest.fixture(scope="module")
def python(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the wheels; others' packages are lent by the one that runs the tests."""
    home = tmp_path_factory.mktemp("outside") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    scheme = {"base": str(home), "platbase": str(home)}
    own = Path(sysconfig.get_path("purelib", "venv", scheme))
    (own / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    executable = home / "bin" / "python"
    install = (
        "pip",
        "--python",
        executable,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
    )
    _run(sys.executable, "-m", *install, *sorted(wheels.glob("*.whl")), cwd=home)
    return executable


def test_each_distribution_gives_one_wheel(wheels: Path):
    names = {wheel.name.split("-")[0] for wheel in wheels.glob("*.whl")}
    assert names == {"kdbench", *(plugin.name.replace("-", "_") for plugin in PLUGINS)}


def test_the_wheels_run_in_an_empty_folder(python: Path, tmp_path: Path):
    where = _run(python, "-c", "import kdbench; print(kdbench.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parent.parent)
    kdbench = python.parent / "kdbench"
    told = _run(
        kdbench, "run", "--profile", "ci", "--blocks", "1", "--scenario", "latency", "--json", cwd=tmp_path
    )
    result = json.loads(told)
    measured = {one["cell"]["backend"] for one in result["cells"] if one["status"] == "measured"}
    assert measured == {one["name"] for one in result["backends"] if one["status"] == "available"}
    assert {"numpy", "onnxruntime", "openvino", "torch-cpu"} <= measured
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_wheel_of_the_core_has_its_profiles_recipes_and_student(python: Path, tmp_path: Path):
    kdbench = python.parent / "kdbench"
    assert "quick" in _run(kdbench, "profiles", cwd=tmp_path)
    assert "digits-2x5" in _run(kdbench, "distill", "--list", cwd=tmp_path)
    assert "digits-2x5" in _run(kdbench, "students", cwd=tmp_path)
