"""Teacher to student to bundle: the only part of the core that trains, and that needs torch.

`recipe` says what to do, `data` makes the images, `nets` the networks, `losses` what to minimise; `train`
runs the steps, `ladder` the stages, `export` checks the outcome and packs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import UsageError
from kdbench.spec import Student
from kdbench.student import check_writable, write_bundle

if TYPE_CHECKING:
    from kdbench.card import LadderRow
    from kdbench.distill.recipe import Recipe
    from kdbench.distill.train import Progress

_NEEDS = {
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
    "torch": "torch",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished distillation: the bundle, its ladder, what the rows show in words, seconds per stage."""

    student: Student
    ladder: tuple[LadderRow, ...]
    account: tuple[str, ...]
    stage_s: dict[str, float]


def distill(recipe: Recipe, directory: Path, progress: Progress, *, overwrite: bool = False) -> Outcome:
    """Train teacher and student as the recipe says and write the student's verified bundle to `directory`.

    Takes half a minute for the embedded recipe. Raises before training if the bundle could not be written.
    """
    require_libraries()
    check_writable(directory, overwrite=overwrite)
    from kdbench.distill.export import pack
    from kdbench.distill.ladder import account, distil

    distilled = distil(recipe, progress)
    card, files = pack(distilled)
    student = write_bundle(directory, card, files, overwrite=overwrite)
    return Outcome(student, card.ladder, account(card), distilled.stage_s)


def require_libraries() -> None:
    """Raise one UsageError that names every library that training needs and that is not installed."""
    lacking = [distribution for module, distribution in _NEEDS.items() if find_spec(module) is None]
    if lacking:
        raise UsageError(
            f"Distillation needs what is not installed here: {', '.join(lacking)}.",
            hint="In a checkout of kdbench: pip install -r requirements-dev.txt",
        )
