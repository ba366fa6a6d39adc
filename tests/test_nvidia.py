"""What is lacking before CUDA sees a GPU: every answer, from a fake libcuda and NVML and a fake kernel."""

# ruff: noqa: N802 (the fakes have the names of the C libraries)

from __future__ import annotations

import ctypes
import inspect
import re
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from kdbench import nvidia
from kdbench.nvidia import driver, nvml, probing, traces
from kdbench.nvidia.versions import DRIVERS, needed_driver
from kdbench.spec import Unavailable
from tests.fake_nvidia import FIRST, GIB, SECOND, SLICE, Card, FakeCuda, FakeNvml, Machine, memory

MISSING = "libcuda.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def no_library(monkeypatch):
    """Let libcuda be missing, with these words of the loader."""

    def load(words=MISSING):
        def absent():
            raise OSError(words)

        monkeypatch.setattr(driver, "load", absent)

    load()
    return load


def look(machine, cuda=None, management=None, environ=None, needed=(12, 0)):
    found = probing.look(
        needed,
        library=cuda,
        nvml_library=management or FakeNvml(start=12),
        root=machine.root,
        environ=environ or {},
    )
    if isinstance(found, Unavailable):
        assert re.fullmatch(r"([A-Z]|\w*[._/])[^\n]+[^.\n]\.", found.reason), "one sentence"
        assert re.fullmatch(r"[^\n]+", found.fix), "one line that mends it"
        return Unavailable(clause(found.reason), found.fix)
    return found


def clause(sentence):
    """Give a sentence as it would stand within another, which is how this page writes it."""
    small = sentence.split()[0][1:]
    first = sentence[0].lower() if not small or (small.isalpha() and small.islower()) else sentence[0]
    return first + sentence[1:].removesuffix(".")


# Without libcuda


def test_a_machine_without_a_card_is_told_from_one_without_a_driver(machine, no_library):
    assert look(machine).reason == "this machine shows no NVIDIA GPU and no NVIDIA driver"
    machine.card()
    found = look(machine)
    assert found.reason == "there is an NVIDIA GPU, but NVIDIA's driver is not loaded"
    assert "ubuntu-drivers install" in found.fix


def test_a_card_s_sound_function_is_no_card(machine, no_library):
    machine.card(kind="0x040300")
    assert "no NVIDIA GPU" in look(machine).reason


def test_who_holds_the_card_instead_is_named(machine, no_library):
    machine.card("nouveau")
    assert look(machine).reason.endswith("is not loaded (nouveau holds it)")


def test_a_card_handed_on_to_a_virtual_machine_is_said_so(machine, no_library):
    machine.card("vfio-pci")
    assert "virtual machine" in look(machine).fix


def test_a_driver_missing_inside_a_container_is_installed_on_the_host(machine, no_library):
    machine.card().container()
    assert look(machine).fix.endswith("(on the host)")


def test_a_container_without_the_runtime_names_the_flag(machine, no_library):
    machine.driver().card("nvidia").container()
    found = look(machine)
    assert found.reason == "this container was started without NVIDIA's runtime"
    assert found.fix.startswith("docker run --gpus all")


def test_a_pod_is_a_container_too(machine, no_library):
    machine.driver().card("nvidia").write("proc/1/cgroup", "0::/kubepods/burstable/pod1\n")
    assert "in Kubernetes a limit nvidia.com/gpu" in look(machine).fix


def test_a_module_without_its_library_names_the_package_of_its_branch(machine, no_library):
    machine.driver("535.183.01").nodes().card("nvidia")
    found = look(machine)
    assert "535.183.01 is loaded, but libcuda.so.1 is not installed" in found.reason
    assert "libnvidia-compute-535" in found.fix


def test_wsl_without_the_library_sends_to_windows(machine, no_library):
    machine.write("dev/dxg")
    found = look(machine)
    assert "WSL 2" in found.reason
    assert found.fix.startswith("install the driver on Windows, not here")


def test_wsl_is_known_by_its_kernel_too(machine, no_library):
    machine.write("proc/version", "Linux version 6.6.87.2-microsoft-standard-WSL2 (gcc)\n")
    assert "WSL 2" in look(machine).reason


def test_a_container_in_wsl_needs_the_runtime(machine, no_library):
    machine.write("dev/dxg").container()
    assert look(machine).fix.startswith("docker run --gpus all")


def test_a_jetson_without_the_library_names_its_package(machine, no_library):
    machine.write("proc/device-tree/compatible", "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0")
    found = look(machine)
    assert "Jetson" in found.reason
    assert found.fix == "sudo apt install nvidia-l4t-cuda"


