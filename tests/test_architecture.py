"""The layer table of ARCHITECTURE.md as data: a module imports lower levels only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
CORE = HOME / "kdbench"

LEVELS = (
    (
        "bisection",
        "device",
        "errors",
        "interruption",
        "measure",
        "orphans",
        "problems",
        "progress",
        "raw",
        "schedule",
        "settling",
        "spec",
        "stats",
        "sysfs",
        "transfer",
        "walk",
        "yardstick",
    ),
    (
        "accuracy",
        "around",
        "arrays",
        "cache",
        "card",
        "cgroup",
        "comparison",
        "cpu",
        "hookspecs",
        "inputs",
        "log",
        "meetings",
        "networks",
        "nvidia",
        "records",
        "reply",
        "seal",
        "sections",
        "sensors",
        "strict",
        "support",
        "ticks",
        "window",
        "wire",
    ),
    (
        "account",
        "activity",
        "certificate",
        "contention",
        "discovery",
        "environment",
        "figures",
        "gpuwatch",
        "manifest",
        "mishap",
        "outfit",
        "profile",
        "protocol",
        "ranking",
        "results",
        "student",
    ),
    (
        "casting",
        "catalogue",
        "checkout",
        "checks",
        "crossover",
        "floors",
        "guard",
        "job",
        "journal",
        "lane",
        "metric",
        "nursery",
        "observers",
        "observing",
        "options",
        "parcel",
        "request",
        "selection",
        "surroundings",
        "usage",
    ),
    (
        "answers",
        "capacity",
        "cells",
        "estimate",
        "findings",
        "novelty",
        "scaffold",
        "summary",
        "wishes",
    ),
    (
        "backends",
        "compare",
        "export",
        "timing",
    ),
    (
        "frame",
        "service",
    ),
    ("worker",),
    ("process",),
    (
        "ledger",
        "roster",
    ),
    ("plan",),
    (
        "finalists",
        "header",
        "member",
        "meter",
        "survey",
    ),
    (
        "compiling",
        "crew",
        "elsewhere",
        "sides",
    ),
    (
        "block",
        "observed",
    ),
    (
        "keeping",
        "searching",
        "stages",
    ),
    (
        "bench",
        "packing",
        "trial",
    ),
    (
        "doctor",
        "remeasure",
        "selftest",
    ),
    ("render",),
    ("cli",),
)
"""From the bottom up. Apart stand `distill`, `intake` and `testing`, which nothing here imports at start."""

APART = ("distill", "intake", "testing", "students", "recipes", "profiles", "__main__")

ONLY_IN = {
    "pluggy": {"hookspecs", "backends"},
    "rich": {"render"},
    "click": {"cli"},
    "torch": {"distill", "intake"},
    "sklearn": {"distill"},
}


def _module(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def _sources() -> list[Path]:
    return [path for path in sorted(CORE.rglob("*.py")) if path != CORE / "__init__.py"]


def _imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, at any depth, but for type checking alone."""
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _level(module: str) -> int:
    return next(number for number, modules in enumerate(LEVELS) if module in modules)


def _own(names: set[str]) -> set[str]:
    """Names of kdbench's own modules among the imported names."""
    parts = [name.split(".") for name in names]
    return {
        part[1] for part in parts if part[0] == "kdbench" and len(part) > 1 and (CORE / part[1]).exists()
    } | {
        part[1]
        for part in parts
        if part[0] == "kdbench" and len(part) > 1 and (CORE / f"{part[1]}.py").exists()
    }


def test_every_module_stands_in_the_table():
    known = {module for level in LEVELS for module in level} | set(APART) - {"profiles"}
    assert {_module(path) for path in _sources()} == known


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(CORE)))
def test_a_module_imports_lower_levels_only(path: Path):
    module = _module(path)
    if module in APART:
        return
    above = {
        other
        for other in _own(_imports(path)) - {module, "students", "profiles", "recipes"}
        if (other in APART and module != "cli") or (other not in APART and _level(other) >= _level(module))
    }
    assert not above, f"{module} (level {_level(module)}) imports {sorted(above)}"


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(CORE)))
def test_a_library_is_imported_where_it_belongs(path: Path):
    for library, homes in ONLY_IN.items():
        if any(name.split(".")[0] == library for name in _imports(path)):
            assert _module(path) in homes, f"{_module(path)} imports {library}"


def test_no_core_module_tests_for_the_name_of_a_backend():
    names = "numpy|torch-cpu|torch-cuda|onnxruntime|openvino|tensorrt"
    comparison = re.compile(rf"""(==|!=|\bin\b)\s*[\(\[{{]?\s*["']({names})["']""")
    for path in _sources():
        if _module(path) not in APART:
            assert not comparison.search(path.read_text()), path


def test_the_architecture_page_has_the_same_table():
    page = (HOME / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.+?) \|", page, flags=re.MULTILINE)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [list(level) for level in LEVELS]
