"""What torch raises when the GPU has no memory left, as the sentence that becomes a row of the table."""

from __future__ import annotations

from kdbench.errors import BackendError
from kdbench_torch.inductor import first_line

HINT = "Ask for a smaller batch or a lower depth, or end what else uses this GPU."


def out_of_memory(fault: RuntimeError, where: str, phase: str) -> BackendError | None:
    """Give the error to raise instead if memory is what is lacking, or None for any other fault."""
    if not is_out_of_memory(fault):
        return None
    return BackendError(f"torch is out of memory on {where}: {first_line(fault)}", hint=HINT, phase=phase)


def is_out_of_memory(fault: RuntimeError) -> bool:
    """Tell whether memory is what is lacking.

    Torch's allocator raises OutOfMemoryError, the driver and pinned memory "CUDA error: out of memory",
    cuBLAS and cuDNN a status.
    """
    import torch

    told = str(fault)
    return isinstance(fault, torch.OutOfMemoryError) or "out of memory" in told or "ALLOC_FAILED" in told
