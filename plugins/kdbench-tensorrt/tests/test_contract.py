from __future__ import annotations

import pytest

from kdbench.testing import BackendContract


@pytest.mark.gpu
class TestTensorRt(BackendContract):
    backend = "tensorrt"


@pytest.mark.gpu
class TestTensorRtWithoutGraph(BackendContract):
    backend = "tensorrt"
    options = {"graph": False, "sync": "block"}  # noqa: RUF012  # declared by the kit


@pytest.mark.gpu
class TestTensorRtForRtx(BackendContract):
    backend = "tensorrt-rtx"


@pytest.mark.gpu
class TestTensorRtForRtxWithoutGraph(BackendContract):
    backend = "tensorrt-rtx"
    options = {"graph": False, "sync": "block"}  # noqa: RUF012  # declared by the kit
