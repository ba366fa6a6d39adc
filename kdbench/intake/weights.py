"""The weights of a torch network: read from a file, fitted to the network, and packed."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from kdbench.errors import StudentError, UsageError
from kdbench.problems import quote
from kdbench.strict import clean

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(network: nn.Module, path: Path, factory: str, *, trust_code: bool) -> None:
    """Load a state dict into the network; one sentence where they do not fit."""
    found = _state(path, trust_code=trust_code)
    own = network.state_dict()
    if found and all(name.startswith("module.") for name in found) and not found.keys() & own.keys():
        # What torch.nn.DataParallel wraps around a network.
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    faults = [
        f"{quote(name)} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in found and found[name].shape != tensor.shape
    ]
    # Checkpoints of old lack this counter, and inference does not need it.
    lacking = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    surplus = [name for name in found if name not in own]
    for names, told in ((lacking, "lacks"), (surplus, "has beside them")):
        if names:
            faults.append(f"it {told} {_several(names)}")
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise StudentError(
            f"The weights in {quote(path.name)} do not fit {quote(factory)}: {'; '.join(faults[:3])}{more}.",
            hint="Give the factory the --argument KEY=VALUE that the weights were trained with.",
        )
    network.load_state_dict(found, strict=False)


def _state(path: Path, *, trust_code: bool) -> dict[str, Tensor]:
    """Read tensors by name from `.safetensors`, or with trust from a pickle, tensors only."""
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{quote(str(path))} is not a file.", hint="--weights takes a .safetensors file of a state dict."
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as fault:
            raise StudentError(
                f"{quote(path.name)} cannot be read as safetensors: {first_line(fault)}.",
                hint="Write it with safetensors.torch.save_file(network.state_dict(), path).",
            ) from fault
    if not trust_code:
        raise UsageError(
            f"{quote(path.name)} is not .safetensors; loading a pickle can run code that is in it.",
            hint="Convert it with safetensors.torch.save_file, or add --trust-code if you trust its maker.",
        )
    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # pickles of every kind, zip files, foreign classes
        more = "it holds more than tensors" if isinstance(fault, UnpicklingError) else first_line(fault)
        raise StudentError(
            f"{quote(path.name)} cannot be loaded as a state dict: {more}.",
            hint="Write it with torch.save(network.state_dict(), path): tensors and nothing else.",
        ) from fault
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise StudentError(
            f"{quote(path.name)} holds no state dict: tensors by name were expected.",
            hint="Write it with torch.save(network.state_dict(), path).",
        )
    return found


def refuse_non_numbers(network: nn.Module) -> None:
    """Refuse weights with NaN, by the name that the network gives them."""
    import torch

    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and torch.isnan(tensor).any():
            raise StudentError(
                f"The weight {quote(name)} holds NaN.",
                hint="Training went wrong: take an earlier checkpoint.",
            )


def pack(network: nn.Module) -> bytes:
    """Serialise the weights; those that share memory are copied, as the format wants it."""
    from safetensors.torch import save

    return bytes(save({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}))


def first_line(fault: Exception) -> str:
    """Give the first line of what another library says."""
    line = next((line for line in str(fault).splitlines() if line.strip()), "")
    return clean(line).strip().rstrip(".:")[:300] or type(fault).__name__


def _several(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(quote(name) for name in names[:3])}{more}"
