"""Somebody's own classifier to a verified bundle: the only part of the core that reads a foreign model.

`graph` reads ONNX safely and `module` makes ONNX of a torch network; `ports`, `output` and `batch` see to one
input, one row of scores and any batch size; `evaluation` and `images` say what it is verified on; `prepare`
does all of it in order, and `take` writes what comes out.
"""

from __future__ import annotations

from kdbench.intake.ask import Ask, Taken
from kdbench.intake.fly import on_the_fly
from kdbench.intake.take import take

__all__ = ["Ask", "Taken", "on_the_fly", "take"]
