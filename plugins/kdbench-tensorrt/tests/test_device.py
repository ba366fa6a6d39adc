"""The seam's real side: each call reaches CUDA with arguments that its bindings take; an error is a sentence.

Without a driver CUDA refuses each of them, which is what is seen here: a wrong number or type of arguments
would be a TypeError.
"""

from __future__ import annotations

import inspect

import pytest

from kdbench import Unavailable
from kdbench.errors import BackendError
from kdbench.nvidia import look
from kdbench_tensorrt.seam import Cuda

rt = pytest.importorskip("cuda.bindings.runtime")

STREAM, EVENT, GRAPH = rt.cudaStream_t(0), rt.cudaEvent_t(0), rt.cudaGraphExec_t(0)

CALLS = {
    "allocate": (1 << 20,),
    "free": (4096,),
    "allocate_pinned": (1 << 20,),
    "create_stream": (),
    "destroy_stream": (STREAM,),
    "copy_in": (4096, 8192, 16, STREAM),
    "copy_out": (4096, 8192, 16, STREAM),
    "clear": (4096, 16, STREAM),
    "synchronise": (STREAM,),
    "finished": (STREAM,),
    "create_event": (),
    "destroy_event": (EVENT,),
    "record": (EVENT, STREAM),
    "elapsed_ns": (EVENT, EVENT),
    "begin_capture": (STREAM,),
    "end_capture": (STREAM,),
    "launch": (GRAPH, STREAM),
    "destroy_graph": (GRAPH,),
    "current": (),
}
SILENT = {"handle": (STREAM,), "free_pinned": (4096,), "abandon_capture": (STREAM,)}
"""Those that do not complain: they ask CUDA nothing, or clean up after what failed already."""


@pytest.fixture
def device():
    if not isinstance(look(), Unavailable):
        pytest.skip("There is a GPU, and these arguments are not for one.")
    from kdbench_tensorrt import device

    return device


def functions_of(thing):
    return {name for name, value in vars(thing).items() if inspect.isfunction(value) and name[0] != "_"}


def test_every_function_of_the_seam_is_there_and_tried():
    from kdbench_tensorrt import device

    promised = functions_of(Cuda)
    assert promised <= functions_of(device)
    assert promised | {"current"} == {*CALLS, *SILENT}


@pytest.mark.parametrize("name", CALLS)
def test_what_cuda_refuses_is_told_in_its_own_words(device, name):
    with pytest.raises(BackendError, match=r"^CUDA could not .*: .* \(cudaError\w+\)\.$"):
        getattr(device, name)(*CALLS[name])


@pytest.mark.parametrize("name", SILENT)
def test_cleaning_up_complains_of_nothing(device, name):
    getattr(device, name)(*SILENT[name])


@pytest.mark.parametrize("spin", [True, False])
def test_a_device_cannot_be_selected_without_a_driver(device, spin):
    with pytest.raises(BackendError, match="could not select the device"):
        device.select(0, spin=spin)


def test_memory_that_runs_out_has_a_hint(device):
    with pytest.raises(BackendError, match="out of memory") as caught:
        device._check("allocate 3.0 MiB on the GPU", rt.cudaError_t.cudaErrorMemoryAllocation)
    assert "smaller batch" in caught.value.hint