def test_a_container_on_a_jetson_takes_the_runtime_by_name(machine, no_library):
    machine.write("etc/nv_tegra_release", "# R36").container()
    assert look(machine).fix.startswith("docker run --runtime nvidia")


@pytest.mark.parametrize(
    "folder", ["usr/lib/wsl/lib", "usr/lib/aarch64-linux-gnu/tegra", "run/opengl-driver/lib"]
)
def test_a_library_where_the_loader_does_not_look_names_the_folder(machine, no_library, folder):
    machine.write(f"{folder}/libcuda.so.1")
    found = look(machine)
    assert found.reason == f"libcuda.so.1 lies in /{folder}, where the loader does not look"
    assert found.fix == f"export LD_LIBRARY_PATH=/{folder}:$LD_LIBRARY_PATH"


def test_a_library_that_does_not_load_is_told_with_the_loader_s_words(machine, no_library):
    no_library("libnvidia-ptxjitcompiler.so.1: cannot open shared object file: No such file or directory")
    machine.driver().nodes().write("usr/lib64/libcuda.so.1")
    assert "does not load: libnvidia-ptxjitcompiler.so.1" in look(machine).reason


# With a driver that is too old


def test_an_old_driver_says_what_it_serves_and_what_is_needed(machine):
    machine.driver("535.129.03").nodes()
    cuda = FakeCuda(version=12020)
    found = look(machine, cuda, needed=(12, 8))
    assert found.reason == (
        "NVIDIA's driver 535.129.03 serves CUDA 12.2, and CUDA 12.8 is needed: driver 570.26 or newer"
    )
    assert found.fix == "install driver 570.26 or newer: https://www.nvidia.com/drivers"
    assert cuda.calls == [], "a driver that is too old need not be started"


def test_an_old_driver_is_mended_on_the_host_on_windows_or_by_jetpack(tmp_path):
    old = FakeCuda(version=11040)
    places = {
        "host": lambda machine: machine.container(),
        "Windows": lambda machine: machine.write("dev/dxg"),
        "JetPack": lambda machine: machine.write("etc/nv_tegra_release", "# R35"),
    }
    for word, prepare in places.items():
        assert word in look(prepare(Machine(tmp_path / word)), old, needed=(12, 0)).fix


def test_a_version_newer_than_the_table_asks_for_the_newest_driver(machine):
    found = look(machine, FakeCuda(version=13000), needed=(99, 0))
    assert found.fix == "install the newest driver: https://www.nvidia.com/drivers"


def test_the_table_of_drivers_grows_with_the_version():
    numbers = [tuple(map(int, written.split("."))) for _, written in sorted(DRIVERS.items())]
    assert numbers == sorted(numbers)
    assert needed_driver((12, 7)) == DRIVERS[12, 8]
    assert needed_driver((99, 0)) is None


# With a driver that does not start


@pytest.mark.parametrize(
    ("code", "reason", "fix"),
    [
        (2, "not enough memory", "nvidia-smi"),
        (34, "stub", "LD_LIBRARY_PATH"),
        (46, "busy", "sudo nvidia-smi -c DEFAULT"),
        (304, "forbids this user", "ls -l /dev/nvidia*"),
        (802, "fabric manager", "sudo systemctl enable --now nvidia-fabricmanager"),
        (803, "unlike versions", "sudo reboot"),
        (804, "cuda-compat", "LD_LIBRARY_PATH"),
        (805, "multi-process service", "nvidia-cuda-mps-control"),
        (999, "slept", "nvidia_uvm"),
        (214, "CUDA_ERROR_ECC_UNCORRECTABLE (214)", "nvidia-smi"),
        (4711, "an error without a name (4711)", "nvidia-smi"),
    ],
)
def test_each_refusal_of_cuinit_has_its_own_sentence(machine, code, reason, fix):
    machine.running()
    found = look(machine, FakeCuda(init=code))
    assert reason in found.reason
    assert str(code) in found.reason
    assert fix in found.fix


def test_unlike_versions_are_both_named(machine):
    machine.running().write(
        "proc/self/maps", "7f00-7f01 r-xp 0 0:0 1 /usr/lib/x86_64-linux-gnu/libcuda.so.575.57.08\n"
    )
    found = look(machine, FakeCuda(init=803))
    assert "kernel module (580.65.06) and libcuda (575.57.08)" in found.reason


def test_unlike_versions_in_a_container_are_not_mended_there(machine):
    machine.running().container()
    assert "reboot the host" in look(machine, FakeCuda(init=803)).fix


