"""Engines: what the builder is told, and what it makes.

An engine of its own for each batch size, its inputs fixed to it: the builder then chooses kernels and memory
layouts for that size alone, where one engine with several profiles must keep weights in a form that suits all
of them. For TensorRT for RTX it matters more: dimensions that are free, even by a profile that leaves no
choice, get fall-back kernels until better ones have been compiled in the background, in the middle of what is
timed (docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-dynamic-shapes.html).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdbench import Target, Unsupported
from kdbench.nvidia import Gpu
from kdbench_tensorrt.editions import Edition
from kdbench_tensorrt.layers import Layer, layers_of_network
from kdbench_tensorrt.messages import failure, make_logger
from kdbench_tensorrt.network import Signature, parse
from kdbench_tensorrt.settings import Settings, settings

ANY = 0
"""Stands for the engine that takes every batch size up to the largest."""


OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""With the value 0, NVIDIA's libraries never use TF32, TensorRT's builder among them, whatever a flag says
(docs.nvidia.com/deeplearning/frameworks/tensorflow-user-guide)."""

_UNRECORDABLE = "Its shapes depend on its values: ask for graph=false."


@dataclass(frozen=True, slots=True)
class Engine:
    """A serialised engine, and the layers of the network that it was built from."""

    blob: bytes
    layers: tuple[Layer, ...]


@dataclass(slots=True)
class Workshop:
    """Builds the engines of one target; what it learns of timing in one serves the next.

    gpu: the GPU to build for, or None where there is none: then the edition's default, as portable as it can
        be.
    timing: the serialised timing cache, empty at first. It is used for the batch sizes of one target and for
        building again what does not fit the GPU, so it travels with the artifact: TensorRT itself refuses one
        of another device or version.
    """

    edition: Edition
    model: Path
    signature: Signature
    target: Target
    gpu: Gpu | None = None
    timing: bytes = b""
    trt: Any = field(init=False)
    logger: Any = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.trt = self.edition.vendor()
        except ImportError as error:
            raise Unsupported(
                f"{self.edition.title} cannot be imported: {error}.",
                hint=f"pip install {self.edition.libraries} cuda-bindings onnx",
            ) from error
        self.logger = make_logger(self.trt)

    def build(self, batch_size: int) -> Engine:
        """Build the engine of one batch size, or of all up to the largest for `ANY`.

        Raises Unsupported for a network that TensorRT cannot read, and for TF32 where the environment forbids
        it; BackendError for a network that cannot be built.
        """
        if self.target.precision == "tf32" and os.environ.get(OVERRIDE) == "0":
            raise Unsupported(
                f"{OVERRIDE} is 0, so that {self.edition.title} would compute in fp32.",
                hint=f"unset {OVERRIDE}",
            )
        trt = self.trt
        self.logger.errors.clear()
        builder = trt.Builder(self.logger)
        # The parser owns weights of the network: it has to live until the engine is built.
        network, parser = parse(self.edition, trt, builder, self.logger, self.model, self.signature)
        config = self._configure(builder)
        profile = builder.create_optimization_profile()
        self._fix_shapes(network, profile, batch_size)
        config.add_optimization_profile(profile)
        cache = self._use_timing(config)
        layers = layers_of_network(network)
        blob = builder.build_serialized_network(network, config)
        del parser
        if blob is None:
            what = f"{self.edition.title} cannot build the network at {_size(batch_size, self.target)}"
            raise failure(what, self.logger.errors, hint=_UNRECORDABLE if self._allocates() else "")
        if cache is not None:
            self.timing = bytes(cache.serialize())
        return Engine(bytes(blob), layers)

    def _configure(self, builder: Any) -> Any:
        """Make the builder's configuration.

        The only flag about precision that both majors have is TF32, which is set at first. Types are the
        network's, and refitting, which costs speed, is never asked for. Details for the inspector cost
        nothing at run time, where the context's own verbosity is turned off.
        """
        trt, chosen = self.trt, settings(self.target)
        config = builder.create_builder_config()
        (config.set_flag if self.target.precision == "tf32" else config.clear_flag)(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.builder_optimization_level = chosen.optimization_level
        if chosen.workspace_bytes:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, chosen.workspace_bytes)
        if chosen.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if self.edition.just_in_time:
            self._aim(config, chosen)
        return config

    def _aim(self, config: Any, chosen: Settings) -> None:
        """Tell TensorRT for RTX the kind of GPU, if it knows it, and that its engine is to be recorded.

        A kind that it does not list is left to the default, and to the runtime's own judgement: whether an
        engine runs there is told by loading it. Recording needs the flag
        (docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/release-notes-1/1.2.html).
        """
        trt = self.trt
        if chosen.graph:
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        if self.gpu is None:
            return
        kind = getattr(trt.ComputeCapability, "SM{}{}".format(*self.gpu.capability), None)
        if kind is not None:
            config.num_compute_capabilities = 1
            config.set_compute_capability(kind, 0)

    def _fix_shapes(self, network: Any, profile: Any, batch_size: int) -> None:
        """Fix each input to the batch size, or give its range, best at the largest."""
        for spec in self.signature.inputs:
            tensor = next(t for t in _inputs(network) if t.name == spec.name)
            least, most = (batch_size, batch_size) if batch_size else (1, max(self.target.batch_sizes))
            if batch_size:
                tensor.shape = (batch_size, *spec.shape)
            else:
                # Anything but the batch that the file leaves free is what the card says.
                tensor.shape = (-1, *spec.shape)
            profile.set_shape(spec.name, (least, *spec.shape), (most, *spec.shape), (most, *spec.shape))

    def _allocates(self) -> bool:
        """Tell whether the builder complains of a network that must allocate while it runs."""
        return any("user allocation" in error.lower() for error in self.logger.errors)

    def _use_timing(self, config: Any) -> Any:
        """Let the builder use the timing cache; TensorRT for RTX times nothing, and calls it deprecated."""
        if self.edition.just_in_time:
            return None
        cache = config.create_timing_cache(self.timing)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache


def _inputs(network: Any) -> Iterable[Any]:
    return (network.get_input(index) for index in range(network.num_inputs))


def _size(batch_size: int, target: Target) -> str:
    return f"batch size {batch_size}" if batch_size else f"batch sizes up to {max(target.batch_sizes)}"
