"""The methods as torch modules: what training adds up, with what has to be learned beside the student."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch  # noqa: TID253  # a term is a torch module; this file is loaded only to build one
from torch import Tensor, nn  # noqa: TID253

from kdbench.distill.features import Answer
from kdbench.distill.methods.correlation import correlated_targets
from kdbench.distill.methods.layers import attention, hint
from kdbench.distill.methods.registry import Method, filled, find
from kdbench.distill.methods.relations import relational
from kdbench.distill.methods.targets import decoupled_targets, hard_targets, soft_targets
from kdbench.errors import RecipeError

Shape = tuple[int, ...]
Loss = Callable[..., Tensor]


class Term(nn.Module, ABC):
    """Map the answers of student and teacher to a loss; no gradient reaches the teacher."""

    def forward(self, student: Answer, teacher: Answer) -> Tensor:
        """Give the loss, a scalar, in the precision of the answers even where the networks run in less."""
        fixed = Answer(teacher.logits.detach(), tuple(one.detach() for one in teacher.features))
        with torch.autocast(student.logits.device.type, enabled=False):
            return self._loss(student, fixed)

    @abstractmethod
    def _loss(self, student: Answer, teacher: Answer) -> Tensor:
        """Compare the two answers; the teacher's has no gradient."""


class LogitTerm(Term):
    """Compare logits; features are not looked at."""

    def __init__(self, compare: Loss) -> None:
        super().__init__()
        self._compare = compare

    def _loss(self, student: Answer, teacher: Answer) -> Tensor:
        return self._compare(student.logits, teacher.logits)


class LastTerm(LogitTerm):
    """Compare the last pair of features, or the logits where there are no features."""

    def _loss(self, student: Answer, teacher: Answer) -> Tensor:
        given, wanted = ((answer.logits, *answer.features)[-1] for answer in (student, teacher))
        return self._compare(given, wanted)


class AttentionTerm(Term):
    """Compare the maps of each pair of features, and add up."""

    def _loss(self, student: Answer, teacher: Answer) -> Tensor:
        pairs = zip(student.features, teacher.features, strict=True)
        return torch.stack([attention(*pair) for pair in pairs]).sum()


class HintTerm(Term):
    """Project each of the student's features to the teacher's channels, compare, and add up.

    `projections` are linear layers over the channels, which on maps is what a 1x1 convolution is.
    """

    def __init__(self, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
        super().__init__()
        pairs = zip(student, teacher, strict=True)
        self.projections = nn.ModuleList(nn.Linear(given[0], wanted[0]) for given, wanted in pairs)

    def _loss(self, student: Answer, teacher: Answer) -> Tensor:
        triples = zip(self.projections.children(), student.features, teacher.features, strict=True)
        losses = (
            hint(given, wanted, **dict(projection.named_parameters()))
            for projection, given, wanted in triples
        )
        return torch.stack([*losses]).sum()


_LOGITS: Mapping[str, Loss] = MappingProxyType(
    {"kd": soft_targets, "hard": hard_targets, "dist": correlated_targets, "dkd": decoupled_targets}
)


def build(
    name: str, settings: Mapping[str, object], student: Sequence[Shape], teacher: Sequence[Shape]
) -> nn.Module:
    """Build the term of a method; `kdbench.distill.methods.term` has the contract."""
    method = find(name)
    values: dict[str, Any] = filled(method, settings)
    _check_pairs(method, student, teacher)
    if name == "hint":
        return HintTerm(student, teacher)
    if name == "attention":
        return AttentionTerm()
    if name == "relational":
        return LastTerm(partial(relational, **values))
    return LogitTerm(partial(_LOGITS[name], **values))


def _check_pairs(method: Method, student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
    if len(student) != len(teacher):
        raise RecipeError(
            f"{method.name}: {len(student)} layers of the student stand against {len(teacher)} of the "
            "teacher; they are paired in their order.",
            hint="Name as many modules of the one as of the other.",
        )
    if method.needs_features and not student:
        raise RecipeError(
            f"{method.name} compares features, and no layer is named.",
            hint="Name a module of the student and one of the teacher.",
        )
    for number, (given, wanted) in enumerate(zip(student, teacher, strict=True), 1):
        for whose, shape in (("student", given), ("teacher", wanted)):
            if len(shape) not in (1, 3) or min(shape) < 1:
                raise RecipeError(
                    f"{method.name}: layer {number} of the {whose} answers {_told(shape)} to an image; "
                    "channels, or channels x height x width, were expected."
                )
        if method.name == "attention":
            _check_maps(number, given, wanted)


def _check_maps(number: int, student: Shape, teacher: Shape) -> None:
    """Refuse a pair whose common map would have one point: normalised, that is 1 whatever is there."""
    common = [min(sizes) for sizes in zip(student[1:], teacher[1:], strict=False)]
    if max(common, default=1) == 1:
        raise RecipeError(
            f"attention: layer {number} of the student answers {_told(student)} to an image and the "
            f"teacher's {_told(teacher)}, which have no map of more than one point in common.",
            hint="Name convolutional layers, before the average over the image; or use the method hint.",
        )


def _told(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"