def test_a_stub_is_known_even_where_it_does_not_tell_its_version(machine):
    assert "stub" in look(machine, FakeCuda(version_error=34)).reason


def test_missing_unified_memory_is_told_from_an_unknown_error(machine):
    machine.running()
    (machine.root / "dev/nvidia-uvm").unlink()
    assert look(machine, FakeCuda(init=999)).fix == "sudo nvidia-modprobe -u -c=0"


def test_a_container_that_lost_its_gpu_is_restarted(machine):
    machine.running().container()
    assert look(machine, FakeCuda(init=304)).fix == "restart the container"


# With a driver that sees no device


def test_libcuda_of_an_image_without_any_driver_is_no_driver(machine):
    machine.container()
    assert "no NVIDIA GPU" in look(machine, FakeCuda(init=100)).reason


def test_libcuda_in_a_container_without_device_files_needs_the_runtime(machine):
    machine.driver().container()
    assert look(machine, FakeCuda(init=100)).fix.startswith("docker run --gpus all")


def test_missing_device_files_outside_a_container_are_made(machine):
    machine.driver()
    assert look(machine, FakeCuda(init=100)).fix == "sudo nvidia-modprobe -u -c=0"


@pytest.mark.parametrize("value", ["", "-1", "-1,0", "NoDevFiles", " "])
def test_a_variable_that_hides_all_gpus_is_named_with_its_value(machine, value):
    machine.running()
    management = FakeNvml(uuids=[FIRST, SECOND])
    found = look(machine, FakeCuda(init=100), management, {"CUDA_VISIBLE_DEVICES": value})
    assert found.reason == (
        f"CUDA_VISIBLE_DEVICES is {value!r}, which hides the 2 GPUs that NVIDIA's driver knows"
    )
    assert found.fix == "unset CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize("value", ["7", "GPU-ffff", "MIG-ffff"])
@pytest.mark.parametrize("answer", [{"init": 100}, {"init": 101}, {"cards": []}])
def test_a_variable_that_names_no_gpu_is_named_with_its_value(machine, value, answer):
    machine.running()
    found = look(machine, FakeCuda(**answer), FakeNvml(), {"CUDA_VISIBLE_DEVICES": value})
    assert found.reason == (
        f"CUDA_VISIBLE_DEVICES is {value!r}, which names none of the 1 GPU that NVIDIA's driver knows"
    )


def test_without_nvml_the_kernel_counts_the_gpus(machine):
    machine.running().write("proc/driver/nvidia/gpus/0000:01:00.0/information")
    found = look(machine, FakeCuda(init=100), environ={"CUDA_VISIBLE_DEVICES": "-1"})
    assert "hides the 1 GPU that" in found.reason


def test_mig_without_an_instance_says_how_to_make_one(machine):
    machine.running()
    management = FakeNvml(parts={FIRST: []}, answers={FIRST: {"nvmlDeviceGetMigMode": [1, 1]}})
    found = look(machine, FakeCuda(init=100), management)
    assert found.reason.startswith("MIG is enabled, but no instance has been created")
    assert found.fix.startswith("sudo nvidia-smi mig -cgi 0 -C")


def test_a_variable_that_names_a_divided_gpu_is_given_an_instance(machine):
    machine.running()
    management = FakeNvml(parts={FIRST: [SLICE]}, answers={FIRST: {"nvmlDeviceGetMigMode": [1, 1]}})
    found = look(machine, FakeCuda(init=100), management, {"CUDA_VISIBLE_DEVICES": FIRST})
    assert "(MIG instances: 1)" in found.reason
    assert found.fix == f"export CUDA_VISIBLE_DEVICES={SLICE}"


def test_a_jetson_that_shows_no_device_is_a_matter_of_rights(machine):
    machine.write("etc/nv_tegra_release", "# R36")
    assert "usermod -aG video,render" in look(machine, FakeCuda(init=100)).fix


def test_no_device_for_no_known_reason_says_how_many_there_are(machine):
    machine.running()
    assert look(machine, FakeCuda(cards=[]), FakeNvml()).reason == (
        "CUDA sees no device, of the 1 GPU that NVIDIA's driver knows"
    )


# With devices


