from __future__ import annotations

from typing import ClassVar

import pytest

from kdbench.testing import BackendContract


class TestContract(BackendContract):
    backend = "torch-cpu"
    untried: ClassVar = {
        "mode=compile": "C++ compiles for half a minute; test_torch.py runs it",
        "mode=aot": "C++ compiles for half a minute; test_torch.py runs it",
    }


@pytest.mark.gpu
class TestCudaContract(BackendContract):
    backend = "torch-cuda"


@pytest.mark.gpu
class TestCudaGraphContract(BackendContract):
    backend = "torch-cuda"
    options: ClassVar = {"mode": "graph"}


@pytest.mark.gpu
class TestCudaCompileContract(BackendContract):
    backend = "torch-cuda"
    options: ClassVar = {"mode": "compile", "inductor": "reduce-overhead", "sync": "block"}
