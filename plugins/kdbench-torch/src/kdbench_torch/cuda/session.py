"""An open network on a device, and the runners that share its weights."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from typing import Any

from kdbench import Artifact, Placement, Target, TensorSpec
from kdbench_torch.cuda.fault import out_of_memory
from kdbench_torch.cuda.memory import Pinned
from kdbench_torch.cuda.network import captures, open_network, precision_on, prepare, provider, use
from kdbench_torch.cuda.runner import (
    CudaPipeline,
    CudaRunner,
    DevicePipeline,
    DeviceRunner,
    HostPipeline,
    HostRunner,
)
from kdbench_torch.cuda.slot import DeviceSlot, HostSlot
from kdbench_torch.cuda.step import CalledStep, ReplayedStep, Step, forget_workspaces
from kdbench_torch.network import Blueprint, empty_inputs
from kdbench_torch.session import Network, refuse


def load_artifact(artifact: Artifact, target: Target) -> CudaSession:
    """Build the network on the device from its weights; BackendError if it does not fit there."""
    try:
        use(target)
        blueprint = Blueprint.from_notes(artifact.notes)
        network = prepare(blueprint, artifact.files[0], target)
        return CudaSession(
            open_network(artifact, target, network),
            inputs=blueprint.inputs,
            target=target,
            placement=Placement(
                device=str(next(network.parameters()).device),
                precision=precision_on(network),
                provider=provider(target),
            ),
        )
    except RuntimeError as fault:
        if error := out_of_memory(fault, target.device, "load"):
            raise error from fault
        raise


class CudaSession:
    """Weights on one device; each runner has streams, graphs and buffers of its own."""

    def __init__(
        self, network: Network, *, inputs: Sequence[TensorSpec], target: Target, placement: Placement
    ) -> None:
        self._network, self._inputs, self._target = network, inputs, target
        self._runners: list[CudaRunner | CudaPipeline] = []
        self.placement = placement

    def runner(self, batch_size: int, depth: int) -> CudaRunner | CudaPipeline:
        """Give a runner that keeps up to `depth` requests in flight; BackendError if it does not fit."""
        where = f"{self._target.device} at batch size {batch_size}, depth {depth}"
        try:
            runner = self._make(batch_size, depth, where)
        except RuntimeError as fault:
            if error := out_of_memory(fault, where, "run"):
                raise error from fault
            raise
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners, let the network go and hand torch's spare memory back to the device."""
        self._network = refuse
        while self._runners:
            self._runners.pop().close()
        release()

    def _make(self, batch_size: int, depth: int, where: str) -> CudaRunner | CudaPipeline:
        enter, sync = partial(enter_device, self._target.device), str(self._target.options["sync"])
        enter()
        step = partial(self._step, batch_size)
        streams = _streams(depth)
        if self._target.boundary == "device":
            slots: list[Any] = [DeviceSlot(step, stream, sync) for stream in streams]
            if depth == 1:
                return DeviceRunner(self._target.device, *slots, enter, where)
            return DevicePipeline(self._target.device, slots, enter, where)
        pinned = Pinned(self._inputs, batch_size)
        slots = [HostSlot(step, stream, sync, pinned.known) for stream in streams]
        if depth == 1:
            return HostRunner(pinned, *slots, enter, where)
        return HostPipeline(pinned, slots, enter, where)

    def _step(self, batch_size: int) -> Step:
        # Made outside inference mode: for the other kind of tensor Inductor would compile anew.
        inputs = empty_inputs(self._inputs, batch_size, self._target.device)
        kind = ReplayedStep if captures(self._target) else CalledStep
        return kind(self._network, inputs, rounded=self._target.precision == "tf32")


def enter_device(device: str) -> None:
    """Make the device the current one of the thread that calls."""
    import torch

    torch.cuda.set_device(device)


def release() -> None:
    """Hand back what nothing refers to any more.

    A traced network refers to itself in circles, so that its weights wait for the collector. cuBLAS's
    workspaces belong to streams, of which torch has 32 that take turns.
    """
    import torch

    gc.collect()
    forget_workspaces()
    torch.cuda.empty_cache()


def _streams(depth: int) -> list[Any]:
    """Give each of several requests a stream of its own; a single one takes the default stream."""
    import torch

    cuda: Any = torch.cuda
    return [None] if depth == 1 else [cuda.Stream() for _ in range(depth)]
