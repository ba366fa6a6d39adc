"""What a device is called: its kind, the physical thing behind its name, and what a user may call it."""

from __future__ import annotations

HOST = "host"
"""The physical thing behind every device of the kind `cpu`."""

_MARK = 4
"""Characters of `GPU-` and `MIG-`: a beginning of a UUID says more than that."""


def kind(id: str) -> str:  # noqa: A002  # named as the field of `spec.Device`
    """Give the kind that an id begins with: `gpu` for `gpu.0`, `cuda` for `cuda:1`."""
    return id.split(":")[0].split(".")[0]


def physical(id: str, uuid: str = "") -> str:  # noqa: A002  # named as the field of `spec.Device`
    """Name the physical thing behind a device: the UUID that its driver tells, `host` for a CPU, else the id.

    Two backends may call one GPU by unlike ids, and two GPUs by like ones; cells alternate only where this is
    alike.
    """
    return uuid or (HOST if kind(id).lower() == "cpu" else id)


def meant(wish: str, id: str, uuid: str = "") -> bool:  # noqa: A002  # named as the field of `spec.Device`
    """Tell whether `--device` means this one: by its id, its kind, its UUID or the beginning of that."""
    return wish in (id, kind(id)) or begins(wish, uuid)


def begins(wish: str, uuid: str) -> bool:
    """Tell whether a wish is a UUID or the beginning of one; upper and lower case are alike."""
    return len(wish) > _MARK and uuid.casefold().startswith(wish.casefold())
