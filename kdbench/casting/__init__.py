"""Precision in the ONNX graph: a network in fp16 or bf16, its inputs and outputs as they were.

For plugins whose runtime computes what the graph says. TensorRT 11 has no flag for a precision any more, 10
is to be built strongly typed too, and ONNX Runtime's CUDA provider never had one.

`source` reads the file and refuses what cannot be cast, `ranges` measures what values flow through it,
`choice` says which nodes compute in fewer bits, `rewriting` makes the graph, `rounding` the weights.

Nothing is needed but the package `onnx`, which stands beside every onnxruntime and TensorRT. What else there
is was tried in the versions of November 2026, and docs/hooks.md has what was found.
"""

from __future__ import annotations

from kdbench.casting.conversion import cast, samples

__all__ = ["cast", "samples"]
