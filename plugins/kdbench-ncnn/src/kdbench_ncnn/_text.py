"""What pnnx wrote, read: a network's layers as text, and which of its inputs have a batch axis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdbench import Unsupported

CAST, NOOP = "Tensor.to", "Noop"
FED = re.compile(r'ex\.input\("(\w+)", ncnn\.Mat\(.*batch_index=(\d+)\)')
FIRST, NONE = 0, 233
"""Which axis pnnx took for the batch: the first; or none, and the batch is a dimension like any other."""


@dataclass(frozen=True, slots=True)
class Network:
    """One converted network.

    param: its layers, as text.
    weights: the same in binary.
    batched: of each of the student's inputs, whether it has a batch axis, apart from its dimensions.
    """

    param: str
    weights: bytes
    batched: tuple[bool, ...]

    def write(self, workdir: Path, index: int) -> tuple[Path, Path]:
        """Write the two files that ncnn loads."""
        param, weights = workdir / f"network-{index}.param", workdir / f"network-{index}.bin"
        param.write_text(self.param)
        weights.write_bytes(self.weights)
        return param, weights


def batched_in(example: Path, blobs: Sequence[str]) -> tuple[bool, ...]:
    """Read from the example that pnnx writes which inputs have a batch axis; it says so nowhere else."""
    axes = dict(FED.findall(example.read_text()))
    unknown = [blob for blob in blobs if int(axes.get(blob, -1)) not in (FIRST, NONE)]
    if unknown:
        raise Unsupported(
            f"pnnx takes the batch of {', '.join(unknown)} for another axis than the first.",
            hint="Use another backend that reads ONNX, such as onnxruntime.",
        )
    return tuple(int(axes[blob]) == FIRST for blob in blobs)


def without_casts(param: str, blobs: Sequence[str]) -> str:
    """Take out conversions of the inputs to fp32: ncnn has none, and a runner's inputs are fp32 already."""
    lines = []
    for line in param.splitlines():
        words = line.split()
        inert = words[0] == CAST and set(words[4 : 4 + int(words[2])]) <= set(blobs)
        lines.append(line.replace(CAST, NOOP.ljust(len(CAST)), 1) if inert else line)
    return "\n".join([*lines, ""])


def layer_types(param: str) -> Iterator[str]:
    """List the type of each layer; two lines stand before them."""
    return (line.split()[0] for line in param.splitlines()[2:] if line.strip())


def refuse_unknown(param: str, name: str) -> None:
    """Refuse layers that ncnn does not have, where ncnn is there to be asked."""
    try:
        import ncnn
    except ImportError:
        return
    unknown = sorted({kind for kind in layer_types(param) if ncnn.layer_to_index(kind) < 0})
    if unknown:
        raise Unsupported(
            f"ncnn knows no {', '.join(unknown)}, of which pnnx made {name}.",
            hint="Use another backend that reads ONNX, such as onnxruntime.",
        )
