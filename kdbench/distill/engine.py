"""What computes the steps of training: this process alone, or Lightning Fabric over several, or on a GPU.

Fabric was chosen over Accelerate because it brings no client of a model hub, names precision and strategy
outright, and leaves the loop to its user; both find their processes by the environment that `torchrun` sets.
It is imported only where it is needed: several processes, a GPU, or mixed precision.
"""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from kdbench.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kdbench.distill.tables import EnginePlan

_FABRIC_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Engine(Protocol):
    """Takes a module and its optimiser, and the gradients of a loss.

    rank, processes: which of how many processes this is. device: where its tensors belong.
    """

    @property
    def rank(self) -> int: ...  # noqa: D102
    @property
    def processes(self) -> int: ...  # noqa: D102
    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def setup(self, module: nn.Module, optimiser: Any) -> tuple[nn.Module, Any]:
        """Wrap a module and its optimiser; the module's own parameters are the ones that are trained."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients, averaged over the processes."""
        ...

    def together(self) -> None:
        """Wait until every process is here."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One process on the CPU, in fp32."""

    device: torch.device
    rank: int = 0
    processes: int = 1

    def setup(self, module: nn.Module, optimiser: Any) -> tuple[nn.Module, Any]:
        """Leave both as they are."""
        return module, optimiser

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types here

    def together(self) -> None:
        """Nobody else is there."""


class Several:
    """Lightning Fabric: several processes that `torchrun` started, a GPU, or mixed precision."""

    def __init__(self, plan: EnginePlan, processes: int) -> None:
        from lightning_fabric import Fabric

        # Its greetings would stand between the lines of the progress.
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        accelerator = {"cpu": "cpu", "cuda": "cuda", "auto": "auto"}[plan.device]
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._fabric: Any = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=max(1, processes // local),
            strategy="ddp" if processes > 1 else "auto",
            precision=_FABRIC_PRECISION[plan.precision],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._fabric.launch()

    @property
    def rank(self) -> int:
        """This process among all."""
        return int(self._fabric.global_rank)

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return int(self._fabric.world_size)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self._fabric.device
        return device

    def setup(self, module: nn.Module, optimiser: Any) -> tuple[nn.Module, Any]:
        """Move the module to the device and let its gradients be averaged."""
        wrapped, stepping = self._fabric.setup(module, optimiser)
        return wrapped, stepping

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients, scaled where fp16 asks for it."""
        self._fabric.backward(loss)

    def together(self) -> None:
        """Wait for the other processes."""
        self._fabric.barrier()


def rank(key: str = "RANK") -> int:
    """Give which process this is: of all, or by `LOCAL_RANK` of this machine's; 0 where it is alone."""
    found = os.environ.get(key, "0")
    return int(found) if found.isdecimal() else 0


def _processes() -> int:
    """Give how many processes `torchrun` started; UsageError where what it sets is not all there."""
    told = os.environ.get("WORLD_SIZE", "1")
    if told == "1":
        return 1
    lacking = [
        key
        for key in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
        if not os.environ.get(key, "").isdecimal()
    ]
    if lacking or not os.environ.get("MASTER_ADDR") or told == "0":
        raise UsageError(
            f"WORLD_SIZE is {told!r} in the environment, without all that torchrun sets beside it.",
            hint="Start it by torchrun, or unset WORLD_SIZE.",
        )
    return int(told)


def start(plan: EnginePlan) -> Engine:
    """Start what the recipe and the environment ask for; UsageError where it is not there."""
    import torch

    processes = _processes()
    gpu = torch.cuda.is_available()
    if plan.device == "cuda" and not gpu:
        raise UsageError(
            "The recipe trains on CUDA, and torch finds no GPU here.",
            hint='Set engine.device to "cpu" or "auto".',
        )
    if plan.precision == "fp16" and (plan.device == "cpu" or not gpu):
        raise UsageError(
            "The recipe trains in fp16, which torch does on a GPU only.",
            hint='Set engine.precision to "bf16".',
        )
    if plan.device != "cpu" and gpu:
        # cuBLAS computes the same bits each time only with this, and torch refuses to go without.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if processes == 1 and plan.precision == "fp32" and (plan.device == "cpu" or not gpu):
        return Alone(torch.device("cpu"))
    if find_spec("lightning_fabric") is None:
        raise UsageError(
            "Training by several processes, on a GPU or in mixed precision needs lightning-fabric.",
            hint="pip install lightning-fabric, or in a checkout of kdbench: pip install -e '.[fabric]'",
        )
    return Several(plan, processes)
