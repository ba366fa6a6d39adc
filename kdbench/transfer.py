"""How inputs get to where a timed call begins, and what it answers back from where it ends.

At the boundary `host` a call begins and ends with host arrays, and there is nothing to do. At the boundary
`device` both are copied by the runner's own `upload` and `download`, outside the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.spec import Array, Boundary


@dataclass(frozen=True, slots=True)
class Transfer:
    """The two ways over a boundary: `upload` gives what a runner takes, `download` takes what it answers."""

    boundary: Boundary
    upload: Callable[[tuple[Array, ...]], Any]
    download: Callable[[Any], Any]


def _as_it_is(arrays: Any) -> Any:
    return arrays


HOST = Transfer("host", _as_it_is, _as_it_is)
"""Host arrays go in and come out as they are."""
