"""How many workers may live at once on a GPU: as many as its free memory has room for.

What a worker takes there is not known before it runs, and a run must be planned alike when it is resumed, so
it is assumed, rather too much than too little: a context with its libraries, weights four times over (as they
are loaded, as they are laid out anew, and while both exist), and all activations of the largest batch at
once. Runtimes reuse the memory of activations; what they take for workspaces instead is within that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from kdbench.job import Job
from kdbench.schedule import ALTERNATING
from kdbench.sections import Profile
from kdbench.spec import Student, TensorSpec

CONTEXT_BYTES = 600 * 2**20
"""Of a CUDA context with the kernels and handles of a large vendor library."""

COPIES = 4
"""Of the weights."""

MACS_AN_ACTIVATION = 32
"""An activation of a convolutional network costs at least about so many products: 3 by 3 of four channels."""

USABLE = 0.9
"""Share of the free memory that is counted on: an allocator's blocks leave gaps."""

_ELEMENT_BYTES = 4


def room(jobs: Sequence[Job], profile: Profile, free_bytes: Mapping[str, int]) -> dict[str, int]:
    """Tell, by UUID, how many workers may live on a GPU at once, where that is fewer than would alternate.

    free_bytes: by UUID. Every job counts as the largest one of its GPU, and one always has room: whether a
    job fits at all, it tells itself.
    """
    costs: dict[str, list[int]] = defaultdict(list)
    for job in jobs:
        if job.device.uuid in free_bytes:
            costs[job.device.uuid].append(worker_bytes(job, profile))
    fitting = {uuid: int(USABLE * free_bytes[uuid] / max(own)) for uuid, own in costs.items()}
    return {
        uuid: max(1, count) for uuid, count in fitting.items() if count < min(ALTERNATING, len(costs[uuid]))
    }


def worker_bytes(job: Job, profile: Profile) -> int:
    """Give the memory that a worker of a job is assumed to take on its GPU."""
    images = max(job.cells) * _in_flight(job, profile)
    return CONTEXT_BYTES + COPIES * _weights_bytes(job.student) + images * activation_bytes(job.student)


def activation_bytes(student: Student) -> int:
    """Give the bytes of all activations of one image, its input and its output among them."""
    ports = sum(map(_elements, (*student.inputs, *student.outputs)))
    inside = math.ceil(student.macs / MACS_AN_ACTIVATION) if student.macs else 64 * ports
    return _ELEMENT_BYTES * (ports + inside)


def _in_flight(job: Job, profile: Profile) -> int:
    if job.target.scenario == "latency" or job.info.concurrency == "serial":
        return 1
    asked = profile.throughput.depth
    return 2 * (job.target.threads or 1) if asked == "auto" else asked


def _weights_bytes(student: Student) -> int:
    if student.parameters is not None:
        return _ELEMENT_BYTES * student.parameters
    stored = (student.files.get("weights"), student.files.get("onnx"))
    return max((file.stat().st_size for file in stored if file is not None and file.exists()), default=0)


def _elements(port: TensorSpec) -> int:
    return math.prod(port.shape)
