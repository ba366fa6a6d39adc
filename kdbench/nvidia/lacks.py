"""What can be lacking before CUDA sees a GPU: each in one sentence, with the command that mends it.

docs.nvidia.com/cuda/cuda-driver-api ("Data types used by CUDA driver", CUresult), /cuda/wsl-user-guide,
/deploy/cuda-compatibility, /datacenter/tesla/mig-user-guide, /datacenter/tesla/fabric-manager-user-guide,
/datacenter/cloud-native/container-toolkit.
"""

from __future__ import annotations

from kdbench.nvidia.driver import EXCLUSIVE_PROCESS, NAME, CudaError
from kdbench.nvidia.gpu import Gpu
from kdbench.nvidia.traces import Traces
from kdbench.nvidia.versions import needed_driver, written
from kdbench.spec import Unavailable

_DRIVERS = "https://www.nvidia.com/drivers"
_IN_CONTAINER = {
    "linux": "docker run --gpus all … (with nvidia-container-toolkit; in Kubernetes a limit nvidia.com/gpu)",
    "wsl": "docker run --gpus all …  (needs nvidia-container-toolkit)",
    "tegra": "docker run --runtime nvidia …  (needs nvidia-container-toolkit)",
}


def library(traces: Traces, error: OSError) -> Unavailable:
    """Say why the driver's library could not be loaded."""
    if traces.library and str(error).startswith(f"{NAME}: cannot open"):
        return Unavailable(
            f"{NAME} lies in {traces.library}, where the loader does not look",
            f"export LD_LIBRARY_PATH={traces.library}:$LD_LIBRARY_PATH",
        )
    if traces.library:
        return Unavailable(f"{NAME} is there but does not load: {error}", "ldconfig -p | grep libcuda")
    if traces.platform == "wsl":
        return _wsl(traces)
    if traces.platform == "tegra":
        fix = _IN_CONTAINER["tegra"] if traces.container else "sudo apt install nvidia-l4t-cuda"
        return Unavailable(f"this is a Jetson without {NAME}", fix)
    if traces.module:
        return _module_only(traces)
    return no_driver(traces)


def no_driver(traces: Traces) -> Unavailable:
    """Say that no driver is loaded: because there is no card, or in spite of one."""
    if not traces.cards:
        return Unavailable(
            "this machine shows no NVIDIA GPU and no NVIDIA driver",
            "run this on a machine with an NVIDIA GPU",
        )
    holder = traces.cards[0]
    if holder == "vfio-pci":
        return Unavailable(
            "the NVIDIA GPU of this machine is handed on to a virtual machine (vfio-pci)",
            "run this in that virtual machine",
        )
    held = "" if holder in ("none", "nvidia") else f" ({holder} holds it)"
    fix = (
        "sudo modprobe nvidia"
        if holder == "nvidia"
        else f"sudo ubuntu-drivers install, or {_DRIVERS}; then reboot"
    )
    if traces.container:
        fix += " (on the host)"
    return Unavailable(f"there is an NVIDIA GPU, but NVIDIA's driver is not loaded{held}", fix)


def too_old(traces: Traces, served: tuple[int, int], cuda: tuple[int, int]) -> Unavailable:
    """Say which CUDA version the driver serves, which is needed, and which driver serves that."""
    driver = f"NVIDIA's driver {traces.module}" if traces.module else "NVIDIA's driver"
    reason = f"{driver} serves CUDA {written(served)}, and CUDA {written(cuda)} is needed"
    if traces.platform == "wsl":
        return Unavailable(reason, f"install the newest driver on Windows: {_DRIVERS}; then wsl --shutdown")
    if traces.platform == "tegra":
        return Unavailable(reason, "install a newer JetPack: https://developer.nvidia.com/embedded/jetpack")
    needed = needed_driver(cuda)
    place = " on the host" if traces.container else ""
    if needed is None:
        return Unavailable(reason, f"install the newest driver{place}: {_DRIVERS}")
    return Unavailable(
        f"{reason}: driver {needed} or newer", f"install driver {needed} or newer{place}: {_DRIVERS}"
    )


def refused(traces: Traces, error: CudaError) -> Unavailable:
    """Say what cuInit's refusal means; `CUDA_ERROR_NO_DEVICE` is for `kdbench.nvidia.sight`."""
    if error.code == 803:
        return _unlike(traces)
    if error.code == 304 and traces.container:
        # A reload of systemd on the host takes the devices away from containers that are running.
        return Unavailable(f"this container has lost its GPU ({error})", "restart the container")
    if error.code == 999 and traces.platform == "linux" and not traces.manager:
        return Unavailable("the device file /dev/nvidia-uvm is missing", "sudo nvidia-modprobe -u -c=0")
    reason, fix = _REFUSALS.get(error.code, (f"NVIDIA's driver does not start: {error}", "nvidia-smi"))
    return Unavailable(reason if str(error.code) in reason else f"{reason} ({error})", fix)


