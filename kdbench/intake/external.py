"""Weights that an ONNX file keeps beside itself: found only inside its own folder, and taken into it."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.card import FILE_LIMIT_BYTES
from kdbench.errors import StudentError
from kdbench.problems import quote
from kdbench.walk import tensors

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

TOO_LARGE = f"more than the {FILE_LIMIT_BYTES} bytes that one ONNX file can hold"


def inline(model: ModelProto, folder: Path) -> int:
    """Read the external data of every tensor into the model itself; answers how many tensors had some.

    Raises StudentError for a path that leaves `folder` (absolute, `..`, or through a link), for a file that
    is not there or too short, and where the whole would be larger than an ONNX file can be.
    """
    outside = [tensor for tensor in tensors(model) if tensor.data_location == tensor.EXTERNAL]
    total = model.ByteSize()
    for tensor in outside:
        name = quote(tensor.name)
        facts = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(folder, facts.get("location", ""), name)
        offset, length = _whole(facts.get("offset", "0"), name), _length(tensor)
        if _whole(facts.get("length", str(length)), name) != length:
            raise StudentError(
                f"The weight {name} needs {length} bytes, and its file entry has {facts['length']}.",
                hint="Export the model anew.",
            )
        total += length
        if total > FILE_LIMIT_BYTES:
            raise StudentError(f"The model with its weights would be {TOO_LARGE}.", hint="It is too large.")
        with path.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(length)
        if len(content) < length:
            raise StudentError(
                f"The file {quote(path.name)} ends before the weight {name} does.",
                hint="Copy it again: it is not whole.",
            )
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return len(outside)


def _inside(folder: Path, location: str, name: str) -> Path:
    """Give the file that external data are read from, links followed, and refuse one outside the folder."""
    parts = location.split("/")
    if "\\" in location or "\0" in location or ":" in location or any(part in ("", "..") for part in parts):
        raise _leaving(location, name)
    home = folder.resolve()
    try:
        path = home.joinpath(*parts).resolve(strict=True)
    except (OSError, RuntimeError) as fault:
        raise StudentError(
            f"The weight {name} is kept in {quote(location)}, which is not beside the model.",
            hint="Copy all files of the model into one folder.",
        ) from fault
    if not path.is_relative_to(home):
        raise _leaving(location, name)
    if not path.is_file():
        raise StudentError(f"The weight {name} is kept in {quote(location)}, which is not a file.")
    return path


def _leaving(location: str, name: str) -> StudentError:
    return StudentError(
        f"The weight {name} is kept in {quote(location)}, which is not a path inside the model's own folder.",
        hint="An honest model names a file beside itself; if a link leads there, put the file in its place.",
    )


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise StudentError(f"The file entry of the weight {name} has {quote(text)} where a number should be.")
    return int(text)


def _length(tensor: TensorProto) -> int:
    """Count the bytes that a tensor of this type and shape takes."""
    from onnx import TensorProto, helper

    elements = prod(tensor.dims) if min(tensor.dims, default=0) >= 0 else 0
    kind = {number: name for name, number in TensorProto.DataType.items()}.get(tensor.data_type, "")
    # Types of 4 and 2 bits are packed.
    for bits in (4, 2):
        if kind in (f"INT{bits}", f"UINT{bits}", "FLOAT4E2M1" if bits == 4 else ""):
            return -(-elements * bits // 8)
    try:
        return elements * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError, TypeError) as fault:
        raise StudentError(f"The weight {quote(tensor.name)} has a type that is not known.") from fault
