from __future__ import annotations

from kdbench.testing import BackendContract


class TestContract(BackendContract):
    backend = "mnn"
