from __future__ import annotations

from typing import ClassVar

import pytest

from kdbench import Available
from kdbench.testing import BackendContract
from kdbench_ncnn import kdbench_probe


class TestContract(BackendContract):
    backend = "ncnn"


class TestPlainContract(BackendContract):
    backend = "ncnn"
    options: ClassVar = {"packing": False, "winograd": False, "sgemm": False, "lightmode": False}


def _gpus() -> list[str]:
    answer = kdbench_probe()
    return [one.id for one in answer.devices if one.id != "cpu"] if isinstance(answer, Available) else []


@pytest.mark.skipif(not _gpus(), reason="Vulkan finds no GPU here.")
class TestVulkanContract(BackendContract):
    backend = "ncnn"
    device = "gpu.0"
