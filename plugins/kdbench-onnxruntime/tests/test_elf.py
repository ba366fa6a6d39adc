from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kdbench_onnxruntime.elf import needed

NUMPY = find_spec("numpy._core._multiarray_umath").origin


@pytest.mark.parametrize("path", [NUMPY, Path(sys.executable).resolve()], ids=["library", "program"])
def test_the_libraries_of_a_real_file_are_those_that_readelf_lists(path):
    if shutil.which("readelf") is None:
        pytest.skip("There is no readelf to compare with.")
    listed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    named = [line.split("[")[1].rstrip("]") for line in listed.splitlines() if "(NEEDED)" in line]
    assert needed(Path(path)) == tuple(named)


def test_a_real_library_needs_the_c_library():
    assert any(name.startswith("libc.") for name in needed(Path(NUMPY)))


def test_what_is_no_elf_file_is_refused(tmp_path):
    (tmp_path / "text.so").write_text("INPUT(libc.so.6)")
    with pytest.raises(ValueError, match=r"text\.so is no 64-bit"):
        needed(tmp_path / "text.so")


@pytest.mark.parametrize("size", [20, 64, 100, 4096])
def test_a_file_that_is_cut_off_is_refused_and_not_misread(tmp_path, size):
    (tmp_path / "cut.so").write_bytes(Path(NUMPY).read_bytes()[:size])
    with pytest.raises(ValueError, match="cut off or damaged"):
        needed(tmp_path / "cut.so")
