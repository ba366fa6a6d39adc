"""What the kernel shows of NVIDIA: module, device files, cards; and what kind of machine this is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdbench.sysfs import ROOT, text

_VENDOR = "0x10de"
_DISPLAY = "0x03"
"""PCI class of display controllers: 0300 draws, 0302 only computes. Its sound has another class."""

_VERSION = re.compile(r"\b\d{3}\.\d+(?:\.\d+)?\b")
_LOADED = re.compile(r"libcuda\.so\.(\d{3}\.\d+(?:\.\d+)?)")
_CONTAINERS = re.compile(r"docker|kubepods|containerd|libpod|crio|lxc")

_FOLDERS = (
    "usr/lib/wsl/lib",
    "usr/lib/aarch64-linux-gnu/nvidia",
    "usr/lib/aarch64-linux-gnu/tegra",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "run/opengl-driver/lib",
)
"""Where drivers put libcuda.so.1: WSL, JetPack 6 and 5, Debian, Fedora, NixOS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What there is to see without asking the driver.

    module: version of the loaded kernel module; empty where none is loaded (and on WSL and most Jetsons).
    nodes: whether the driver's device files are there.
    manager: whether that of unified memory is, without which cuInit fails.
    cards: for each NVIDIA card on the PCI bus the kernel driver that holds it, `none` for nobody.
    library: the folder in which libcuda.so.1 lies, or None.
    loaded: version of the libcuda that this process has loaded, where its file's name tells.
    """

    platform: Literal["linux", "wsl", "tegra"]
    container: bool
    module: str
    nodes: bool
    manager: bool
    cards: tuple[str, ...]
    library: str | None
    loaded: str


def read(root: Path = ROOT) -> Traces:
    """Look at /proc, /dev and /sys; never raises."""
    folders = (folder for folder in _FOLDERS if (root / folder / "libcuda.so.1").exists())
    found = next(folders, None)
    return Traces(
        platform=_platform(root),
        container=_container(root),
        module=_version(text(root / "proc/driver/nvidia/version") or ""),
        nodes=(root / "dev/nvidiactl").exists() and any((root / "dev").glob("nvidia[0-9]*")),
        manager=(root / "dev/nvidia-uvm").exists(),
        cards=_cards(root),
        library=None if found is None else f"/{found}",
        loaded=_first(_LOADED.findall(text(root / "proc/self/maps") or "")),
    )


def driver_lists(root: Path = ROOT) -> int:
    """Count the GPUs that the kernel module lists."""
    return len(list((root / "proc/driver/nvidia/gpus").glob("*")))


def _platform(root: Path) -> Literal["linux", "wsl", "tegra"]:
    if (root / "dev/dxg").exists() or "microsoft" in (text(root / "proc/version") or "").lower():
        return "wsl"
    board = text(root / "proc/device-tree/compatible") or ""
    return "tegra" if "nvidia,tegra" in board or (root / "etc/nv_tegra_release").exists() else "linux"


def _container(root: Path) -> bool:
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return True
    return bool(_CONTAINERS.search(text(root / "proc/1/cgroup") or ""))


def _cards(root: Path) -> tuple[str, ...]:
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if text(device / "vendor") == _VENDOR and (text(device / "class") or "").startswith(_DISPLAY):
            driver = device / "driver"
            found.append(driver.resolve().name if driver.exists() else "none")
    return tuple(found)


def _version(line: str) -> str:
    return _first(_VERSION.findall(line))


def _first(found: list[str]) -> str:
    return found[0] if found else ""
