"""Making inference sessions on a chain of NVIDIA's providers, the first of which has to compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort  # noqa: TID253  # this module is imported inside hooks only

from kdbench import Target
from kdbench_onnxruntime._model import session_options

Chain = Sequence[tuple[str, Mapping[str, str]]]
"""Providers with their options, the preferred one first; the CPU's stands at the end of its own accord."""


def opened(model: Path, target: Target, axis: str, batch_size: int | None, chain: Chain) -> Any:
    """Open an inference session for one batch size, None for any."""
    return opened_with(model, session_options(target, axis, batch_size), chain)


def opened_with(model: Path, options: Any, chain: Chain) -> Any:
    """Open an inference session that raises where a provider fails.

    ONNX Runtime's Python would print that and try once more on what is left.
    """
    providers = [(name, dict(given)) for name, given in chain]
    return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
