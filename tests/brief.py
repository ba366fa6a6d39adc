"""A distillation with hardly any steps and few images, for tests of what it leaves behind."""

from __future__ import annotations

import tomllib
from typing import Any

from kdbench.distill.recipe import recipe_path
from kdbench.distill.train import Update

STEPS = {"pretrain": 20, "finetune": 4, "distill": 6}
CONTROLS = {"scratch": 4, "pretrain": 4, "finetune": 4, "oracle": 4}


def brief(**changes: Any) -> dict[str, Any]:
    """Give the embedded recipe's table, shortened, with top-level keys replaced."""
    table = tomllib.loads(recipe_path("digits-2x5").read_text())
    table["data"] |= {"source_train": 60, "source_test": 20, "unlabelled": 64, "test": 50, "calibration": 16}
    for stage, steps in STEPS.items():
        table[stage]["steps"] = steps
    for stage, steps in CONTROLS.items():
        table["controls"][stage]["steps"] = steps
    # Exporting takes longer than these few steps.
    table["bundle"]["teacher"] = False
    return table | changes


def quiet(update: Update) -> None:
    """Tell nothing."""
