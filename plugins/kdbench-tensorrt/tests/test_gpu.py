"""What only a GPU can tell, beside the contract kit: leaks, memory running out, options, rebuilding."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import replace

import numpy as np
import pytest

from kdbench import Target, Unavailable
from kdbench.backends import connect
from kdbench.errors import BackendError
from kdbench.nvidia import facts
from kdbench.options import check_options
from kdbench.student import load_evaluation, open_student
from kdbench_tensorrt.rtx import HOOKS as RTX_HOOKS
from kdbench_tensorrt.standard import HOOKS

pytestmark = pytest.mark.gpu

CYCLES = 200
SLACK_BYTES = 8 << 20
"""The driver hands out memory in blocks of two MiB: a leak of 200 cycles is far beyond this."""


@pytest.fixture(params=[("tensorrt", HOOKS), ("tensorrt-rtx", RTX_HOOKS)], ids=["tensorrt", "tensorrt-rtx"])
def backend(request):
    made = connect(*request.param)
    found = made.probe()
    if isinstance(found, Unavailable):
        pytest.skip(found.reason)
    return made


@pytest.fixture
def device(backend):
    return backend.probe().devices[0]


@pytest.fixture
def student():
    return open_student("digits-2x5")


def make_target(backend, device, options=(), **changes):
    return Target(device=device.id, options=check_options(backend.info, dict(options)), **changes)


def used_bytes(device):
    for gpu in facts():
        if gpu["uuid"] == device.uuid and gpu["free_bytes"] is not None:
            return gpu["memory_bytes"] - gpu["free_bytes"]
    pytest.skip("NVML does not tell how much memory is used.")


def images(student, count):
    return tuple(array[:count].copy() for array in load_evaluation(student).inputs)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("boundary", ["host", "device"])
@pytest.mark.parametrize("depth", [1, 3])
def test_loading_running_and_closing_again_and_again_leaves_the_memory_of_the_gpu_as_it_was(
    backend, device, student, tmp_path, boundary, depth
):
    target = make_target(backend, device, boundary=boundary)
    artifact = backend.compile(student, target, tmp_path)
    inputs = images(student, 1)

    def cycle():
        session = backend.load(artifact, target)
        runner = backend.run(session, 1, depth)
        if boundary == "device":
            runner.download(runner(runner.upload(inputs)))
        else:
            runner.allocate_inputs(4)
            runner(inputs)
        session.close()

    for _ in range(5):
        cycle()
    gc.collect()
    before = used_bytes(device)
    for _ in range(CYCLES):
        cycle()
    gc.collect()
    assert abs(used_bytes(device) - before) <= SLACK_BYTES


def test_memory_that_is_not_there_is_told_as_out_of_memory(backend, device, student, tmp_path):
    from kdbench_tensorrt import device as cuda

    large = 8192
    target = make_target(backend, device, batch_sizes=(large,))
    session = backend.load(backend.compile(student, target, tmp_path), target)
    backend.run(session, large)
    taken = []
    # Whatever else is free, in ever smaller pieces: what a batch too large leaves of it.
    for size in (1 << 30, 64 << 20, 1 << 20):
        with contextlib.suppress(BackendError):
            while True:
                taken.append(cuda.allocate(size))
    with pytest.raises(BackendError, match="out of memory"):
        backend.run(session, large, 4)
    for address in taken:
        cuda.free(address)
    session.close()


@pytest.mark.parametrize("options", [{}, {"graph": False}, {"sync": "block"}, {"optimization_level": 1}])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("boundary", ["host", "device"])
def test_no_option_changes_the_answer(backend, device, student, tmp_path, options, dynamic, boundary):
    evaluation = load_evaluation(student)
    target = make_target(backend, device, options, batch_sizes=(1, 8), dynamic=dynamic, boundary=boundary)
    session = backend.load(backend.compile(student, target, tmp_path), target)
    for size in target.batch_sizes:
        runner = backend.run(session, size)
        inputs = images(student, size)
        if boundary == "device":
            [logits] = runner.download(runner(runner.upload(inputs)))
        else:
            [logits] = runner(inputs)
        assert np.abs(logits - evaluation.logits[:size]).max() <= 1e-3 * evaluation.logits.std()
        held = runner.upload(inputs) if boundary == "device" else inputs
        assert 0 < runner.device_ns(held) < 1_000_000_000
    session.close()


def test_what_was_uploaded_comes_back_once_with_its_own_outputs(backend, device, student, tmp_path):
    evaluation = load_evaluation(student)
    target = make_target(backend, device, boundary="device")
    session = backend.load(backend.compile(student, target, tmp_path), target)
    runner = backend.run(session, 1, 3)
    entries = [runner.upload(tuple(a[i : i + 1] for a in evaluation.inputs)) for i in range(9)]
    came = {}
    for tag, entry in enumerate(entries):
        runner.submit(entry, tag)
        if tag >= 2:
            came |= {done: runner.download(outputs)[0] for done, outputs in runner.wait()}
    while len(came) < len(entries):
        came |= {done: runner.download(outputs)[0] for done, outputs in runner.wait()}
    for tag, logits in came.items():
        assert np.abs(logits - evaluation.logits[tag]).max() <= 1e-3 * evaluation.logits.std()
    session.close()


def test_an_engine_of_another_version_is_built_again_and_the_placement_says_so(
    backend, device, student, tmp_path
):
    target = make_target(backend, device)
    artifact = backend.compile(student, target, tmp_path)
    version = artifact.notes["built"].partition('"version": "')[2].partition('"')[0]
    older = replace(
        artifact, notes={**artifact.notes, "built": artifact.notes["built"].replace(version, "9.9.9")}
    )
    session = backend.load(older, target)
    assert "built again: it was built by version 9.9.9" in session.placement.provider
    backend.run(session, 1)(images(student, 1))
    session.close()


def test_layers_are_told_by_the_engine_where_there_is_a_device(backend, device, student, tmp_path):
    backend.compile(student, make_target(backend, device, precision="fp16"), tmp_path)
    text = (tmp_path / "layers.json").read_text()
    assert '"engine": []' not in text
