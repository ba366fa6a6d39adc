"""The backend `tensorrt`."""

from __future__ import annotations

from kdbench_tensorrt.editions import STANDARD
from kdbench_tensorrt.hooks import Hooks

HOOKS = Hooks(STANDARD)
