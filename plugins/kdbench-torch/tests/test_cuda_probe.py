"""Every answer of torch-cuda's probe; fake are what the driver tells and what torch was built for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from kdbench import Available, Device, Unavailable, nvidia
from kdbench.nvidia import Gpu
from kdbench_torch import cuda
from kdbench_torch.cuda.gpus import runs_on

torch = pytest.importorskip("torch")

NO_DRIVER = Unavailable("this machine shows no NVIDIA GPU and no NVIDIA driver", "get a GPU")
TOO_OLD = Unavailable("NVIDIA's driver serves CUDA 12.4, and CUDA 13.0 is needed", "install driver 580")
ADA = Gpu(0, "GPU-1", "NVIDIA L4", (8, 9), 24 << 30)
TURING = Gpu(1, "GPU-2", "NVIDIA T4", (7, 5), 16 << 30)

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def torch_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what torch was built for, and what it sees."""

    def build(
        cuda: str | None, *, hip: str | None = None, seen: int = 0, held: list[str] | None = None
    ) -> None:
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: held or [])

    return build


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, int]]]:
    """Say which GPUs the driver shows, and which CUDA it serves; answers the versions that were asked for."""

    def show(*gpus: Gpu, served: int = 13, lack: Unavailable = NO_DRIVER) -> list[tuple[int, int]]:
        asked: list[tuple[int, int]] = []

        def look(cuda: tuple[int, int] = (12, 0)) -> tuple[Gpu, ...] | Unavailable:
            asked.append(cuda)
            if not gpus:
                return lack
            return gpus if cuda[0] <= served else TOO_OLD

        monkeypatch.setattr(nvidia, "look", look)
        return asked

    return show


def lack() -> Unavailable:
    answer = cuda.kdbench_probe()
    assert isinstance(answer, Unavailable)
    assert answer.reason[0].isupper()
    assert answer.reason.endswith(".")
    assert "\n" not in answer.reason
    assert answer.fix
    return answer


def test_both_lacks_are_told_where_there_is_neither_a_driver_nor_a_torch_for_it(driver, torch_of):
    driver()
    torch_of(None)
    assert "no NVIDIA driver; besides, PyTorch" in lack().reason
    assert "is built for CPUs only" in lack().reason
    assert lack().fix == "get a GPU"


@pytest.mark.parametrize(("served", "wheels"), [(13, "cu130"), (12, "cu126")])
def test_a_torch_for_cpus_beside_a_gpu_is_replaced_by_one_that_the_driver_can_run(
    driver, torch_of, served, wheels
):
    driver(ADA, served=served)
    torch_of(None)
    assert "NVIDIA L4 is here, but PyTorch" in lack().reason
    assert f"--index-url https://download.pytorch.org/whl/{wheels}" in lack().fix


def test_a_torch_for_amd_is_called_that(driver, torch_of):
    driver(ADA)
    torch_of(None, hip="7.2")
    assert "built for AMD GPUs (ROCm)" in lack().reason


def test_a_driver_too_old_for_this_torch_gets_the_torch_for_an_older_cuda(driver, torch_of):
    driver(ADA, served=12)
    torch_of("13.0")
    assert lack().reason == TOO_OLD.reason + "."
    assert "whl/cu126" in lack().fix


def test_a_driver_too_old_for_any_torch_is_to_be_renewed(driver, torch_of):
    driver(ADA, served=11)
    torch_of("12.6")
    assert lack().fix == "install driver 580"


def test_within_a_major_version_any_driver_will_do(driver, torch_of):
    asked = driver(ADA)
    torch_of("13.2", seen=1)
    assert isinstance(cuda.kdbench_probe(), Available)
    assert asked == [(13, 0)]


def test_torch_itself_is_asked_why_it_sees_no_device(driver, torch_of, monkeypatch):
    def fail() -> None:
        raise RuntimeError("CUDA unknown error\nthis may be due to an incorrectly set up environment")

    driver(ADA)
    torch_of("13.0")
    monkeypatch.setattr(torch.cuda, "init", fail)
    assert "sees no CUDA device: CUDA unknown error this may be due" in lack().reason


def test_a_card_for_which_torch_holds_no_code_is_named_with_its_architecture(driver, torch_of):
    driver(Gpu(0, "GPU-3", "NVIDIA TITAN V", (7, 0), 12 << 30))
    torch_of("13.0", seen=1, held=ARCHITECTURES)
    assert "holds no code for NVIDIA TITAN V (sm_70)" in lack().reason


def test_several_gpus_are_listed_each_with_what_its_units_compute(driver, torch_of):
    driver(ADA, TURING)
    torch_of("13.0", seen=2, held=ARCHITECTURES)
    answer = cuda.kdbench_probe()
    assert answer == Available(
        str(torch.__version__),
        (
            Device("cuda:0", "NVIDIA L4", ("fp32", "tf32", "fp16", "bf16"), "GPU-1"),
            Device("cuda:1", "NVIDIA T4", ("fp32", "fp16"), "GPU-2"),
        ),
    )


def test_a_card_that_torch_cannot_use_does_not_hide_one_that_it_can(driver, torch_of):
    driver(Gpu(0, "GPU-4", "old", (5, 0), 1), TURING)
    torch_of("13.0", seen=2, held=ARCHITECTURES)
    answer = cuda.kdbench_probe()
    assert isinstance(answer, Available)
    assert [device.id for device in answer.devices] == ["cuda:1"]


def test_a_missing_torch_is_installed_for_the_driver_that_is_there(driver, monkeypatch):
    driver(ADA, served=12)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch is not installed" in lack().reason
    assert "whl/cu126" in lack().fix


def test_a_torch_that_is_too_old_is_replaced(driver, monkeypatch):
    driver(ADA)
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert "2.5.1 is too old" in lack().reason


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 9), ["sm_80", "sm_86"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((8, 0), ["compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 0), ["sm_100f", "compute_100f"], False),
        ((7, 5), [], True),
    ],
)
def test_code_runs_within_its_major_version_and_ptx_on_everything_later(capability, architectures, runs):
    assert runs_on(architectures, capability) is runs


def test_a_run_by_name_explains_itself_in_one_sentence_and_ends_with_3():
    if isinstance(cuda.kdbench_probe(), Available):
        pytest.skip("There is a GPU here that torch can use.")
    done = subprocess.run(
        [sys.executable, "-m", "kdbench", "run", "-b", "torch-cuda"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert lack().reason in " ".join(done.stderr.split())
