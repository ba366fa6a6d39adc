"""kdbench: one distilled student, every runtime, numbers that can be trusted.

This module is what plugin authors and readers of results import; names are resolved on first use, so that
the command line starts without numpy, pluggy or any vendor library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.around import watched as watched
    from kdbench.errors import (
        ContractError as ContractError,
        KdbenchError as KdbenchError,
        Unsupported as Unsupported,
    )
    from kdbench.frame import load_result as load_result, to_dataframe as to_dataframe
    from kdbench.hookspecs import hookimpl as hookimpl
    from kdbench.spec import (
        API as API,
        Allocating as Allocating,
        Artifact as Artifact,
        Availability as Availability,
        Available as Available,
        BackendInfo as BackendInfo,
        Device as Device,
        DeviceTimed as DeviceTimed,
        Observation as Observation,
        Option as Option,
        Pipelined as Pipelined,
        Placement as Placement,
        Resident as Resident,
        Runner as Runner,
        Session as Session,
        Student as Student,
        Target as Target,
        TensorSpec as TensorSpec,
        Unavailable as Unavailable,
    )

__version__ = "0.1.0"

_HOME = {
    "ContractError": "errors",
    "KdbenchError": "errors",
    "Unsupported": "errors",
    "hookimpl": "hookspecs",
    "load_result": "frame",
    "to_dataframe": "frame",
    "watched": "around",
}

__all__ = [
    "API",
    "Allocating",
    "Artifact",
    "Availability",
    "Available",
    "BackendInfo",
    "ContractError",
    "Device",
    "DeviceTimed",
    "KdbenchError",
    "Observation",
    "Option",
    "Pipelined",
    "Placement",
    "Resident",
    "Runner",
    "Session",
    "Student",
    "Target",
    "TensorSpec",
    "Unavailable",
    "Unsupported",
    "hookimpl",
    "load_result",
    "to_dataframe",
    "watched",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kdbench' has no attribute {name!r}")
    return getattr(import_module(f"kdbench.{_HOME.get(name, 'spec')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
