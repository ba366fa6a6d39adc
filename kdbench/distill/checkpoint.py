"""Finished and half-finished stages on disk, so that interrupted work goes on where it was.

Tensors as safetensors, the rest as JSON in its header: nothing is pickled. A file has its name only when it
is whole; one that cannot be read, or that has changed since it was written, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.errors import StudentError

if TYPE_CHECKING:
    from torch import Tensor

FINISHED, HALFWAY = ".safetensors", ".halfway.safetensors"


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of stages; None for a folder keeps nothing. writing: whether this process may write."""

    folder: Path | None
    writing: bool = True

    def finished(self, stage: str) -> dict[str, Tensor] | None:
        """Give what a stage left behind, if it came to its end."""
        found = self._read(stage + FINISHED)
        return None if found is None else found[0]

    def finish(self, stage: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep what a stage leaves behind; what there was of it halfway goes."""
        self._write(stage + FINISHED, tensors, {})
        if self.folder is not None and self.writing:
            (self.folder / (stage + HALFWAY)).unlink(missing_ok=True)

    def halfway(self, stage: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Give the tensors and facts that a stage had when it was kept last."""
        return self._read(stage + HALFWAY)

    def keep(self, stage: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Keep a stage that is not at its end."""
        self._write(stage + HALFWAY, tensors, facts)

    def stages(self) -> tuple[str, ...]:
        """Name the stages that are finished."""
        if self.folder is None or not self.folder.is_dir():
            return ()
        names = [path.name for path in self.folder.glob(f"*{FINISHED}")]
        stages = [name.removesuffix(FINISHED) for name in names if not name.endswith(HALFWAY)]
        return tuple(sorted(stage for stage in stages if self.finished(stage) is not None))

    def discard(self) -> None:
        """Throw everything away."""
        if self.folder is not None and self.writing:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        from safetensors import SafetensorError, safe_open

        path = None if self.folder is None else self.folder / name
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
                told = file.metadata() or {}
            if told.get("seal") != _seal(tensors, told.get("facts", "")):
                return None
            return tensors, json.loads(told["facts"])
        except (OSError, SafetensorError, json.JSONDecodeError):
            return None

    def _write(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        from safetensors.torch import save

        if self.folder is None or not self.writing:
            return
        held = owned(tensors)
        told = json.dumps(facts)
        draft = self.folder / f".{name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(save(held, {"facts": told, "seal": _seal(held, told)}))
            draft.replace(self.folder / name)
        except OSError as fault:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise StudentError(
                f"The work so far cannot be kept in {self.folder}: {fault.strerror or fault}.",
                hint="Make room, or choose another --output; the same command goes on from there.",
            ) from fault


def owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor memory of its own on the CPU: safetensors take no two names for one."""
    return {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}


def _seal(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Give the sha256 of what a file holds."""
    import torch

    raw = hashlib.sha256(facts.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        raw.update(f"{key} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        raw.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return raw.hexdigest()


def optimiser_state(optimiser: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Give an optimiser's tensors, named by parameter and slot, and its groups as plain values."""
    state = optimiser.state_dict()
    tensors = {
        f"{index}.{slot}": value for index, own in state["state"].items() for slot, value in own.items()
    }
    return tensors, {"groups": state["param_groups"]}


def restore_optimiser(optimiser: Any, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Put back what `optimiser_state` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, slot = name.partition(".")
        state.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": facts["groups"]})
