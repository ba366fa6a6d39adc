"""Networks before training: built as the recipe says, and refused where they could not be trained or used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.distill.tables import NetworkPlan, Recipe
from kdbench.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kdbench.spec import Scalar


def fresh(recipe: Recipe, plan: NetworkPlan, classes: Sequence[str], *, trust_code: bool = True) -> nn.Module:
    """Build an untrained network; RecipeError unless it gives one logit per class for the recipe's images.

    Whether strangers' code may run was decided before: see `kdbench.distill.check`.
    """
    import torch

    from kdbench.distill.nets import build

    keywords = arguments(plan, classes)
    wanted = (2, len(classes))
    try:
        network = build(plan.network, keywords, seed=recipe.seed, trust_code=trust_code).eval()
        with torch.inference_mode():
            answer = network(torch.zeros(2, 3, recipe.data.size, recipe.data.size))
    except RecipeError:
        raise
    # A network is anybody's code: anything may come out of it, also the end of a script.
    except (Exception, SystemExit) as fault:
        raise RecipeError(
            f"The network {plan.network!r} cannot take the recipe's images: {_told(fault)}."
        ) from fault
    found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if found != wanted:
        raise RecipeError(
            f"The network {plan.network!r} answers two images of {len(classes)} classes with {found}, "
            f"not with {wanted}.",
            hint="Its factory has to heed the keyword `classes`.",
        )
    _check_weights(network, plan.network)
    _check_logits(answer, plan.network)
    return network


def _told(fault: BaseException) -> str:
    told = f"{type(fault).__name__}: {' '.join(str(fault).split())}"
    return told[:300].rstrip(".: ")


def _check_weights(network: nn.Module, what: str) -> None:
    import torch

    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in held.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RecipeError(f"The network {what!r} begins with NaN or infinity in {name}.")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(f"The network {what!r} has no weights that can be trained.")


def _check_logits(answer: Tensor, what: str) -> None:
    import torch

    alike = torch.allclose(answer.sum(1), torch.ones(len(answer)), atol=1e-5)
    if alike and bool((answer >= 0).all()):
        raise RecipeError(
            f"The network {what!r} answers probabilities; every method here learns from logits.",
            hint="Take the softmax off its end.",
        )


def arguments(plan: NetworkPlan, classes: Sequence[str]) -> dict[str, Scalar | tuple[Scalar, ...]]:
    """Give the keywords of a network's factory."""
    return {**plan.arguments, "classes": len(classes)}
