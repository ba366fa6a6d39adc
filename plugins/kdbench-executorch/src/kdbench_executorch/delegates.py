"""The delegates of ExecuTorch: which are driven here, and what the others need.

A new one is a row with partitioners: everything else follows from its backend's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdbench import Unsupported


@dataclass(frozen=True, slots=True)
class Delegate:
    """One value of the option `delegate`.

    backend: the name that the runtime registers it by; empty for none.
    partition: makes what decides which operators it takes.
    needs: what has to be installed where it compiles and where it runs, for one that is not driven here.
    """

    title: str
    backend: str = ""
    partition: Callable[[], Sequence[Any]] | None = None
    needs: str = ""


def _xnnpack() -> Sequence[Any]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


def _none() -> Sequence[Any]:
    return []


DELEGATES: Mapping[str, Delegate] = {
    "xnnpack": Delegate("XNNPACK", "XnnpackBackend", _xnnpack),
    "portable": Delegate("(no)", "", _none),
    "coreml": Delegate(
        "Core ML",
        "CoreMLBackend",
        needs="It needs macOS 13 or iOS 16 to run, coremltools 9.0 to lower, and Xcode: see the README.",
    ),
    "vulkan": Delegate(
        "Vulkan",
        "VulkanBackend",
        needs="It needs a runtime built with EXECUTORCH_BUILD_VULKAN and a Vulkan 1.1 GPU: see the README.",
    ),
    "qnn": Delegate(
        "Qualcomm",
        "QnnBackend",
        needs="It needs Qualcomm's AI Engine Direct SDK (QNN_SDK_ROOT) and a Snapdragon: see the README.",
    ),
    "openvino": Delegate(
        "OpenVINO",
        "OpenvinoBackend",
        needs="pip install 'executorch[openvino]', which wants openvino<2026; or use the backend openvino.",
    ),
}


def driven(name: str) -> tuple[str, Callable[[], Sequence[Any]]]:
    """Give backend and partitioners of a delegate; Unsupported, with what it needs, if it is not driven."""
    delegate = DELEGATES[name]
    if delegate.partition is None:
        raise Unsupported(
            f"kdbench-executorch does not drive ExecuTorch's {delegate.title} delegate yet.",
            hint=delegate.needs,
        )
    return delegate.backend, delegate.partition
