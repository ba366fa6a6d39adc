"""Read and write the arrays of a bundle: no pickles, nothing larger than was promised, stable bytes."""

from __future__ import annotations

import io
import tokenize
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kdbench.errors import StudentError

if TYPE_CHECKING:
    from kdbench.spec import Array

Layout = tuple[str, tuple[int, ...]]
"""What an array must be: its dtype and its whole shape."""

_HINT = "Get the bundle again from where it came, or make it anew with `kdbench distill`."


def read_npz(
    path: Path, layouts: Mapping[str, Layout], only: Collection[str] | None = None
) -> dict[str, Array]:
    """Read exactly these arrays; the header of each must be its layout before any data is unpacked.

    only: which of them are wanted; the file must hold them all. None: every one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = sorted(archive.namelist())
            if found != sorted(f"{name}.npy" for name in layouts):
                raise StudentError(f"{path.name} holds {found}, expected {sorted(layouts)}.", hint=_HINT)
            arrays = {}
            for name in layouts if only is None else only:
                layout = layouts[name]
                with archive.open(f"{name}.npy") as stream:
                    arrays[name] = read_npy(stream, layout, f"{name} in {path.name}")
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as fault:
        raise StudentError(f"{path.name} cannot be read: {fault}.", hint=_HINT) from fault
    return arrays


def read_npy(stream: IO[bytes], layout: Layout, what: str) -> Array:
    """Read one C-ordered array of this layout from a seekable stream; `what` names it in the StudentError."""
    import numpy as np

    dtype, shape = layout
    try:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        found = read_header(stream)
        if found != (shape, False, np.dtype(dtype)):
            order = "Fortran" if found[1] else "C"
            raise StudentError(
                f"{what} is {found[2]} {found[0]} in {order} order, expected {dtype} {shape} in C order.",
                hint=_HINT,
            )
        stream.seek(0)
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    # A header is read as Python would read it: what is no literal fails in the tokenizer or the parser.
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile) as fault:
        raise StudentError(f"{what} cannot be read: {fault}.", hint=_HINT) from fault
    return array


def pack_npz(**arrays: Array) -> bytes:
    """Pack arrays as a compressed npz; the same arrays give the same bytes whatever the time is."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            # A ZipInfo made from a name alone bears the date 1980-01-01, not today's.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, pack_npy(array))
    return packed.getvalue()


def pack_npy(array: Array) -> bytes:
    """Pack one array as npy, C-ordered."""
    import numpy as np

    packed = io.BytesIO()
    np.lib.format.write_array(packed, np.ascontiguousarray(array), allow_pickle=False)
    return packed.getvalue()
