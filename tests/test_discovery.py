from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from kdbench.catalogue import KNOWN, explain
from kdbench.discovery import (
    Fault,
    Source,
    described_key,
    installed,
    nearest,
    read_described,
    write_described,
)
from kdbench.errors import BackendUnavailable, UnknownBackend
from kdbench.spec import BackendInfo, Option

INFO = BackendInfo(
    api=1,
    title="X",
    devices=("cpu",),
    precisions=("fp32",),
    options=(Option(name="mode", type="str", default="eager", help="How."),),
)
SOURCE = Source("fast", "kdbench_fast", "kdbench-fast", "1.0", "stamp")


def test_a_folder_on_the_path_is_an_installed_plugin(make_plugin):
    folder = make_plugin("fast", "raise SystemExit('imported')", version="2.5")
    found, faults = installed([str(folder)])
    assert faults == ()
    assert replace(found["fast"], stamp="") == Source("fast", "kdbench_fast", "kdbench-fast", "2.5", "")


def test_discovery_imports_neither_plugin_nor_pluggy_nor_vendor(make_plugin):
    folder = make_plugin("fast", "raise SystemExit('imported')")
    program = (
        "import sys; from kdbench.discovery import installed; found, _ = installed();"
        " print('fast' in found, {'kdbench_fast', 'pluggy', 'numpy', 'torch'} & set(sys.modules))"
    )
    paths = os.pathsep.join([str(folder), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "True set()"


def test_a_name_that_two_distributions_claim_belongs_to_neither(make_plugin):
    make_plugin("fast", "", distribution="kdbench-one", version="1.0")
    make_plugin("other", "")
    folder = make_plugin("fast", "", distribution="kdbench-two", version="2.0")
    found, faults = installed([str(folder)])
    assert list(found) == ["other"]
    (fault,) = faults
    assert (fault.name, fault.phase) == ("fast", "discover")
    assert "kdbench-one 1.0" in fault.reason
    assert "kdbench-two 2.0" in fault.reason


@pytest.mark.parametrize("name", ["../fast", "a/b", ".fast", "-fast", "fa\x1b[1mst", "f\x7fast", "f" * 101])
def test_a_name_that_no_file_can_have_is_a_fault_of_its_plugin_alone(make_plugin, name):
    make_plugin(name, "", distribution="kdbench-misnamed")
    folder = make_plugin("fast", "")
    found, (fault,) = installed([str(folder)])
    assert list(found) == ["fast"]
    assert fault.name != "fast"
    assert fault.phase == "discover"
    assert fault.reason.startswith("kdbench-misnamed 1.0 names its backend ")
    assert (fault.name + fault.reason).isprintable()
    assert len(fault.name) <= 100


@pytest.mark.parametrize("name", ["torch-cpu", "my_runtime.v2", "größer", "f" * 100])
def test_a_name_that_a_file_can_have_is_fine(make_plugin, name):
    folder = make_plugin(name, "", distribution="kdbench-named")
    found, faults = installed([str(folder)])
    assert (list(found), faults) == ([name], ())


def test_one_distribution_seen_in_two_folders_counts_once(make_plugin):
    editable = make_plugin("fast", "", version="1.1", folder="checkout")
    wheel = make_plugin("fast", "", version="1.0", distribution="KDbench_fast", folder="site")
    found, faults = installed([str(editable), str(wheel)])
    assert faults == ()
    assert found["fast"].version == "1.1"


def test_a_damaged_installation_does_not_hide_the_others(make_plugin):
    make_plugin("damaged", "")
    folder = make_plugin("fast", "")
    (folder / "kdbench_damaged-1.0.dist-info" / "entry_points.txt").write_text("[kdbench]\nno equals sign\n")
    found, (fault,) = installed([str(folder)])
    assert list(found) == ["fast"]
    assert (fault.name, fault.phase) == ("kdbench-damaged", "discover")
    assert str(folder) in fault.reason


def test_only_the_named_plugins_are_looked_at(make_plugin):
    make_plugin("slow", "")
    folder = [str(make_plugin("fast", ""))]
    assert list(installed(folder, only=" fast ,")[0]) == ["fast"]
    assert installed(folder, only="") == ({}, ())
    assert installed(folder, only="absent")[1] == (
        Fault("absent", "discover", "No installed plugin provides the backend 'absent'."),
    )


def test_an_edited_source_changes_the_stamp(make_plugin):
    folder = make_plugin("fast", "a = 1")
    before = installed([str(folder)])[0]["fast"]
    again = installed([str(folder)])[0]["fast"]
    os.utime(folder / "kdbench_fast.py", ns=(0, 1))
    after = installed([str(folder)])[0]["fast"]
    assert before == again
    assert before.stamp != after.stamp
    assert described_key(before) != described_key(after)


def test_an_edited_module_deep_in_a_package_changes_the_stamp(make_plugin):
    folder = make_plugin("fast", "")
    (folder / "kdbench_fast.py").unlink()
    deep = folder / "kdbench_fast" / "deep"
    deep.mkdir(parents=True)
    (deep.parent / "__init__.py").write_text("")
    (deep / "net.py").write_text("")
    before = installed([str(folder)])[0]["fast"]
    (deep / "net.py").write_text("a = 1")
    assert installed([str(folder)])[0]["fast"].stamp != before.stamp


def test_a_source_whose_package_is_missing_is_still_listed(make_plugin):
    folder = make_plugin("fast", "")
    (folder / "kdbench_fast.py").unlink()
    assert list(installed([str(folder)])[0]) == ["fast"]


def test_described_facts_are_kept_for_exactly_one_source(tmp_path):
    folder = tmp_path / "cache" / "described"
    write_described(folder, SOURCE, INFO)
    assert read_described(folder, SOURCE) == INFO
    for change in ({"version": "1.1"}, {"stamp": "edited"}, {"name": "slow"}, {"distribution": "other"}):
        assert read_described(folder, replace(SOURCE, **change)) is None
    assert [file.suffix for file in folder.iterdir()] == [".json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"title": 3}', b"\xff\xfe"])
def test_a_corrupt_description_is_as_good_as_none(tmp_path, content):
    write_described(tmp_path, SOURCE, INFO)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert read_described(tmp_path, SOURCE) is None


def test_a_folder_that_cannot_be_written_is_only_slower(tmp_path):
    (tmp_path / "file").write_text("")
    write_described(tmp_path / "file" / "cache", SOURCE, INFO)
    assert read_described(tmp_path / "file" / "cache", SOURCE) is None


def test_the_nearest_name_is_offered_in_its_own_spelling():
    assert nearest("TensorRt", ["tensorrt", "numpy"]) == "tensorrt"
    assert nearest("opnvino", ["OpenVINO"]) == "OpenVINO"
    assert nearest("zzz", ["OpenVINO"]) is None


def test_a_known_backend_that_is_not_installed_says_what_to_install():
    error = explain("openvino", [])
    assert isinstance(error, BackendUnavailable)
    assert error.exit_code == 3
    assert error.hint.endswith("pip install -e 'plugins/kdbench-openvino[runtime]'")


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if not known.checkout])
def test_a_known_backend_without_a_plugin_says_so_and_names_the_vendors_package(name):
    error = explain(name, ["numpy"])
    assert isinstance(error, BackendUnavailable)
    assert "this release of kdbench has no plugin for it" in error.message
    assert f"pip install {KNOWN[name].packages}" in error.hint
    assert "docs/hooks.md" in error.hint
    assert "kdbench-" not in str(error)


def test_an_unknown_backend_is_answered_with_the_nearest_and_the_installed():
    error = explain("tensort", ["numpy", "mine"])
    assert isinstance(error, UnknownBackend)
    assert error.exit_code == 2
    assert error.hint == "Did you mean 'tensorrt'? Installed: mine, numpy."
    assert explain("mien", ["mine"]).hint.startswith("Did you mean 'mine'?")
    assert explain("zzz", []).hint == "Installed: none."
