"""What a network answers on the way to its logits: modules named by path, heard by forward hooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self
from weakref import finalize

from kdbench.errors import RecipeError
from kdbench.problems import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

_OFFERED = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says of a batch of N images.

    logits: (N, classes) float32. features: of each module asked for, in that order, (N, C, H, W) or (N, C)
    float32. `answer[:n]` is the answer to the first n images.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each module's features for one image: (C, H, W) or (C,)."""
        return tuple(tuple(one.shape[1:]) for one in self.features)

    def __getitem__(self, images: slice) -> Answer:
        return Answer(self.logits[images], tuple(one[images] for one in self.features))


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a module answered, and how often that tensor had been written to by then."""

    output: object
    writes: int


class _Ears:
    """Where the hooks of a Watched network leave what they hear; None while nobody listens."""

    def __init__(self) -> None:
        self.heard: tuple[list[_Heard], ...] | None = None


class Watched:
    """A network that answers with the features of the named modules beside its logits.

    network: what is called. paths: names as in `named_modules()`; one may stand there twice. inside: the
    network in which the paths are looked up, where `network` is a wrapper around it; else `network` itself.

    The network is not changed but for a hook on each named module, which `close`, the end of a `with`, or
    the end of this object takes away again. Nothing is kept of a call; gradients flow through logits and
    features as usual, and modes (`train`, `eval`, `no_grad`) are the caller's. Raises RecipeError for a path
    that leads to no module; and when called, for a module that does not answer exactly once with one tensor
    that lasts.
    """

    def __init__(self, network: nn.Module, paths: Sequence[str], inside: nn.Module | None = None) -> None:
        modules = [_find(network if inside is None else inside, path) for path in paths]
        self._network = network
        self._paths = tuple(paths)
        # The hooks know the ears and not this object, which could not end before the network otherwise.
        self._ears = _Ears()
        hooks = [
            module.register_forward_hook(partial(_hear, self._ears, place))
            for place, module in enumerate(modules)
        ]
        self._end = finalize(self, _unhook, hooks)
        self._end.atexit = False

    def __call__(self, images: Tensor) -> Answer:
        """Run the network on images (N, 3, H, W) and give what it and its watched modules answered."""
        if not self._end.alive:
            raise ValueError("a Watched network was called after it had been closed")
        heard: tuple[list[_Heard], ...] = tuple([] for _ in self._paths)
        self._ears.heard = heard
        try:
            logits = self._network(images)
        finally:
            # Calls outside this one, as those that recompute activations in a backward pass, are not ours.
            self._ears.heard = None
        features = (_feature(*pair, len(images)) for pair in zip(self._paths, heard, strict=True))
        return Answer(_logits(logits, len(images)), tuple(features))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks away; a second time does nothing."""
        self._end()


def _hear(ears: _Ears, place: int, module: nn.Module, inputs: object, output: object) -> None:
    """Note the answer of the module at this place, as a forward hook."""
    from torch import Tensor

    if ears.heard is None:
        return
    if isinstance(output, Tensor) and output.is_inference():
        # Writes to inference tensors are not counted, so that only a copy is safe from them.
        output = output.clone()
    ears.heard[place].append(_Heard(output, _writes(output)))


def _unhook(hooks: Sequence[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def _find(network: nn.Module, path: str) -> nn.Module:
    named = network.named_modules(remove_duplicate=False)
    modules: dict[str, nn.Module] = {name: module for name, module in named if name}
    if path in modules:
        return modules[path]
    meant = nearest(path, modules)
    names = [*modules][:_OFFERED] + (["…"] if len(modules) > _OFFERED else [])
    raise RecipeError(
        f"The network has no module {path!r} to take features from.",
        hint=f"Did you mean {meant!r}?" if meant else f"It has: {', '.join(names) or 'none'}.",
    )


def _writes(output: object) -> int:
    from torch import Tensor

    return output._version if isinstance(output, Tensor) and not output.is_inference() else 0


def _logits(output: object, count: int) -> Tensor:
    from torch import Tensor

    if not isinstance(output, Tensor):
        raise RecipeError(f"The network answers a {type(output).__name__}, not one tensor of logits.")
    if output.ndim != 2 or len(output) != count:
        raise RecipeError(
            f"The network answers a tensor of shape {tuple(output.shape)} to {count} images; "
            f"logits ({count}, classes) were expected."
        )
    return output.float()


def _feature(path: str, heard: Sequence[_Heard], count: int) -> Tensor:
    """Give the one tensor that a module answered, or say why it cannot be used."""
    from torch import Tensor

    if len(heard) != 1:
        often = f"called {len(heard)} times" if heard else "not called"
        raise RecipeError(
            f"The module {path!r} is {often} when the network runs; exactly once was expected.",
            hint="Name one that is used once on the way from images to logits, such as the block around it.",
        )
    output = heard[0].output
    if not isinstance(output, Tensor):
        raise RecipeError(
            f"The module {path!r} answers a {type(output).__name__}, not one tensor.",
            hint="Name a module before or after it that answers one tensor.",
        )
    if output.ndim not in (2, 4) or len(output) != count or not output.is_floating_point():
        raise RecipeError(
            f"The module {path!r} answers a tensor of shape {tuple(output.shape)} and {output.dtype} to "
            f"{count} images; numbers ({count}, C, H, W) or ({count}, C) were expected."
        )
    if _writes(output) != heard[0].writes:
        raise RecipeError(
            f"What the module {path!r} answers is overwritten by a later one that works in place.",
            hint="Name the later module, or the block around both.",
        )
    return output.float()
