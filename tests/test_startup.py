"""What a command imports before it does anything: looked up in `sys.modules`, not on a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdbench import results
from kdbench.records import Result, Run, Subject

HEAVY = {"msgspec", "numpy", "pluggy", "psutil", "rich", "scipy", "importlib.metadata", "difflib"}
VENDORS = {"onnx", "onnxruntime", "openvino", "safetensors", "sklearn", "tensorrt", "torch"}

LIST_MODULES = """
import sys
from kdbench.cli import main
try:
    main(sys.argv[1:])
finally:
    print("\\n".join(sorted(sys.modules)), file=sys.stderr)
"""


def imported(*words: str) -> set[str]:
    """Give the modules that are imported when a command line has ended."""
    command = [sys.executable, "-c", LIST_MODULES, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_imports_click_and_nothing_of_weight(words):
    modules = imported(*words)
    assert "click" in modules
    assert not modules & (HEAVY | VENDORS)
    assert {name for name in modules if name.startswith("kdbench.")} == {"kdbench.cli", "kdbench.errors"}


@pytest.mark.parametrize(
    "words",
    [("run", "--help"), ("show", "--help"), ("profiles",), ("profiles", "show", "quick"), ("students",)],
)
def test_what_measures_nothing_imports_no_numbers_no_plugin_and_no_vendor(words):
    modules = imported(*words)
    assert not modules & (VENDORS | {"numpy", "scipy", "rich", "pluggy"})
    assert not {name for name in modules if name.startswith("kdbench_")}


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_show_imports_no_vendor_and_no_plugin(words, tmp_path):
    path = tmp_path / "result.json"
    subject = Subject(student="any", student_sha256="0" * 64, task="classification", classes=("a", "b"))
    results.write(
        Result(run=Run(id="1", started_utc="2026-01-01T00:00:00Z"), subject=subject, environment={}), path
    )
    modules = imported("show", str(path), *words)
    assert not modules & (VENDORS | {"numpy", "scipy", "pluggy"})
    assert not {name for name in modules if name.startswith("kdbench_")}