_REFUSALS = {
    2: ("there is not enough memory to start NVIDIA's driver", "nvidia-smi  (shows who holds it); stop that"),
    34: (
        f"the {NAME} that is loaded is the CUDA toolkit's stub and not the driver's",
        "take the toolkit's folder `stubs` out of LD_LIBRARY_PATH",
    ),
    46: (
        "the GPU is busy: another process holds it alone, or its compute mode forbids contexts",
        "sudo nvidia-smi -c DEFAULT",
    ),
    102: ("this virtual GPU has no licence", "nvidia-smi -q | grep -i license"),
    304: ("the operating system forbids this user the GPU", "ls -l /dev/nvidia*"),
    802: (
        "the GPUs wait for NVIDIA's fabric manager, which does not run",
        "sudo systemctl enable --now nvidia-fabricmanager",
    ),
    804: (
        "the libcuda.so.1 that is loaded is that of cuda-compat, which serves data centre GPUs only",
        "take the folder `compat` out of LD_LIBRARY_PATH, or install a newer driver: " + _DRIVERS,
    ),
    805: (
        "CUDA's multi-process service is asked for and does not answer",
        "unset CUDA_MPS_PIPE_DIRECTORY, or nvidia-cuda-mps-control -d",
    ),
    999: (
        "NVIDIA's driver does not start, as it may be after the machine has slept",
        "sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm, or sudo reboot",
    ),
}


def nodes(traces: Traces) -> Unavailable:
    """Say that the kernel module is loaded and its device files are not here."""
    if traces.container:
        return Unavailable(
            "this container was started without NVIDIA's runtime", _IN_CONTAINER[traces.platform]
        )
    return Unavailable("the device files /dev/nvidia* are missing", "sudo nvidia-modprobe -u -c=0")


def mode(gpu: Gpu, compute_mode: int) -> Unavailable:
    """Say that a GPU's compute mode forbids what kdbench needs: contexts of several processes at once."""
    kind = "lets one process at a time compute" if compute_mode == EXCLUSIVE_PROCESS else "forbids computing"
    reason = f"the compute mode of {gpu.name} {kind}, and kdbench keeps several processes alive"
    if compute_mode != EXCLUSIVE_PROCESS:
        reason = f"the compute mode of {gpu.name} {kind}"
    return Unavailable(reason, f"sudo nvidia-smi -i {gpu.uuid or gpu.index} -c DEFAULT")


def memory(gpu: Gpu) -> Unavailable:
    """Say that too little memory is free for a context."""
    free, whole = (gpu.free_bytes or 0) / 2**20, gpu.memory_bytes / 2**20
    return Unavailable(
        f"{gpu.name} is out of memory: {free:.0f} of {whole:.0f} MiB are free",
        "nvidia-smi  (shows who holds it); stop that",
    )


def _wsl(traces: Traces) -> Unavailable:
    if traces.container:
        return Unavailable("this container was started without NVIDIA's runtime", _IN_CONTAINER["wsl"])
    return Unavailable(
        f"this is WSL 2 without {NAME}, which NVIDIA's driver for Windows brings",
        f"install the driver on Windows, not here: {_DRIVERS}; then wsl --update && wsl --shutdown",
    )


def _module_only(traces: Traces) -> Unavailable:
    if traces.container:
        return nodes(traces)
    return Unavailable(
        f"the kernel module of NVIDIA's driver {traces.module} is loaded, but {NAME} is not installed",
        f"sudo apt install libnvidia-compute-{traces.module.partition('.')[0]}  (Debian: libcuda1; "
        "Fedora: xorg-x11-drv-nvidia-cuda-libs)",
    )


def _unlike(traces: Traces) -> Unavailable:
    module = f" ({traces.module})" if traces.module else ""
    user = f" ({traces.loaded})" if traces.loaded else ""
    reason = (
        f"the loaded kernel module{module} and libcuda{user} of NVIDIA's driver are of unlike versions (803)"
    )
    if traces.container:
        return Unavailable(reason, "reboot the host, and start the container without a libcuda of its own")
    return Unavailable(reason, "sudo reboot")
