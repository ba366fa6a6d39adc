"""What each edition answers where something is missing; the driver's own lacks are kdbench.nvidia's."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from kdbench import Available, Unavailable
from kdbench.backends import connect
from kdbench.nvidia import Gpu
from kdbench_tensorrt import probe as probing
from kdbench_tensorrt.editions import RTX, STANDARD
from kdbench_tensorrt.rtx import HOOKS as RTX_HOOKS
from kdbench_tensorrt.standard import HOOKS

ADA = Gpu(0, "GPU-1", "NVIDIA L4", (8, 9), 24 << 30, driver="580.65.06")
TURING = Gpu(1, "GPU-2", "Tesla T4", (7, 5), 16 << 30)


@pytest.fixture
def importable(monkeypatch):
    """TensorRT and cuda-bindings that import, by name only."""
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = ModuleType("cuda.bindings.runtime")
    for name, module in (("cuda.bindings", bindings), ("cuda.bindings.runtime", bindings.runtime)):
        monkeypatch.setitem(sys.modules, name, module)


def test_without_the_library_the_probe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = connect("tensorrt", HOOKS).probe()
    assert found == Unavailable("tensorrt is not installed.", "pip install tensorrt cuda-bindings onnx")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    found = connect("tensorrt-rtx", RTX_HOOKS).probe()
    assert found.reason == "tensorrt_rtx is not installed."
    assert found.fix == "pip install tensorrt-rtx cuda-bindings onnx"


def test_a_shared_library_that_is_missing_is_named_with_what_carries_it(monkeypatch):
    def lacking(edition):
        raise ImportError("libnvonnxparser.so.11: cannot open shared object file: No such file or directory")

    versions = {"tensorrt-cu13-bindings": "11.4.0.106"}
    monkeypatch.setattr(type(STANDARD), "vendor", lacking)
    monkeypatch.setattr(probing, "_installed", lambda name: versions.get(name, ""))
    assert probing.probe(STANDARD) == Unavailable(
        "tensorrt is installed without its library libnvonnxparser.so.11.",
        "pip install tensorrt-cu13-libs==11.4.0.106 --extra-index-url https://pypi.nvidia.com",
    )


def test_a_release_that_lacks_what_is_called_is_too_old(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.0.1"))
    assert connect("tensorrt", HOOKS).probe() == Unavailable(
        "TensorRT 10.0.1 is too old: 10.3 is the oldest that will do.", "pip install 'tensorrt>=10.3'"
    )


@pytest.mark.parametrize(
    "fault", [ImportError("undefined symbol"), RuntimeError("CUDA says no"), OSError("torn")]
)
def test_a_library_that_fails_is_unavailable_with_its_reason(monkeypatch, fault):
    def failing(edition):
        raise fault

    monkeypatch.setattr(type(STANDARD), "vendor", failing)
    found = probing.probe(STANDARD)
    assert isinstance(found, Unavailable)
    assert str(fault) in found.reason
    assert found.fix


def test_without_cudas_bindings_the_probe_says_so(monkeypatch, importable):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    lacking = "cuda-bindings is not installed."
    assert probing.probe(STANDARD) == Unavailable(lacking, "pip install cuda-bindings")
    older = {"tensorrt-cu12-bindings": "10.16.1"}
    monkeypatch.setattr(probing, "_installed", lambda name: older.get(name, ""))
    assert probing.probe(STANDARD).fix == "pip install 'cuda-bindings<13'"


def test_what_the_driver_lacks_is_passed_on(monkeypatch, importable):
    lacking = Unavailable("there is no driver", "install one")
    monkeypatch.setattr(probing, "look", lambda cuda: lacking)
    assert probing.probe(STANDARD) == lacking


@pytest.mark.parametrize(
    ("installed", "needed"),
    [
        ({}, (12, 0)),
        ({"tensorrt-cu12-bindings": "10.16.1", "cuda-bindings": "12.9.7"}, (12, 0)),
        ({"tensorrt-cu12-bindings": "10.16.1", "cuda-bindings": "13.5.0"}, (13, 0)),
        ({"tensorrt-cu13-bindings": "11.4.0", "cuda-bindings": "12.9.7"}, (13, 0)),
    ],
)
def test_the_driver_must_serve_the_newest_cuda_major_among_the_wheels(monkeypatch, installed, needed):
    monkeypatch.setattr(probing, "_installed", lambda name: installed.get(name, ""))
    assert probing.needed_cuda(STANDARD) == needed


def test_each_gpu_is_a_device_with_the_precisions_of_its_units(monkeypatch, importable):
    monkeypatch.setattr(probing, "look", lambda cuda: (ADA, TURING))
    found = connect("tensorrt", HOOKS).probe()
    assert isinstance(found, Available)
    assert found.version == "11.4.0"
    assert [one.driver for one in found.devices] == ["580.65.06", ""]
    assert [(one.id, one.uuid) for one in found.devices] == [("cuda:0", "GPU-1"), ("cuda:1", "GPU-2")]
    assert [one.precisions for one in found.devices] == [("fp32", "tf32", "fp16", "bf16"), ("fp32", "fp16")]


@pytest.mark.parametrize(("edition", "hooks"), [(STANDARD, HOOKS), (RTX, RTX_HOOKS)])
def test_the_probe_of_this_machine_answers_and_never_raises(edition, hooks):
    found = connect(edition.module, hooks).probe()
    assert found.version if isinstance(found, Available) else found.reason and found.fix


def test_only_the_edition_that_has_a_lean_runtime_offers_version_compatible_engines():
    names = {
        module: {o.name for o in hooks.kdbench_describe().options}
        for module, hooks in (("a", HOOKS), ("b", RTX_HOOKS))
    }
    assert names["a"] - names["b"] == {"version_compatible"}
