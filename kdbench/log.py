"""The log of a worker: all that a plugin and its vendor print, of which the end is kept when it failed."""

from __future__ import annotations

from pathlib import Path

from kdbench.errors import BackendError

LIMIT_BYTES = 64 << 20
"""A worker that prints more is ended."""

KEPT_BYTES = 256 << 10

_OUT_OF_MEMORY = (b"bad_alloc", b"MemoryError", b"out of memory", b"Cannot allocate")


def flooded(log: Path) -> bool:
    """Tell whether more was printed than anybody reads."""
    return log.stat().st_size > LIMIT_BYTES


def tells_of_memory(log: Path) -> bool:
    """Tell whether the end of a log says that memory ran out."""
    end = _end(log)
    return any(words in end for words in _OUT_OF_MEMORY)


def keep(log: Path, folder: Path, fault: BackendError) -> str:
    """Copy the end of a log, and what became of its worker, to a folder that outlives the run.

    Answers the path of the copy; nothing where there is no room: a log is no reason to lose the result.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / log.name
        kept.write_bytes(_end(log) + f"kdbench: failed in {fault.phase}: {fault.message}\n".encode())
    except OSError:
        return ""
    return str(kept)


def _end(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - KEPT_BYTES))
        return file.read()