def test_gpus_are_described_in_cuda_s_order_with_their_free_memory(machine):
    machine.running()
    cards = [Card(SECOND, "NVIDIA H100", (9, 0), 80 * GIB), Card()]
    answers = {SECOND: {"nvmlDeviceGetMemoryInfo": memory(80 * GIB, 79 * GIB)}}
    management = FakeNvml(uuids=[FIRST, SECOND], answers=answers)
    assert look(machine, FakeCuda(cards), management) == (
        nvidia.Gpu(
            0, SECOND, "NVIDIA H100", (9, 0), 80 * GIB, 79 * GIB, management.nvmlSystemGetDriverVersion()
        ),
        nvidia.Gpu(
            1, FIRST, "NVIDIA RTX 4090", (8, 9), 24 * GIB, None, management.nvmlSystemGetDriverVersion()
        ),
    )
    assert management.open == 0, "NVML is closed again"


def test_a_mig_instance_has_its_own_uuid_and_memory(machine):
    machine.running()
    cuda = FakeCuda([Card(name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", memory=5 * GIB, part=SLICE)])
    management = FakeNvml(
        parts={FIRST: [SLICE]}, answers={SLICE: {"nvmlDeviceGetMemoryInfo": memory(5 * GIB, 4 * GIB)}}
    )
    (gpu,) = look(machine, cuda, management)
    assert (gpu.uuid, gpu.free_bytes) == (SLICE, 4 * GIB)


def test_without_nvml_free_memory_is_not_told_and_nothing_else_is_lost(machine):
    machine.running()
    (gpu,) = look(machine, FakeCuda())
    assert (gpu.uuid, gpu.free_bytes) == (FIRST, None)


def test_a_driver_without_uuids_leaves_them_empty(machine):
    class Old(FakeCuda):
        def __getattribute__(self, name):
            if name.startswith("cuDeviceGetUuid"):
                raise AttributeError(f"undefined symbol: {name}")
            return super().__getattribute__(name)

    (gpu,) = look(machine.running(), Old())
    assert gpu.uuid == ""


@pytest.mark.parametrize(
    ("mode", "words"), [(2, "forbids computing"), (3, "lets one process at a time compute")]
)
def test_a_compute_mode_that_forbids_is_named_with_its_command(machine, mode, words):
    found = look(machine.running(), FakeCuda([Card(compute_mode=mode)]))
    assert words in found.reason
    assert found.fix == f"sudo nvidia-smi -i {FIRST} -c DEFAULT"


def test_a_full_gpu_is_out_of_memory(machine):
    answers = {FIRST: {"nvmlDeviceGetMemoryInfo": memory(24 * GIB, 20 * 2**20)}}
    found = look(machine.running(), FakeCuda(), FakeNvml(answers=answers))
    assert found.reason == "NVIDIA RTX 4090 is out of memory: 20 of 24576 MiB are free"


def test_a_gpu_that_cannot_be_used_leaves_the_others_their_numbers(machine):
    cuda = FakeCuda([Card(compute_mode=2), Card(SECOND)])
    assert [gpu.id for gpu in look(machine.running(), cuda)] == ["cuda:1"]


def test_a_probe_never_raises(machine):
    class Broken(FakeCuda):
        def cuDeviceGetCount(self, count):
            raise ctypes.ArgumentError("broken")

    found = look(machine.running(), Broken())
    assert found.reason == "asking NVIDIA's driver failed: ArgumentError: broken"


def test_this_machine_answers_one_way_or_the_other():
    found = nvidia.look()
    assert isinstance(found, Unavailable) or all(gpu.memory_bytes for gpu in found)


# What a GPU computes


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((5, 2), ("fp32",)),
        ((6, 0), ("fp32", "fp16")),
        ((7, 5), ("fp32", "fp16", "int8")),
        ((8, 0), ("fp32", "tf32", "fp16", "bf16", "int8")),
        ((12, 0), ("fp32", "tf32", "fp16", "bf16", "int8")),
    ],
)
def test_precisions_are_those_of_the_units(capability, expected):
    assert nvidia.precisions(nvidia.Gpu(0, "", "a GPU", capability, GIB)) == expected


def test_devices_carry_uuid_and_the_declared_precisions_only():
    gpus = [nvidia.Gpu(0, FIRST, "old", (7, 0), GIB), nvidia.Gpu(1, SECOND, "new", (9, 0), GIB)]
    old, new = nvidia.devices(gpus, ("fp32", "tf32", "fp16"))
    assert (old.id, old.uuid, old.precisions) == ("cuda:0", FIRST, ("fp32", "fp16"))
    assert (new.id, new.uuid, new.precisions) == ("cuda:1", SECOND, ("fp32", "tf32", "fp16"))


# What an error of a library means


GPU = nvidia.Gpu(0, FIRST, "NVIDIA GTX 970", (5, 2), 4 * GIB)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), "out of memory on NVIDIA GTX 970"),
        (RuntimeError("CUDA failure 2: CUDA_ERROR_OUT_OF_MEMORY"), "out of memory on NVIDIA GTX 970"),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device"),
            "the library has no kernels for NVIDIA GTX 970 (compute capability 5.2)",
        ),
        (
            RuntimeError("Internal Error (Target GPU SM 52 is not supported by this TensorRT release.)"),
            "the library has no kernels for NVIDIA GTX 970 (compute capability 5.2)",
        ),
        (
            RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
            "NVIDIA's driver is older than the CUDA version that the library was built with",
        ),
        (
            RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
            "NVIDIA GTX 970 is busy: another process holds it alone",
        ),
    ],
)
def test_an_error_of_a_library_becomes_a_sentence(error, reason):
    assert nvidia.lack(error, [GPU]).reason == reason


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("libcudnn.so.9", "pip install nvidia-cudnn-cu12  (for CUDA 13: nvidia-cudnn-cu13)"),
        ("libcublasLt.so.13", "pip install nvidia-cublas"),
        ("libnvinfer.so.10", "pip install 'tensorrt>=10,<11'"),
        ("libfoo_bar.so.3", "ldconfig -p | grep libfoo_bar"),
        ("libcuda.so.1", "nvidia-smi  (does it work?)"),
    ],
)
def test_a_missing_library_names_its_package(name, fix):
    words = f"{name}: cannot open shared object file: No such file or directory"
    found = nvidia.lack(ImportError(words))
    assert found.fix == fix
    assert name in found.reason


