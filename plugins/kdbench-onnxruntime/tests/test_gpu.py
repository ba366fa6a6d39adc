"""ONNX Runtime's providers on a GPU: accuracy, leaks, requests in flight, memory that runs out.

Skips without a GPU. Never run so far: there was none where it was written.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kdbench import Target, Unavailable, nvidia
from kdbench.backends import connect
from kdbench.errors import BackendError
from kdbench.options import check_options
from kdbench_onnxruntime import cuda, tensorrt

pytestmark = pytest.mark.gpu

GRAPH = pytest.mark.parametrize("graph", [False, True])


@pytest.fixture(scope="module", params=[cuda, tensorrt], ids=["cuda", "tensorrt"])
def gpu(request):
    """A provider that works here, its first device and its name of what computes."""
    backend = connect(f"onnxruntime-{request.param.__name__.rpartition('.')[2]}", request.param)
    answer = backend.probe()
    if isinstance(answer, Unavailable):
        pytest.skip(answer.reason)
    return SimpleNamespace(backend=backend, device=answer.devices[0], provider=request.param.PROVIDER)


@pytest.fixture
def opened(gpu, student, tmp_path, monkeypatch):
    """Open sessions, all closed in the end; those of one target and folder share what was compiled."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    sessions, artifacts = [], {}

    def make(*, options=(), **changes):
        checked = check_options(gpu.backend.info, dict(options))
        target = Target(**{"device": gpu.device.id, "batch_sizes": (1, 8), "options": checked, **changes})
        known = repr(target)
        if known not in artifacts:
            workdir = tmp_path / str(len(artifacts))
            workdir.mkdir()
            artifacts[known] = gpu.backend.compile(student, target, workdir)
        sessions.append(gpu.backend.load(artifacts[known], target))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def batch(evaluation, start, count):
    return (evaluation.inputs[0][start : start + count].copy(),)


@GRAPH
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_every_precision_agrees_with_the_reference_and_is_computed_where_it_was_asked_for(
    gpu, opened, evaluation, graph, precision
):
    if precision not in gpu.device.precisions:
        pytest.skip(f"{gpu.device.name} does not compute in {precision}.")
    session = opened(precision=precision, options={"graph": graph})
    placement = session.placement
    assert (placement.device, placement.provider) == (gpu.device.id, gpu.provider)
    assert placement.precision == precision
    runner = gpu.backend.run(session, 8)
    starts = range(0, len(evaluation) // 8 * 8, 8)
    logits = np.concatenate([runner(batch(evaluation, start, 8))[0].copy() for start in starts])
    reference = evaluation.logits[: len(logits)]
    if precision == "fp32":
        assert np.abs(logits - reference).max() <= 1e-3 * evaluation.logits.std()
    assert np.mean(logits.argmax(1) == reference.argmax(1)) >= 0.95


@GRAPH
@pytest.mark.timeout(900)
def test_two_hundred_cycles_leave_the_memory_of_the_device_as_it_was(gpu, opened, evaluation, graph):
    watch, used = nvidia.Watch(gpu.device.uuid), []
    for _ in range(200):
        session = opened(options={"graph": graph})
        gpu.backend.run(session, 8)(batch(evaluation, 0, 8))
        session.close()
        used.append(watch.read().used_bytes)
    watch.close()
    if used[0] is None:
        pytest.skip("The driver does not tell how much of the memory is used.")
    # The first cycles load kernels, which stay.
    assert max(used[100:]) <= max(used[20:100])


@GRAPH
def test_many_requests_in_flight_answer_like_one_at_a_time(gpu, opened, evaluation, graph):
    session = opened(options={"graph": graph})
    single, several = gpu.backend.run(session, 1), gpu.backend.run(session, 1, 8)
    count = min(256, len(evaluation))
    expected = [single(batch(evaluation, tag, 1))[0].copy() for tag in range(count)]
    came = {}
    for tag in range(count):
        if tag - len(came) == 8:
            came |= {done: outputs[0].copy() for done, outputs in several.wait()}
        several.submit(batch(evaluation, tag, 1), tag)
    while len(came) < count:
        came |= {done: outputs[0].copy() for done, outputs in several.wait()}
    assert all(np.allclose(came[tag], expected[tag], atol=1e-3) for tag in range(count))


def test_a_batch_that_does_not_fit_is_out_of_memory_and_a_smaller_one_still_runs(
    gpu, opened, student, evaluation
):
    session = opened(dynamic=True)
    [memory] = [one.memory_bytes for one in nvidia.look() if one.id == gpu.device.id]
    each = 4 * int(np.prod(student.inputs[0].shape))
    with pytest.raises(BackendError, match=r"[Oo]ut of memory"):
        gpu.backend.run(session, 2 * memory // each)
    assert len(gpu.backend.run(session, 8)(batch(evaluation, 0, 8))[0]) == 8


@GRAPH
@pytest.mark.parametrize("depth", [1, 3])
def test_resident_inputs_give_the_answers_of_host_arrays(gpu, opened, evaluation, graph, depth):
    host = gpu.backend.run(opened(options={"graph": graph}), 8)
    resident = gpu.backend.run(opened(boundary="device", options={"graph": graph}), 8, depth)
    starts = (0, 8, 16)
    for start, inputs in [(start, resident.upload(batch(evaluation, start, 8))) for start in starts]:
        expected = host(batch(evaluation, start, 8))[0]
        assert np.allclose(resident.download(resident(inputs))[0], expected, atol=1e-3)


def test_sleeping_and_spinning_give_the_same_answers(gpu, opened, evaluation):
    answers = []
    for sync in ("spin", "block"):
        runner = gpu.backend.run(opened(options={"sync": sync}), 8)
        answers.append(runner(batch(evaluation, 0, 8))[0].copy())
    assert np.allclose(*answers, atol=1e-3)
