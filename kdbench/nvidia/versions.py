"""Which driver serves which CUDA version.

docs.nvidia.com/cuda/cuda-toolkit-release-notes, "CUDA Toolkit and Corresponding Driver Versions": the first
release of each minor version, for Linux. Within one major version a program built for a newer minor version
usually runs on an older driver (docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html):
a plugin asks for the version that its libraries really need.
"""

from __future__ import annotations

DRIVERS: dict[tuple[int, int], str] = {
    (11, 8): "520.61.05",
    (12, 0): "525.60.13",
    (12, 1): "530.30.02",
    (12, 2): "535.54.03",
    (12, 3): "545.23.06",
    (12, 4): "550.54.14",
    (12, 5): "555.42.02",
    (12, 6): "560.28.03",
    (12, 8): "570.26",
    (12, 9): "575.51.03",
    (13, 0): "580.65.06",
    (13, 1): "590.44.01",
    (13, 2): "595.45.04",
    (13, 3): "610.43.02",
}


def needed_driver(cuda: tuple[int, int]) -> str | None:
    """Give the oldest Linux driver that serves this CUDA version; None for a version newer than the table."""
    enough = [version for version in DRIVERS if version >= cuda]
    return DRIVERS[min(enough)] if enough else None


def written(cuda: tuple[int, int]) -> str:
    """Write a version as people do: 12.8."""
    return f"{cuda[0]}.{cuda[1]}"
