from __future__ import annotations

from typing import ClassVar

import pytest

from kdbench.errors import Unsupported
from kdbench.testing import BackendContract
from kdbench_executorch.build import library


class TestContract(BackendContract):
    backend = "executorch"


def _built() -> bool:
    try:
        return library().is_file()
    except (Unsupported, ModuleNotFoundError):
        return False


@pytest.mark.skipif(not _built(), reason="Run `python -m kdbench_executorch.build` first.")
class TestNativeContract(BackendContract):
    backend = "executorch"
    options: ClassVar = {"binding": "native"}
