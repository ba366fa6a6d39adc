from __future__ import annotations

from typing import ClassVar

import pytest

from kdbench.testing import BackendContract


class TestContract(BackendContract):
    backend = "onnxruntime"


@pytest.mark.gpu
class TestCuda(BackendContract):
    backend = "onnxruntime-cuda"


@pytest.mark.gpu
class TestCudaGraph(BackendContract):
    backend = "onnxruntime-cuda"
    options: ClassVar = {"graph": True, "sync": "block"}


@pytest.mark.gpu
class TestTensorRt(BackendContract):
    backend = "onnxruntime-tensorrt"


@pytest.mark.gpu
class TestTensorRtGraph(BackendContract):
    backend = "onnxruntime-tensorrt"
    options: ClassVar = {"graph": True, "sync": "block"}
