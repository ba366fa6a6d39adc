"""The devices that ncnn can compute on here, and in which precisions it really computes on them.

A precision is offered where arithmetic is done in it. ncnn also keeps 16-bit weights and activations on CPUs
that widen them to fp32 for every product; that is a way of storing, and not a precision of computing.
"""

from __future__ import annotations

import platform
from pathlib import Path

import ncnn  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Device
from kdbench.spec import Precision

CPU_FACTS = Path("/proc/cpuinfo")
BF16_UNITS = ("avx512_bf16", "bf16")
"""What Linux calls units that multiply bf16, on x86 and on ARM; ncnn uses both, and does not tell Python."""

NOTHING = "7767517\n2 2\nInput in0 0 1 in0\nNoop out0 1 1 in0 out0\n"
"""A network without work, to have ncnn strike from its options what a GPU cannot do."""


def find_devices() -> tuple[Device, ...]:
    """List the CPU, and each GPU that Vulkan finds; that Vulkan's loader is missing ncnn says on stderr."""
    count = ncnn.get_gpu_count()
    cpu = Device("cpu", _fact("model name", "model") or platform.machine(), cpu_precisions())
    gpus = (
        Device(f"gpu.{index}", ncnn.get_gpu_info(index).device_name(), gpu_precisions(index))
        for index in range(count)
    )
    return (cpu, *gpus)


def offered(device: str) -> tuple[Precision, ...]:
    """Tell what a device computes in; nothing where there is none of this id."""
    if device == "cpu":
        return cpu_precisions()
    index = gpu_index(device)
    return gpu_precisions(index) if 0 <= index < ncnn.get_gpu_count() else ()


def gpu_index(device: str) -> int:
    """Turn `gpu.1` into the number by which ncnn knows it."""
    return int(device.removeprefix("gpu."))


def cpu_precisions() -> tuple[Precision, ...]:
    """Tell what this CPU computes in by ncnn."""
    fp16: tuple[Precision, ...] = ("fp16",) if ncnn.cpu_support_arm_asimdhp() else ()
    bf16: tuple[Precision, ...] = ("bf16",) if _multiplies_bf16() else ()
    return ("fp32", *fp16, *bf16)


def gpu_precisions(index: int) -> tuple[Precision, ...]:
    """Tell what a GPU computes in: all is asked for, and ncnn takes back what the driver does not have."""
    net = ncnn.Net()
    for name in ("use_vulkan_compute", "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, name, True)
    net.set_vulkan_device(index)
    net.load_param_mem(NOTHING)
    fp16: tuple[Precision, ...] = ("fp16",) if net.opt.use_fp16_arithmetic else ()
    return ("fp32", *fp16)


def _multiplies_bf16() -> bool:
    flags = _fact("flags", "features").split()
    return any(unit in flags for unit in BF16_UNITS)


def _fact(*names: str) -> str:
    """Look up the first of these in Linux's list; empty where there is none, as on macOS and Windows."""
    lines = CPU_FACTS.read_text(errors="replace").splitlines() if CPU_FACTS.exists() else []
    facts = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    return next((facts[name] for name in names if name in facts), "")
