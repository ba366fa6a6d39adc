"""What the harness drives: a session that holds the programs of one target, by batch size."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench import Artifact, Placement, Target, TensorSpec, Unsupported
from kdbench.errors import BackendError
from kdbench_executorch.loaded import Loaded, refuse, vendor_threads

if TYPE_CHECKING:
    from kdbench_executorch.engine import Engine

PORTABLE = "portable"
"""What runs the operators that no delegate took: the kernels of ExecuTorch itself."""

logger = logging.getLogger(__name__)


class ExecuTorchSession:
    """The programs of one target; the first runner of a batch size takes the one that load opened."""

    def __init__(self, engine: Engine, artifact: Artifact, target: Target) -> None:
        notes = artifact.notes
        self._engine = engine
        self._dynamic = bool(json.loads(notes["dynamic"]))
        self._inputs, self._outputs = _specs(notes["inputs"]), _specs(notes["outputs"])
        self._paths: dict[int, Path] = dict(
            zip(json.loads(notes["batch_sizes"]), artifact.files, strict=True)
        )
        self._threads = vendor_threads(engine) if target.threads is None else target.threads
        self._runners: list[Loaded] = []
        delegate = notes["delegate"]
        if delegate and delegate not in engine.backends():
            raise Unsupported(
                f"The program was lowered to {delegate}, and this runtime has "
                f"{', '.join(engine.backends()) or 'no delegate'}.",
                hint="Compile it with another -o executorch.delegate, or install a build with that delegate.",
            )
        # Opening binds and packs the weights; what cannot be opened is known here and not at the first call.
        self._spare = {size: self._load(size) for size in self._paths}
        self.placement = placement(notes, engine, target.device)

    def runner(self, batch_size: int) -> Loaded:
        """Give a runner with a program of its own; BackendError if the session is closed."""
        if not self._paths:
            refuse()
        runner = self._spare.pop(batch_size, None) or self._load(batch_size)
        self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Close the runners and let the programs go."""
        for loaded in (*self._spare.values(), *self._runners):
            loaded.close()
        self._spare.clear()
        self._runners.clear()
        self._paths.clear()

    def _load(self, batch_size: int) -> Loaded:
        size = max(self._paths) if self._dynamic else batch_size
        if size not in self._paths or batch_size > size:
            sizes = f"up to {size}" if self._dynamic else ", ".join(map(str, self._paths))
            raise BackendError(
                f"This artifact was compiled for batch sizes {sizes}, not for {batch_size}.",
                hint="Compile it for this batch size too.",
            )
        return Loaded(self._engine, self._paths[size], self._inputs, self._outputs, batch_size, self._threads)


def placement(notes: Mapping[str, str], engine: Engine, device: str) -> Placement:
    """Tell who runs the operators, as the lowered program says, and the size of the pool, as it is.

    Which operators a delegate takes is settled when the program is lowered, and stands in it: a runtime
    without that delegate does not open it, and nothing falls back later. Nothing but fp32 is lowered.
    """
    nodes: dict[str, int] = json.loads(notes["nodes"])
    products: dict[str, int] = json.loads(notes["products"])
    own, total = products.get(PORTABLE, 0), sum(products.values())
    if notes["delegate"] and 2 * own > total:
        logger.warning(
            "%d of %d convolutions and matrix products were not taken by %s, and run in portable kernels.",
            *(own, total, notes["delegate"]),
        )
    most = PORTABLE if not notes["delegate"] or 2 * own > total else notes["delegate"]
    return Placement(
        device=device,
        precision="fp32",
        provider=f"{most} ({engine.name})",
        threads=engine.threads(),
        nodes=nodes,
    )


def _specs(note: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in json.loads(note))
