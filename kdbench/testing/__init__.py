"""The contract of a backend as checks; a plugin's author gets them all as tests by one subclass.

```python
from kdbench.testing import BackendContract

class TestContract(BackendContract):
    backend = "numpy"
```

They run in the plugin's own pytest, on what is installed there. A backend that cannot run here skips
with the reason of its probe, save for what must hold on every machine.

A check is a function, and pytest a thin layer over it: `run` gives the same findings without pytest, and
`run_apart` does from processes of their own. `BackendFixtures` has what the contract works on, for own tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.testing.apart import run_apart as run_apart
    from kdbench.testing.contract import (
        BackendContract as BackendContract,
        BackendFixtures as BackendFixtures,
    )
    from kdbench.testing.finding import Check as Check, Finding as Finding
    from kdbench.testing.running import run as run
    from kdbench.testing.subject import Settings as Settings
    from kdbench.testing.table import CHECKS as CHECKS

HOMES = {
    "BackendContract": "contract",
    "BackendFixtures": "contract",
    "CHECKS": "table",
    "Check": "finding",
    "Finding": "finding",
    "Settings": "subject",
    "run": "running",
    "run_apart": "apart",
}
"""Imported when they are asked for: only the first two need pytest (`pip install 'kdbench[testing]'`), and a
fresh interpreter that looks what a plugin imports must not have imported it before."""


def __getattr__(name: str) -> object:
    if name in HOMES:
        return getattr(import_module(f"kdbench.testing.{HOMES[name]}"), name)
    raise AttributeError(f"kdbench.testing has no {name!r}.")
