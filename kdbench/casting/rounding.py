"""The two formats of sixteen bits: what they hold, and fp32 numbers rounded to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import TensorProto

    from kdbench.spec import Array, Precision


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format of sixteen bits.

    onnx: its name among ONNX's element types, and `tensor(bfloat16)` or alike among its operators' types.
    largest, smallest: its largest finite number, and the smallest that it holds with all its digits.
    """

    precision: Precision
    onnx: str
    largest: float
    smallest: float

    @property
    def kind(self) -> int:
        """Give the number of the element type in ONNX."""
        from onnx import TensorProto

        return int(TensorProto.DataType.Value(self.onnx))

    @property
    def tensor(self) -> str:
        """Give the type as an operator's schema writes it."""
        return f"tensor({self.onnx.lower()})"


FORMATS: tuple[Format, ...] = (
    Format("fp16", "FLOAT16", 65504.0, 2.0**-14),
    Format("bf16", "BFLOAT16", (2.0 - 2.0**-7) * 2.0**127, 2.0**-126),
)


def rounded(tensor: TensorProto, name: str, target: Format) -> TensorProto:
    """Give an fp32 tensor under another name in a format of 16 bits, each number rounded to the nearest."""
    from onnx import TensorProto, numpy_helper

    values = numpy_helper.to_array(tensor).astype("<f4", copy=False)
    return TensorProto(
        name=name,
        data_type=target.kind,
        dims=values.shape,
        raw_data=(_half(values) if target.precision == "fp16" else _brain(values)).tobytes(),
    )


def _half(values: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype("<f2")


def _brain(values: Array) -> Array:
    """Round to the upper half of an fp32's bits, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(values).view("<u4")
    nearest = (bits + ((bits >> 16) & 1) + np.uint32(0x7FFF)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), nearest).astype("<u2")
