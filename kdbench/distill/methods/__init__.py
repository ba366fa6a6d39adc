"""Methods of distillation: losses as small pure functions of tensors, and a registry of them by name.

`registry` says what there is and checks what a recipe asks for, without torch; `term` makes a module of it.
The functions stand in `targets` and `correlation` (of logits), `layers` (of features) and `relations` (of
either), each with its formula and source. Means are over the batch that a function is given: `relational`
and what gamma weighs in `dist` compare images with each other, and depend on its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kdbench.distill.methods.correlation import correlated_targets
from kdbench.distill.methods.layers import attention, hint
from kdbench.distill.methods.registry import METHODS, Method, Setting, checked
from kdbench.distill.methods.relations import relational
from kdbench.distill.methods.targets import (
    cross_entropy,
    decoupled_targets,
    hard_targets,
    soft_targets,
    standardised,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "METHODS",
    "Method",
    "Setting",
    "attention",
    "checked",
    "correlated_targets",
    "cross_entropy",
    "decoupled_targets",
    "hard_targets",
    "hint",
    "relational",
    "soft_targets",
    "standardised",
    "term",
]


def term(
    name: str,
    settings: Mapping[str, object],
    student: Sequence[tuple[int, ...]],
    teacher: Sequence[tuple[int, ...]],
) -> nn.Module:
    """Make the loss of a method: a module that maps (student's Answer, teacher's Answer) to a scalar.

    settings: as `checked` gives them; what lacks takes its default. student, teacher: shapes (C, H, W) or
    (C,) of the features in their Answers, paired in order. `hint` and `attention` add up all pairs,
    `relational` takes the last pair or, without any, the logits; the others do not look at features.
    Gradients reach the student alone. The term of `hint` has parameters, drawn from torch's current random
    state, which must be trained with the student's; the others have none.

    Raises RecipeError for an unknown method or setting, unequal numbers of features, none where the
    method needs them, and shapes that it cannot compare.
    """
    from kdbench.distill.methods.terms import build

    return build(name, settings, student, teacher)
