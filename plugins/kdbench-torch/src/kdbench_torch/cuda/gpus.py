"""Which GPUs this torch can drive, or what is lacking, in one sentence with the command that mends it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from kdbench import Availability, Available, Unavailable, nvidia
from kdbench.nvidia import Gpu
from kdbench.spec import Precision
from kdbench_torch.cpu import OLDEST

WHEELS: dict[int, str] = {13: "cu130", 12: "cu126"}
"""The index of torch's wheels for a driver's major version of CUDA, the newest first.

A build for CUDA 13.x runs with any driver of CUDA 13, one for 12.x with any of CUDA 12 or 13:
docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html.
"""

OF_CUDA = (
    "pip install --force-reinstall 'torch>=2.6' --index-url https://download.pytorch.org/whl/{wheels}"
    " && pip install safetensors"
)


def look(declared: Collection[Precision]) -> Availability:
    """Find the GPUs that both the driver and this torch can use.

    declared: the backend's precisions; each GPU gets those that its units compute.
    """
    try:
        import torch
        from safetensors.torch import load_file as load_file
    except ModuleNotFoundError as fault:
        return Unavailable(f"The Python package {fault.name} is not installed.", _install())
    except (ImportError, OSError) as fault:
        told = f"PyTorch is installed and cannot be imported: {_line(fault)}"
        return nvidia.lack(fault) or Unavailable(told, _install())
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST:
        return Unavailable(f"PyTorch {torch.__version__} is too old.", _install())
    return _of_torch(torch, declared)


def _of_torch(torch: Any, declared: Collection[Precision]) -> Availability:
    build, wrong = str(torch.version.cuda or ""), _wrong_build(torch)
    # The major version alone: within it, a driver runs what is built for any minor version.
    gpus = nvidia.look((int(build.split(".")[0]), 0)) if build else nvidia.look()
    if isinstance(gpus, Unavailable):
        # Without a device no other torch would help, so the fix is the driver's; both lacks are told.
        besides = f"; besides, {wrong}" if wrong else ""
        fix = _older_build(build) or gpus.fix
        return Unavailable(_sentence(gpus.reason.rstrip(".") + besides), fix)
    if wrong:
        return Unavailable(_sentence(f"{gpus[0].name} is here, but {wrong}"), _install())
    if not torch.cuda.is_available():
        return _unseen(torch)
    count = torch.cuda.device_count()
    return _suited(torch, [gpu for gpu in gpus if gpu.index < count], declared)


def _suited(torch: Any, gpus: Sequence[Gpu], declared: Collection[Precision]) -> Availability:
    architectures = list(torch.cuda.get_arch_list())
    suited = [gpu for gpu in gpus if runs_on(architectures, gpu.capability)]
    if suited:
        return Available(str(torch.__version__), nvidia.devices(suited, declared))
    if not gpus:
        return Unavailable("PyTorch sees other GPUs than NVIDIA's driver tells.", "unset CUDA_DEVICE_ORDER")
    gpu = gpus[0]
    name, held = f"sm_{gpu.capability[0]}{gpu.capability[1]}", ", ".join(architectures)
    return Unavailable(
        f"PyTorch {torch.__version__} holds no code for {gpu.name} ({name}), only for {held}.",
        f"Install a PyTorch that is built for {name}: see pytorch.org/get-started/locally.",
    )


def runs_on(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Tell whether code for these architectures runs on a device; none given means that torch does not tell.

    Machine code (`sm_86`) runs on the same or a later minor version of its major one, `sm_90a` only on its
    own, and PTX (`compute_90`) on everything later too:
    docs.nvidia.com/cuda/cuda-c-programming-guide, "Binary Compatibility" and "PTX Compatibility".
    """
    return not architectures or any(_fits(name, capability) for name in architectures)


def _fits(architecture: str, capability: tuple[int, int]) -> bool:
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
    if not found:
        return False
    kind, *numbers, suffix = found.groups()
    major, minor = map(int, numbers)
    if suffix == "a":
        return (major, minor) == capability
    if kind == "compute" and not suffix:
        return (major, minor) <= capability
    return major == capability[0] and minor <= capability[1]


def _wrong_build(torch: Any) -> str:
    """Say what this build of torch is for instead; empty if it is for CUDA."""
    if torch.version.cuda:
        return ""
    kind = "for AMD GPUs (ROCm)" if torch.version.hip else "for CPUs only"
    return f"PyTorch {torch.__version__} is built {kind}"


def _unseen(torch: Any) -> Unavailable:
    """Say why torch sees no device where the driver shows one, as far as torch tells."""
    reason = f"PyTorch {torch.__version__} sees no CUDA device"
    try:
        torch.cuda.init()
    # Whatever it is, it is the answer to the question.
    except Exception as fault:
        told = Unavailable(_sentence(f"{reason}: {_line(fault)}"), "nvidia-smi  (does it work?)")
        return nvidia.lack(fault) or told
    return Unavailable(f"{reason} and does not say why.", "nvidia-smi  (does it work?)")


def _install() -> str:
    """Give the line that installs a torch for this machine's driver, the newest one if there is none."""
    majors = _served()
    return OF_CUDA.format(wheels=WHEELS[majors[0] if majors else max(WHEELS)])


def _older_build(build: str) -> str:
    """Give the line for an older CUDA than this build's where the driver serves that; else nothing."""
    majors = [major for major in _served() if build and major < int(build.split(".")[0])]
    return OF_CUDA.format(wheels=WHEELS[majors[0]]) if majors else ""


def _served() -> list[int]:
    """List the major versions of CUDA that this machine's driver serves, the newest first."""
    return [major for major in WHEELS if not isinstance(nvidia.look((major, 0)), Unavailable)]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _line(fault: BaseException) -> str:
    return " ".join(str(fault).split()[:40])
