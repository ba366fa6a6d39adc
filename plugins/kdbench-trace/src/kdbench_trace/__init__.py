"""An observer of kdbench: one trace per cell, in the Trace Event Format, that opens in Perfetto.

`tracer` holds the wrappers and the slices, `sampler` is a process of its own that looks at the threads,
`activity` makes tracks of what it saw, `operators` asks PyTorch's profiler where PyTorch is loaded, `chrome`
writes the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench import Observation
    from kdbench_trace.tracer import Tracer


def observe(observation: Observation) -> Tracer:
    """Make the observer of one cell; its trace will be `trace.json` in the observation's folder."""
    from kdbench_trace.tracer import Tracer

    return Tracer(observation)
