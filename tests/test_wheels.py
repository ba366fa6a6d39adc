"""Wheels of the core and of every plugin, installed outside the repository, run in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

HOME = Path(__file__).parent.parent
CONVERTERS = re.compile(r"(torch|torchgen|functorch|onnx|onnx_ir|onnxscript)(-|$)")
"""What a board does without, as it is called in a folder of packages."""
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
    return _installed(home, sorted(wheels.glob("*.whl")))


def _installed(home: Path, chosen: list[Path]) -> Path:
    """Install wheels into an environment, and give its interpreter."""
    executable = home / "bin" / "python"
    install = ("pip", "--python", executable, "install", "--quiet", "--no-deps", "--no-index")
    _run(sys.executable, "-m", *install, "--ignore-installed", *chosen, cwd=home)
    return executable


@pytest.fixture(scope="module")
def board(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment as a board has it: no torch, no onnx, two plugins; the rest is lent one by one."""
    home = tmp_path_factory.mktemp("board") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    own = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    for lent in Path(sysconfig.get_path("purelib")).iterdir():
        ours = lent.suffix == ".pth" or lent.name.startswith(("kdbench", "__editable__"))
        if not ours and not CONVERTERS.match(lent.name):
            (own / lent.name).symlink_to(lent)
    names = ("kdbench-", "kdbench_onnxruntime-", "kdbench_openvino-")
    return _installed(home, [one for one in sorted(wheels.glob("*.whl")) if one.name.startswith(names)])


def test_what_is_compiled_with_torch_at_hand_runs_where_there_is_none(
    python: Path, board: Path, tmp_path: Path
):
    for converter in ("torch", "onnx"):
        _run(
            board, "-c", f"import pytest; pytest.raises(ImportError, __import__, {converter!r})", cwd=tmp_path
        )
    asked = ("--profile", "ci", "--batch", "1", "--scenario", "latency")
    backends = ("-b", "onnxruntime,openvino")
    _run(python.parent / "kdbench", "compile", *backends, *asked, "--output", "sent", cwd=tmp_path)
    (tmp_path / "sent").rename(tmp_path / "arrived")
    run = ("run", "--artifact", "arrived", "--trust-code", "--profile", "ci", "--blocks", "1", "--json")
    result = json.loads(_run(board.parent / "kdbench", *run, cwd=tmp_path))
    assert [(one["cell"]["backend"], one["status"]) for one in result["cells"]] == [
        ("onnxruntime", "measured"),
        ("openvino", "measured"),
    ]
    assert {one["artifact"]["origin"] for one in result["cells"]} == {"elsewhere"}


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


TYPED = """
from kdbench import Available, Availability, Device, hookimpl

@hookimpl
def kdbench_probe() -> Availability:
    return Available("1.0", (Device("cpu", "any CPU"),))
"""


@pytest.mark.parametrize("name", ["kdbench", *(plugin.name.replace("-", "_") for plugin in PLUGINS)])
def test_a_wheel_says_that_its_types_may_be_relied_on(wheels: Path, name: str):
    (wheel,) = wheels.glob(f"{name}-*.whl")
    assert f"{name}/py.typed" in ZipFile(wheel).namelist()


def test_a_type_checker_sees_the_types_of_an_installed_wheel(python: Path, tmp_path: Path):
    pytest.importorskip("mypy")
    (tmp_path / "sound.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(TYPED.replace('"any CPU"', "1"))
    check = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", tmp_path)
    _run(*check, "sound.py", cwd=tmp_path)
    with pytest.raises(AssertionError, match='"Device" has incompatible type "int"; expected "str"'):
        _run(*check, "wrong.py", cwd=tmp_path)
