"""Errands that the contract has done in a fresh interpreter, so that nothing of this one is in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.outfit import THREAD_VARIABLES
from kdbench.testing.finding import Broken
from kdbench.testing.opened import Opened
from kdbench.testing.subject import Subject
from kdbench.wire import artifact_to_json, encode

LIMIT_S = 300
"""An errand that takes longer is given up: compiling is the longest of them."""


def ask(
    subject: Subject,
    errand: str,
    arguments: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Have an errand of `kdbench.testing.elsewhere` done for the plugin; Broken where its process fails.

    environment: variables that differ from this process's. folder: where the process starts.
    threads: what numerical libraries are told that they may use, as in a worker.
    """
    desk = subject.folder("errand")
    facts = {"errand": errand, "arguments": {"backend": plain(subject), **arguments}}
    (desk / "errand.json").write_text(json.dumps(facts))
    words = [sys.executable, "-P", "-m", "kdbench.testing.elsewhere", "errand.json", "answer.json"]
    paths = [str(desk / word) if word.endswith(".json") else word for word in words]
    try:
        done = subprocess.run(
            paths,
            cwd=folder or desk,
            env={**variables(threads), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"A fresh process was not done with it after {LIMIT_S} s.") from None
    if done.returncode or not (desk / "answer.json").is_file():
        raise Broken(_fate(done.returncode, done.stderr), trace=done.stderr[-4000:].rstrip())
    answer: dict[str, Any] = json.loads((desk / "answer.json").read_bytes())
    return answer


def variables(threads: int = 1, paths: Sequence[str] = ()) -> dict[str, str]:
    """Give the environment of a fresh interpreter that finds the same modules as this one.

    threads: what numerical libraries are told that they may use, as in a worker.
    paths: folders with further modules; they come before what is installed and after Python's own.
    """
    searched = [place for place in sys.path if place]
    own = (library := sysconfig.get_path("stdlib"), str(Path(library, "lib-dynload")))
    last = max((number for number, place in enumerate(searched, 1) if place in own), default=0)
    searched[last:last] = paths
    found = {"PYTHONPATH": os.pathsep.join(searched), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **found, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def kept(opened: Opened) -> dict[str, str]:
    """Give what was opened as an errand's arguments: student, target, and the artifact as it is kept."""
    return {
        "student": str(opened.student.root),
        "target": encode(opened.target).decode(),
        "artifact": artifact_to_json(opened.artifact, opened.workdir, opened.student).decode(),
        "workdir": str(opened.workdir),
    }


def plain(subject: Subject) -> str:
    """Give the plugin's source as JSON."""
    source = subject.source
    return json.dumps([source.name, source.value, source.distribution, source.version, source.stamp])


def _fate(code: int, printed: str) -> str:
    if code < 0:
        return f"A fresh process died of signal {-code} over it."
    lines = [line for line in printed.splitlines() if line.strip()]
    return f"A fresh process failed over it: {lines[-1].strip() if lines else f'it ended with {code}'}"