def test_an_error_is_known_by_what_it_was_raised_from():
    error = RuntimeError("the engine could not be made")
    error.__cause__ = MemoryError("CUDA_ERROR_OUT_OF_MEMORY")
    assert nvidia.lack(error).reason == "out of memory on the GPU"


def test_an_error_that_is_not_known_stays_as_it_is():
    assert nvidia.lack(ValueError("shape mismatch"), [GPU]) is None


# The seam itself


LIBCUDA = """
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 41 + ordinal; return ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int of) { strncpy(name, "compiled", size); return of != 41; }
int cuDeviceGetUuid(unsigned char *uuid, int device) { memset(uuid, 17, 16); return device != 41; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, 34, 16); return device != 41; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 9 : 0;
    return device != 41;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { *size = (size_t)80 << 30; return device != 41; }
int cuGetErrorName(int error, const char **name) { *name = error == 101 ? "INVALID" : 0; return !*name; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_compiled_library_is_called_as_cuda_h_declares_it(tmp_path):
    source = tmp_path / "cuda.c"
    source.write_text(LIBCUDA)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libfake.so", source], check=True)
    asked = driver.Driver(ctypes.CDLL(str(tmp_path / "libfake.so")))
    asked.initialise()
    assert (asked.version(), asked.count()) == ((12, 8), 1)
    assert asked.gpu(0) == nvidia.Gpu(
        0, f"MIG-{UUID(int=0x22222222222222222222222222222222)}", "compiled", (9, 0), 80 * GIB
    )
    with pytest.raises(driver.CudaError, match=r"INVALID \(101\)"):
        asked.gpu(1)


def test_the_fake_nvml_has_what_the_protocol_names():
    names = {name for name, _ in inspect.getmembers(nvml.Nvml, inspect.isfunction) if name.startswith("nvml")}
    assert all(callable(getattr(FakeNvml(), name)) for name in names)


def test_every_function_that_is_asked_by_name_is_in_the_protocol():
    package = Path(nvml.__file__).parent
    asked = {name for file in package.glob("*.py") for name in re.findall(r'"(nvml\w+)"', file.read_text())}
    assert asked
    assert asked <= set(dir(nvml.Nvml))


def test_nvidia_ml_py_has_every_function_of_the_protocol():
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in vars(nvml.Nvml) if name.startswith("nvml")]
    second = set(nvml.TEMPERATURE[1:] + nvml.EVENT_REASONS[1:])
    assert [name for name in names if name not in second and not hasattr(pynvml, name)] == []


def test_the_fake_libcuda_has_what_the_protocol_names():
    names = [name for name in vars(driver.CudaLibrary) if name.startswith("cu")]
    assert [name for name in names if not hasattr(FakeCuda, name)] == []


def test_traces_of_an_empty_machine_are_empty(tmp_path):
    assert traces.read(tmp_path) == traces.Traces(
        platform="linux",
        container=False,
        module="",
        nodes=False,
        manager=False,
        cards=(),
        library=None,
        loaded="",
    )
