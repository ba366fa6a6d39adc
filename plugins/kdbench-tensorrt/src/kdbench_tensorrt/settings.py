"""The options of both editions, and what a target's options mean."""

from __future__ import annotations

from dataclasses import dataclass

from kdbench import Option, Target
from kdbench_tensorrt.editions import Edition

_BOTH = (
    Option(
        name="graph",
        type="bool",
        default=True,
        help="replay each call as one CUDA graph instead of launching its kernels one by one",
    ),
    Option(
        name="sync",
        type="str",
        default="spin",
        choices=("spin", "block"),
        help="how the host waits for the GPU: spin takes a core and wakes at once, block sleeps",
    ),
    Option(
        name="optimization_level",
        type="int",
        default=3,
        low=0,
        high=5,
        help="how long the builder searches for faster kernels; 3 is TensorRT's own default",
    ),
    Option(
        name="workspace_mib",
        type="int",
        default=0,
        low=0,
        help="scratch memory that a layer may use, in MiB; 0 allows all of the GPU's",
    ),
)

_VERSION_COMPATIBLE = Option(
    name="version_compatible",
    type="bool",
    default=False,
    help="let later versions of TensorRT load the engine, which may be slower",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one target, by their names."""

    graph: bool
    spin: bool
    optimization_level: int
    workspace_bytes: int
    version_compatible: bool


def options(edition: Edition) -> tuple[Option, ...]:
    """List the options of an edition.

    TensorRT for RTX comes without the lean runtime that a version-compatible engine carries.
    """
    return _BOTH if edition.just_in_time else (*_BOTH, _VERSION_COMPATIBLE)


def settings(target: Target) -> Settings:
    """Read the options of a target, which are checked and complete."""
    chosen = target.options
    return Settings(
        graph=bool(chosen["graph"]),
        spin=chosen["sync"] == "spin",
        optimization_level=int(chosen["optimization_level"]),
        workspace_bytes=int(chosen["workspace_mib"]) << 20,
        version_compatible=bool(chosen.get("version_compatible", False)),
    )
