"""Engines brought to life: deserialised, or built again where they are not of this GPU and version."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from kdbench_tensorrt.building import Workshop
from kdbench_tensorrt.editions import Edition
from kdbench_tensorrt.layers import Layer
from kdbench_tensorrt.messages import failure, no_memory, told
from kdbench_tensorrt.settings import settings
from kdbench_tensorrt.stored import Stored, built_for, unlike


@dataclass(slots=True)
class Opened:
    """A live engine.

    runtime: what it came from; it and the logger must live as long. layers: of the network that it was built
        from. rebuilt: why it was built again, or empty. kernels: what TensorRT for RTX compiled for it.
    """

    edition: Edition
    trt: Any
    logger: Any
    runtime: Any
    engine: Any
    layers: tuple[Layer, ...]
    rebuilt: str
    kernels: Any = None

    @property
    def scratch_bytes(self) -> int:
        """Tell how much memory one context needs for what lies between its layers."""
        return int(self.engine.device_memory_size_v2)

    def context(self, scratch: int) -> Any:
        """Make an execution context that computes in `scratch`, device memory of `scratch_bytes`.

        Contexts that never run at the same time may share it
        (docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html). Annotations for a
        profiler are turned off: with details in the engine, they make each call slower.
        """
        trt, made = self.trt, self._create()
        if made is None:
            raise failure(f"{self.edition.title} cannot make an execution context", self.logger.errors)
        made.nvtx_verbosity = trt.ProfilingVerbosity.NONE
        made.set_device_memory(scratch, self.scratch_bytes)
        return made

    def _create(self) -> Any:
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.edition.just_in_time:
            return self.engine.create_execution_context(strategy)
        return self._create_just_in_time(strategy)

    def _create_just_in_time(self, strategy: Any) -> Any:
        """Make a context of TensorRT for RTX, which compiles kernels now, once for all of the engine.

        Eagerly: kernels that come later, from a thread in the background, would change what is timed, and
        make a recorded graph invalid
        (docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html).
        """
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        eager = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        if self.kernels is None:
            self.kernels = config.create_runtime_cache()
        config.set_runtime_cache(self.kernels)
        return self.engine.create_execution_context(config)

    def close(self) -> None:
        """Let go of the engine; its contexts must be gone already."""
        self.engine = self.kernels = None
        self.runtime = None


def deserialise(workshop: Workshop, blob: bytes) -> tuple[Any, Any] | None:
    """Bring an engine to life on the current device; answer its runtime, which must live as long, and it.

    None where that cannot be, the reason in the logger.

    An engine holds code. Those that a version-compatible one carries are allowed to run: it comes from this
    user's own cache, like all artifacts.
    """
    workshop.logger.errors.clear()
    runtime = workshop.trt.Runtime(workshop.logger)
    if settings(workshop.target).version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(blob)
    return None if engine is None else (runtime, engine)


def open_engine(workshop: Workshop, stored: Stored, size: int) -> Opened:
    """Open the engine of one batch size, building it again from its ONNX file where it does not fit.

    What was wrong goes to the log and into `rebuilt`. Raises BackendError, with TensorRT's words, where the
    new one does not open either.
    """
    edition, here = workshop.edition, built_for(workshop.trt.__version__, workshop.gpu)
    portable = edition.just_in_time or workshop.gpu is None
    lasting = settings(workshop.target).version_compatible
    reason, layers = unlike(stored.built, here, portable=portable, lasting=lasting), stored.layers[size]
    live = None if reason else deserialise(workshop, stored.engines[size].read_bytes())
    if live is None and not reason and no_memory(workshop.logger.errors):
        raise failure(f"{edition.title} cannot open the engine", workshop.logger.errors)
    if live is None:
        reason = reason or f"it does not open: {told(workshop.logger.errors) or 'no reason is given'}"
        print(f"The engine of {stored.engines[size].name} is built again: {reason}.", file=sys.stderr)  # noqa: T201
        anew = workshop.build(size)
        live, layers = deserialise(workshop, anew.blob), anew.layers
    if live is None:
        raise failure(f"{edition.title} cannot open the engine, nor one built anew", workshop.logger.errors)
    return Opened(edition, workshop.trt, workshop.logger, *live, layers, reason)
