"""Hostile and broken distributions as wheels, in an environment of their own, run as a user runs them.

The environment is one per test session; others' packages are lent by the one that runs the tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAN = """
schema = 1
summary = "A short block."

[plan]
precisions = ["fp32"]
batches = [1]
scenarios = ["latency"]
threads = 1

[latency]
blocks = 1
rounds = 2
slice_s = 0.005
settle_s = 0.001
warm_up_s = 0.01
warm_up_max_s = 0.1

[limits]
describe_s = 60
probe_s = 60
compile_s = 60
load_s = 60
run_s = 60
"""


def wheel(folder: Path, backend: str, source: str, *, distribution: str = "") -> Path:
    """Write a valid wheel with one module that provides one backend, and give its path."""
    distribution = distribution or backend
    module = distribution.replace("-", "_")
    metadata = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": source,
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{metadata}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{metadata}/entry_points.txt": f"[kdbench]\n{backend} = {module}\n",
    }
    record = [f"{name},{_digest(text)},{len(text.encode())}" for name, text in files.items()]
    files[f"{metadata}/RECORD"] = "\n".join([*record, f"{metadata}/RECORD,,"]) + "\n"
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True)
class Told:
    """What a command said and left: exit code, standard output and error, the result file if there is one."""

    code: int
    output: str
    errors: str
    result: Mapping[str, Any]

    def row(self, name: str) -> Mapping[str, Any]:
        """Give the record that says what became of a backend: its cell, or itself where it has none."""
        cells = [one for one in self.result["cells"] if one["cell"]["backend"] == name]
        return cells[0] if cells else next(one for one in self.result["backends"] if one["name"] == name)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with hostile wheels; `folder` takes what its runs write."""

    python: Path
    folder: Path

    def run(self, plugins: Sequence[str], *words: str) -> Told:
        """Measure with these plugins as `kdbench run` does, seen as a user without a terminal sees it."""
        number = len(list(self.folder.glob("run-*")))
        home = self.folder / f"run-{number}"
        home.mkdir()
        (home / "plan.toml").write_text(PLAN)
        output = home / "result.json"
        done = self._kdbench(
            home, plugins, "run", "--profile", "./plan.toml", "--output", str(output), *words
        )
        result = json.loads(output.read_text()) if output.exists() else {}
        return Told(done.returncode, done.stdout, done.stderr, result)

    def show(self, plugins: Sequence[str], *words: str) -> str:
        """Give what another command prints on standard output."""
        return self._kdbench(self.folder, plugins, *words).stdout

    def _kdbench(self, home: Path, plugins: Sequence[str], *words: str) -> subprocess.CompletedProcess[str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KDBENCH"))
        }
        own = {
            "KDBENCH_CACHE": str(self.folder / "cache"),
            "KDBENCH_PLUGINS": ",".join(plugins),
            "TMPDIR": str(home),
            "COLUMNS": "240",
        }
        command = [str(self.python), "-m", "kdbench", *words]
        return subprocess.run(
            command, cwd=home, env=inherited | own, capture_output=True, text=True, check=False
        )


def install(folder: Path, wheels: Sequence[Path]) -> Environment:
    """Make an environment and install the wheels into it, with pip and without an index."""
    home = folder / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    scheme = {"base": str(home), "platbase": str(home)}
    own = Path(sysconfig.get_path("purelib", "venv", scheme))
    lent = sysconfig.get_path("purelib")
    (own / "lent.pth").write_text(f"import site; site.addsitedir({lent!r})\n")
    executable = home / "bin" / "python"
    flags = ("--quiet", "--no-index", "--no-deps", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "--python", executable, "install", *flags)
    done = subprocess.run(
        [str(word) for word in (*pip, *wheels)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Environment(executable, folder)
