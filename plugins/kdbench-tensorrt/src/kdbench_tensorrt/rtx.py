"""The backend `tensorrt-rtx`."""

from __future__ import annotations

from kdbench_tensorrt.editions import RTX
from kdbench_tensorrt.hooks import Hooks

HOOKS = Hooks(RTX)
