"""The wheels of ONNX Runtime: all install the same import package, so that only one can be there."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from kdbench import Unavailable

WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
)
GPU = "onnxruntime-gpu"


def installed() -> list[str]:
    """List those that are installed."""
    return [wheel for wheel in WHEELS if is_installed(wheel)]


def is_installed(distribution: str) -> bool:
    """Tell whether a distribution is installed in this environment."""
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def clash(wheels: Sequence[str], wanted: str) -> Unavailable | None:
    """Say that several have overwritten each other's files, and how to get `wanted`; None if there is one."""
    if len(wheels) < 2:
        return None
    number = "both" if len(wheels) == 2 else "all"
    return Unavailable(
        f"{_listed(wheels)} are {number} installed and have overwritten each other's files.",
        fix=f"pip uninstall -y {' '.join(wheels)} && pip install {wanted}",
    )


def unimportable(wheels: Sequence[str], wanted: str, error: Exception) -> Unavailable:
    """Say that onnxruntime does not import: because it is not there, or why else."""
    if not wheels:
        return Unavailable(f"{wanted} is not installed.", fix=f"pip install {wanted}")
    return Unavailable(
        f"{wheels[0]} cannot be imported: {error}.", fix=f"pip install --force-reinstall {wheels[0]}"
    )


def provider_library(name: str) -> Path | None:
    """Find the library of a provider that the wheel brings as a file of its own; imports nothing."""
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    return path if path.is_file() else None


def _listed(wheels: Sequence[str]) -> str:
    return f"{', '.join(wheels[:-1])} and {wheels[-1]}"
