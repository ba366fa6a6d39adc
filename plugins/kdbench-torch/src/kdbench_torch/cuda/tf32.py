"""TF32, the float32 of tensor cores with 10 bits of mantissa: switched for the whole process, and read back.

docs.pytorch.org/docs/stable/notes/cuda.html, "TensorFloat-32 (TF32) on Ampere (and later) devices". cuDNN's
convolutions use it by default, matrix products do not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""With the value 0, NVIDIA's libraries never use TF32, whatever a program asks for
(docs.nvidia.com/deeplearning/frameworks/tensorflow-user-guide)."""


def allow(allowed: bool) -> None:
    """Turn TF32 on or off everywhere: matrix products, convolutions, recurrent layers.

    Both sets of switches are set, `allow_tf32` first and then, from torch 2.9 on, `fp32_precision`. Torch
    raises when it finds that they disagree, and its own compiler reads both.
    """
    import torch

    backends: Any = torch.backends
    with warnings.catch_warnings():
        # Torch 2.9 warns that the older switches will go.
        warnings.simplefilter("ignore")
        backends.cuda.matmul.allow_tf32 = allowed
        backends.cudnn.allow_tf32 = allowed
        for operation in _newer(backends):
            operation.fp32_precision = "tf32" if allowed else "ieee"


def allowed() -> bool:
    """Tell whether anything in this process may compute float32 as TF32: one switch that is on is enough."""
    import torch

    backends: Any = torch.backends
    if os.environ.get(OVERRIDE) == "0":
        return False
    newer = [operation.fp32_precision == "tf32" for operation in _newer(backends)]
    return any(newer or (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32))


def reader() -> Callable[[], bool]:
    """Give the quickest way to ask for it between two calls of `allow`.

    It takes 0.1 µs, the property of torch.backends that answers the same 0.8 µs.
    """
    import torch

    ask: Callable[[], bool] = torch._C._get_cublas_allow_tf32
    return ask


def _newer(backends: Any) -> tuple[Any, ...]:
    if not hasattr(backends.cudnn, "conv"):
        return ()
    return backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
