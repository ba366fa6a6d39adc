"""Plugins that are not installed: which backends a folder or a module has, and where its code is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.checkout import Checkout, is_path, open_checkout
from kdbench.errors import UsageError

PROJECT = """
[project]
name = "kdbench-mine"
version = "1.2"

[project.entry-points.kdbench]
"""


def written(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("layout", "more", "home"),
    [
        ("src/kdbench_mine/__init__.py", "", "src"),
        ("kdbench_mine/__init__.py", "", "."),
        ("kdbench_mine.py", "", "."),
        ("lib/kdbench_mine.py", '[tool.setuptools.packages.find]\nwhere = ["lib"]', "lib"),
        ("python/kdbench_mine.py", '[tool.setuptools.package-dir]\n"" = "python"', "python"),
    ],
)
def test_a_distribution_has_its_modules_where_its_layout_says(tmp_path, layout, more, home):
    folder = written(tmp_path, {"pyproject.toml": f'{PROJECT}mine = "kdbench_mine"\n{more}', layout: ""})
    found = open_checkout(folder)
    assert found.paths == (str(folder / home),)
    source = found.sources["mine"]
    assert (source.name, source.value, str(source)) == ("mine", "kdbench_mine", "kdbench-mine 1.2")


def test_one_distribution_may_have_several_backends_each_at_an_attribute_of_its_own(tmp_path):
    entries = 'mine = "kdbench_mine"\nmine-gpu = "kdbench_mine.gpu:plugin"\n'
    files = {"pyproject.toml": PROJECT + entries, "src/kdbench_mine/__init__.py": ""}
    found = open_checkout(written(tmp_path, files))
    assert {name: source.value for name, source in found.sources.items()} == {
        "mine": "kdbench_mine",
        "mine-gpu": "kdbench_mine.gpu:plugin",
    }
    assert found.paths == (str(tmp_path / "src"),)


@pytest.mark.parametrize("path", ["alone.py", "package"])
def test_a_module_with_hooks_is_a_plugin_of_its_own_name(tmp_path, path):
    written(tmp_path, {"alone.py": "", "package/__init__.py": ""})
    found = open_checkout(tmp_path / path)
    name = Path(path).stem
    assert isinstance(found, Checkout)
    assert [(one.name, one.value) for one in found.sources.values()] == [(name, name)]
    assert found.paths == (str(tmp_path),)


def test_the_folder_in_which_one_stands_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(written(tmp_path, {"pyproject.toml": f'{PROJECT}mine = "a"', "a.py": ""}))
    assert open_checkout(Path()).paths == (str(tmp_path),)
    assert [is_path(word) for word in (".", "./mine", "mine.py", "mine")] == [True, True, True, False]


@pytest.mark.parametrize(
    ("files", "path", "told", "hint"),
    [
        ({}, "empty", "has no pyproject.toml", "kdbench plugin new"),
        ({"empty/kdbench-mine": ""}, "kdbench-mime", "There is no ", ""),
        ({"mine.txt": ""}, "mine.txt", "neither a folder nor a Python module", "five hooks"),
        ({"a-b.py": ""}, "a-b.py", "No module can be called 'a-b'", "Rename"),
        ({"pyproject.toml": "[project"}, ".", "is not TOML", ""),
        ({"pyproject.toml": "\x00" * 9}, ".", "is not TOML", ""),
        ({"pyproject.toml": "project = 3"}, ".", "declares no backend", "[project.entry-points.kdbench]"),
        ({"pyproject.toml": "[project]\nentry-points = []"}, ".", "declares no backend", "kdbench_mine"),
        (
            {"pyproject.toml": f'{PROJECT}mine = "absent"'},
            ".",
            "'absent' of the backend 'mine' is not in",
            "",
        ),
        ({"pyproject.toml": f"{PROJECT}mine = 3", "3.py": ""}, ".", "'3' of the backend", ""),
        ({"pyproject.toml": f'{PROJECT}mine = "../x"', "src/a": ""}, ".", "of the backend 'mine' is not", ""),
        ({"a:b/x.py": ""}, "a:b/x.py", "has ':' in its path", ""),
    ],
)
def test_what_is_no_plugin_is_refused_with_what_is_missing(tmp_path, files, path, told, hint):
    (tmp_path / "empty").mkdir()
    written(tmp_path, files)
    with pytest.raises(UsageError) as refused:
        open_checkout(tmp_path / path)
    assert told in refused.value.message
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message


def test_a_path_that_is_misspelt_is_met_with_the_nearest(tmp_path):
    (tmp_path / "kdbench-mine").mkdir()
    with pytest.raises(UsageError, match=r"Did you mean .*kdbench-mine"):
        open_checkout(tmp_path / "kdbench-mime")
