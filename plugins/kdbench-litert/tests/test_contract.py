from __future__ import annotations

from typing import ClassVar

from kdbench.testing import BackendContract


class TestContract(BackendContract):
    backend = "litert"


class TestContractOfTheCompiledModel(BackendContract):
    backend = "litert"
    options: ClassVar = {"api": "compiled"}
