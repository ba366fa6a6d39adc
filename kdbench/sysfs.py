"""Small texts that the Linux kernel keeps in /proc and /sys; absent elsewhere, and then None.

Every function takes the path below a root folder, so that the tree of another machine can be read.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def text(path: Path) -> str | None:
    """Read a small file, stripped; None where it is absent, unreadable or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n\t ") or None
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """Read a file that holds one integer; None where it holds none, as `max` does."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def numbers(path: Path) -> tuple[int, ...]:
    """Read a file that holds a list of CPUs or nodes; empty where there is none."""
    return parse_list(text(path) or "")


def parse_list(written: str) -> tuple[int, ...]:
    """Read a list as the kernel writes it: `0-3,8` is 0, 1, 2, 3, 8."""
    found: set[int] = set()
    for part in written.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
