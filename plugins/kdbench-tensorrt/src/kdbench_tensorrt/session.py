"""A session: the engines of one target, live, and the runners that were made of them."""

from __future__ import annotations

from kdbench import Artifact, Placement, Target
from kdbench.errors import BackendError
from kdbench_tensorrt.building import ANY, Workshop
from kdbench_tensorrt.editions import Edition
from kdbench_tensorrt.layers import computed_in, layers_of_engine
from kdbench_tensorrt.network import Signature
from kdbench_tensorrt.opening import Opened, open_engine
from kdbench_tensorrt.pipeline import Pipeline
from kdbench_tensorrt.resident import ResidentRunner
from kdbench_tensorrt.runners import TensorRtRunner, refuse
from kdbench_tensorrt.seam import Cuda
from kdbench_tensorrt.settings import settings
from kdbench_tensorrt.stored import read
from kdbench_tensorrt.workplace import find_gpu

DEPTH = 4
"""Requests in flight that are worth trying: one copies in, one computes, one copies out, one waits."""

AnyRunner = TensorRtRunner | Pipeline | ResidentRunner


class TensorRtSession:
    """The live engines by batch size, `ANY` for the one that takes all.

    optimal_depth: what is worth trying besides powers of two.
    """

    optimal_depth = DEPTH

    def __init__(
        self,
        cuda: Cuda,
        target: Target,
        signature: Signature,
        engines: dict[int, Opened],
        placement: Placement,
    ) -> None:
        self._cuda, self._target, self._signature = cuda, target, signature
        self._engines = engines
        self._runners: list[AnyRunner] = []
        self.placement = placement

    def runner(self, batch_size: int, depth: int) -> AnyRunner:
        """Give a runner with contexts, streams and memory of its own."""
        if not self._engines:
            refuse()
        opened = self._engines[ANY] if self._target.dynamic else self._engines[batch_size]
        graph = settings(self._target).graph
        made: AnyRunner
        if self._target.boundary == "device":
            made = ResidentRunner(self._cuda, opened, self._signature, batch_size, depth, graph=graph)
        elif depth == 1:
            made = TensorRtRunner(self._cuda, opened, self._signature, batch_size, graph=graph)
        else:
            made = Pipeline(self._cuda, opened, self._signature, batch_size, depth, graph=graph)
        self._runners.append(made)
        return made

    def close(self) -> None:
        """Close the runners, then let the engines go."""
        try:
            while self._runners:
                self._runners.pop().close()
        finally:
            for opened in self._engines.values():
                opened.close()
            self._engines.clear()


def open_session(edition: Edition, artifact: Artifact, target: Target) -> TensorRtSession:
    """Open an artifact on the GPU that its target names.

    Raises BackendError in one sentence where there is no such GPU, or where TensorRT cannot open the engines.
    """
    stored, gpu = read(artifact), find_gpu(target.device)
    if gpu is None:
        raise BackendError(
            f"{edition.title} needs the GPU {target.device}, and CUDA sees no such GPU here.",
            hint="`kdbench backends` tells what is lacking.",
        )
    from kdbench_tensorrt import device

    device.select(gpu.index, spin=settings(target).spin)
    workshop = Workshop(edition, stored.model, stored.signature, target, gpu, stored.timing)
    engines: dict[int, Opened] = {}
    try:
        for size in stored.engines:
            engines[size] = open_engine(workshop, stored, size)
    except BaseException:
        for opened in engines.values():
            opened.close()
        raise
    placement = placement_of(engines, target, f"cuda:{device.current()}")
    return TensorRtSession(device, target, stored.signature, engines, placement)


def placement_of(engines: dict[int, Opened], target: Target, where: str) -> Placement:
    """Read back what the engines are: device, precision, layers; and that one was built again, if it was.

    Where an engine computes in another precision than was asked for, that one shows.
    """
    told = {size: layers_of_engine(one.trt, one.engine) for size, one in engines.items()}
    found = [computed_in(told[size], one.layers, target.precision) for size, one in engines.items()]
    other = [precision for precision in found if precision != target.precision]
    first = next(iter(engines.values()))
    rebuilt = next((one.rebuilt for one in engines.values() if one.rebuilt), "")
    provider = f"{first.edition.title} {first.trt.__version__}"
    return Placement(
        device=where,
        precision=other[0] if other else target.precision,
        provider=f"{provider} (engine built again: {rebuilt})" if rebuilt else provider,
        nodes={where: max(int(one.engine.num_layers) for one in engines.values())},
    )
