"""NVIDIA GPUs for plugins: which there are, what is lacking, and how one stands while it is measured.

Needs the driver's own libraries only: `libcuda.so.1`, and NVML through nvidia-ml-py (extra `nvidia`). Neither
is loaded before it is asked, nothing here makes a CUDA context, and only `look` starts CUDA's driver.
"""

from __future__ import annotations

from kdbench.nvidia.conditions import Conditions, Watch
from kdbench.nvidia.failures import lack
from kdbench.nvidia.gpu import Gpu, devices, precisions
from kdbench.nvidia.inventory import facts, untold
from kdbench.nvidia.probing import look

__all__ = ["Conditions", "Gpu", "Watch", "devices", "facts", "lack", "look", "precisions", "untold"]
