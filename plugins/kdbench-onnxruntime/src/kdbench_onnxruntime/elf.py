"""Which libraries an ELF file needs, read from the file itself.

Read here and not with a package for it: the probe has to name a missing library where nothing but the wheel
is installed, and one field of the format is all that it asks for.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little endian: what every platform with a GPU wheel has."""

_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS = 0, 1, 5


def needed(path: Path) -> tuple[str, ...]:
    """List the libraries that the dynamic linker has to find for `path`, in the file's order (DT_NEEDED).

    Raises OSError for a file that cannot be read, ValueError for one that is no 64-bit little-endian ELF
    file. Source: the generic ABI, chapter 5, "Program Header" and "Dynamic Section" (gabi.xinuos.com).
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{path.name} is no 64-bit little-endian ELF file.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            try:
                return _needed(image)
            except (struct.error, StopIteration) as error:
                raise ValueError(f"{path.name} is cut off or damaged.") from error


def _needed(image: mmap.mmap) -> tuple[str, ...]:
    segments = list(_segments(image))
    offset, size = next(((at, size) for kind, at, _, size in segments if kind == _DYNAMIC), (0, 0))
    entries = [struct.unpack_from("<qQ", image, offset + 16 * index) for index in range(size // 16)]
    names = [value for tag, value in entries if tag == _NEEDED]
    if not names:
        return ()
    # The table's address is that in memory; the segment that holds it says where it is in the file.
    address = next(value for tag, value in entries if tag == _STRINGS)
    table = next(
        at + address - start
        for kind, at, start, size in segments
        if kind == _LOAD and start <= address < start + size
    )
    return tuple(_text(image, table + name) for name in names)


def _segments(image: mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """Give type, offset, address and size in the file of each program header."""
    (first,) = struct.unpack_from("<Q", image, 32)
    each, count = struct.unpack_from("<HH", image, 54)
    for index in range(count):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", image, first + each * index)
        yield kind, offset, address, size


def _text(image: mmap.mmap, start: int) -> str:
    end = image.find(b"\0", start)
    if end < 0:
        raise struct.error("unterminated")
    return image[start:end].decode("utf-8", "replace")
