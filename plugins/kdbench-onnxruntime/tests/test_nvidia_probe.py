from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kdbench import Available, Unavailable
from kdbench.backends import connect
from kdbench.nvidia import Gpu
from kdbench_onnxruntime import cuda, libraries, nvidia, tensorrt
from kdbench_onnxruntime.libraries import load, packages, toolkit, wanted

pytest.importorskip("onnxruntime")

GPU = Gpu(0, "GPU-1", "RTX 4090", (8, 9), 24 << 30)
LINKED = {
    "cuda": ("libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13", "libcuda.so.1", "libc.so.6"),
    "tensorrt": ("libcublas.so.13", "libnvinfer.so.10", "libcudart.so.13", "libcudnn.so.9", "libm.so.6"),
}


@pytest.fixture
def machine(monkeypatch):
    """A machine that has everything: the wheel, its libraries, a driver and a GPU. Tests take things away."""
    monkeypatch.setattr(nvidia, "installed", lambda: ["onnxruntime-gpu"])
    monkeypatch.setattr(nvidia, "provider_library", lambda name: Path(name))
    monkeypatch.setattr(libraries, "provider_library", lambda name: Path(name))
    monkeypatch.setattr(libraries, "needed", lambda path: LINKED[path.name])
    monkeypatch.setattr(nvidia, "load", lambda names: ())
    monkeypatch.setattr(nvidia, "look", lambda *_: (GPU,))
    monkeypatch.setattr(nvidia, "_bindings_fault", lambda: None)
    return monkeypatch


@pytest.fixture(params=[cuda, tensorrt], ids=["cuda", "tensorrt"])
def backend(request):
    return connect("onnxruntime-gpu", request.param)


def test_a_machine_with_everything_names_its_gpu_with_uuid_and_precisions(machine, backend):
    answer = backend.probe()
    assert isinstance(answer, Available)
    [device] = answer.devices
    assert (device.id, device.uuid, device.name) == ("cuda:0", "GPU-1", "RTX 4090")
    assert device.precisions == ("fp32", "tf32", "fp16", "bf16")


def test_without_a_wheel_it_says_what_to_install(machine, backend):
    machine.setattr(nvidia, "installed", list)
    assert backend.probe() == Unavailable(
        "onnxruntime-gpu is not installed.", fix="pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )


def test_two_wheels_are_refused_and_the_gpu_one_is_kept(machine, backend):
    machine.setattr(nvidia, "installed", lambda: ["onnxruntime", "onnxruntime-gpu"])
    answer = backend.probe()
    assert "onnxruntime and onnxruntime-gpu are both installed" in answer.reason
    assert answer.fix == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"


def test_a_wheel_without_the_provider_is_named_and_replaced(machine, backend):
    machine.setattr(nvidia, "installed", lambda: ["onnxruntime"])
    machine.setattr(nvidia, "provider_library", lambda _: None)
    answer = backend.probe()
    assert answer.reason.startswith("The wheel onnxruntime has no ")
    assert answer.fix == "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"


def test_a_wheel_that_does_not_import_is_said_to_be_so(machine, backend):
    machine.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime-gpu cannot be imported" in backend.probe().reason


def test_the_driver_is_asked_for_the_cuda_version_that_the_provider_links(machine, backend):
    asked = []
    machine.setattr(
        nvidia, "look", lambda *cuda: asked.append(cuda) or Unavailable("no driver", fix="install it")
    )
    assert backend.probe() == Unavailable("no driver", fix="install it")
    assert asked == [((13, 0),)]


def test_missing_libraries_are_named_with_the_wheels_of_their_own_major_versions(machine):
    machine.setattr(nvidia, "load", lambda names: ("libcublas.so.13", "libcudnn.so.9", "libnvinfer.so.10"))
    answer = connect("onnxruntime-tensorrt", tensorrt).probe()
    assert answer.reason == (
        "The TensorRT provider of onnxruntime-gpu needs libcublas.so.13, libcudnn.so.9, libnvinfer.so.10, "
        "which are missing."
    )
    assert answer.fix == "pip install 'nvidia-cublas==13.*' 'nvidia-cudnn-cu13==9.*' 'tensorrt-cu13==10.*'"


def test_missing_bindings_are_named(machine, backend):
    machine.undo()
    machine.setitem(sys.modules, "cuda", None)
    assert nvidia._bindings_fault() == Unavailable(
        "cuda-bindings is not installed.", fix="pip install cuda-bindings"
    )


@pytest.mark.parametrize(("served", "fault"), [((12, 4), True), ((13, 0), False)])
def test_bindings_for_a_newer_cuda_than_the_drivers_are_refused(machine, served, fault):
    machine.undo()
    pytest.importorskip("cuda.bindings")
    machine.setattr(nvidia, "version", lambda name: "13.5.0")
    machine.setattr(nvidia, "look", lambda cuda: (GPU,) if cuda <= served else Unavailable("too old"))
    told = nvidia._bindings_fault()
    assert (told is not None) is fault
    if told:
        assert told.fix == "pip install 'cuda-bindings<13'"


def test_a_gpu_that_is_too_old_for_the_libraries_is_named(machine, backend):
    machine.setattr(nvidia, "look", lambda *_: (Gpu(0, "GPU-2", "GTX 1080", (6, 1), 8 << 30),))
    answer = backend.probe()
    assert answer.reason.startswith("GTX 1080 has compute capability 6.1")
    assert "CUDA 13, which needs 7.5 or newer" in answer.reason


def test_the_convolutions_library_is_known_from_the_provider_beside(machine):
    assert wanted("cuda") == ("libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13", "libcudnn.so.9")
    assert "libnvinfer.so.10" in wanted("tensorrt")
    assert not any(name.startswith(("libcuda.so", "libc.so", "libm.so")) for name in wanted("tensorrt"))


@pytest.mark.parametrize(
    ("name", "cuda_major", "package"),
    [
        ("libcublasLt.so.12", 12, "'nvidia-cublas-cu12==12.*'"),
        ("libcurand.so.10", 12, "'nvidia-curand-cu12==10.*'"),
        ("libcurand.so.10", 13, "'nvidia-curand==10.*'"),
        ("libcufft.so.12", 13, "'nvidia-cufft==12.*'"),
        ("libcudnn.so.9", 12, "'nvidia-cudnn-cu12==9.*'"),
        ("libnvonnxparser.so.11", 13, "'tensorrt-cu13==11.*'"),
    ],
)
def test_a_library_belongs_to_the_wheel_of_its_toolkit(name, cuda_major, package):
    assert packages([name], cuda_major) == (package,)


def test_the_toolkit_is_that_of_the_runtime_library():
    assert toolkit(["libcublas.so.12", "libcudart.so.12"]) == 12
    assert toolkit(["libcublas.so.12"]) is None


def test_a_library_that_is_there_loads_and_one_that_is_not_is_answered():
    here = Path(find_spec("numpy._core._multiarray_umath").origin)
    assert load([str(here), "libnvinfer.so.99"]) == ("libnvinfer.so.99",)


def test_on_this_machine_the_probe_answers_and_never_raises(backend):
    answer = backend.probe()
    assert isinstance(answer, Available) or (answer.reason and answer.fix)
