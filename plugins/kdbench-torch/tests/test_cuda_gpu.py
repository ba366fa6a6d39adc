"""torch-cuda on a GPU: accuracy, leaks, requests in flight, memory that runs out. Skips where there is none.

Never run so far: there was no GPU where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import pytest

from kdbench import Available, Device, Student, Target, Unavailable, nvidia
from kdbench.errors import BackendError
from kdbench.options import check_options
from kdbench.student import Evaluation
from kdbench_torch import cuda

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu

MODES = ({}, {"mode": "graph"}, {"mode": "compile"}, {"mode": "compile", "inductor": "max-autotune"})


@pytest.fixture(scope="module")
def available() -> Available:
    answer = cuda.kdbench_probe()
    if isinstance(answer, Unavailable):
        pytest.skip(answer.reason)
    return answer


@pytest.fixture(scope="module")
def device(available: Available) -> Device:
    return available.devices[0]


@pytest.fixture
def opened(device: Device, student: Student, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Give the maker of a session; all are closed in the end."""
    sessions: list[Any] = []

    def make(*, on: str = "", precision: Any = "fp32", boundary: Any = "host", **options: Any) -> Any:
        target = Target(
            device=on or device.id,
            precision=precision,
            boundary=boundary,
            batch_sizes=(1, 8),
            options=check_options(cuda.kdbench_describe(), options),
        )
        workdir = tmp_path / str(len(sessions))
        workdir.mkdir()
        sessions.append(cuda.kdbench_load(cuda.kdbench_compile(student, target, workdir), target))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def batch(evaluation: Evaluation, start: int, count: int) -> tuple[np.ndarray, ...]:
    return (evaluation.inputs[0][start : start + count].copy(),)


def logits_of(runner: Any, evaluation: Evaluation) -> np.ndarray:
    starts = range(0, len(evaluation) // 8 * 8, 8)
    return np.concatenate([runner(batch(evaluation, start, 8))[0].copy() for start in starts])


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_every_mode_and_precision_agrees_with_the_reference(opened, device, evaluation, options, precision):
    if precision not in device.precisions:
        pytest.skip(f"{device.name} does not compute in {precision}.")
    session = opened(precision=precision, **options)
    assert session.placement.precision == precision
    assert session.placement.device == device.id
    logits = logits_of(session.runner(8, 1), evaluation)
    reference = evaluation.logits[: len(logits)]
    if precision == "fp32":
        assert np.abs(logits - reference).max() <= 1e-3 * evaluation.logits.std()
    assert np.mean(logits.argmax(1) == reference.argmax(1)) >= 0.95


def test_products_are_rounded_in_tf32_and_not_in_fp32(opened, device):
    if "tf32" not in device.precisions:
        pytest.skip(f"{device.name} does not compute in tf32.")
    errors = {}
    factors = [torch.randn(512, 512, dtype=torch.float64, device=device.id) for _ in range(2)]
    kernel = torch.randn(64, 64, 3, 3, dtype=torch.float64, device=device.id)
    images = torch.randn(8, 64, 32, 32, dtype=torch.float64, device=device.id)
    for precision in ("fp32", "tf32"):
        opened(precision=precision)
        product = (factors[0].float() @ factors[1].float()).double() - factors[0] @ factors[1]
        answer = torch.nn.functional.conv2d(images.float(), kernel.float()).double()
        convolved = answer - torch.nn.functional.conv2d(images, kernel)
        errors[precision] = float(product.abs().max()), float(convolved.abs().max())
    assert all(exact < rounded / 10 for exact, rounded in zip(*errors.values(), strict=True))


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.timeout(600)
def test_two_hundred_cycles_leave_the_memory_of_the_device_as_it_was(opened, device, evaluation, mode):
    watch = nvidia.Watch(device.uuid)
    images, used = batch(evaluation, 0, 8), []
    for _ in range(200):
        session = opened(mode=mode)
        session.runner(8, 1)(images)
        session.runner(8, 2)(images)
        session.close()
        used.append(watch.read().used_bytes)
    watch.close()
    if used[0] is None:
        pytest.skip("The driver does not tell how much of the memory is used.")
    # The first cycles load kernels, which stay.
    assert max(used[100:]) <= max(used[20:100])


@pytest.mark.parametrize("options", MODES, ids=str)
def test_many_requests_in_flight_answer_like_one_at_a_time(opened, evaluation, options):
    session = opened(**options)
    single, several = session.runner(1, 1), session.runner(1, 8)
    count = min(256, len(evaluation))
    expected = [single(batch(evaluation, tag, 1))[0].copy() for tag in range(count)]
    came: dict[int, np.ndarray] = {}
    for tag in range(count):
        if tag - len(came) == 8:
            came |= {done: outputs[0].copy() for done, outputs in several.wait()}
        several.submit(batch(evaluation, tag, 1), tag)
    while len(came) < count:
        came |= {done: outputs[0].copy() for done, outputs in several.wait()}
    assert all(np.allclose(came[tag], expected[tag], atol=1e-3) for tag in range(count))


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_batch_that_does_not_fit_is_out_of_memory_and_a_smaller_one_still_runs(
    opened, device, student, evaluation, mode
):
    session = opened(mode=mode)
    _, total = torch.cuda.mem_get_info(device.id)
    bytes_each = 4 * int(np.prod(student.inputs[0].shape))
    with pytest.raises(BackendError, match="out of memory") as caught:
        session.runner(2 * total // bytes_each, 1)
    assert caught.value.phase == "run"
    assert session.runner(8, 1)(batch(evaluation, 0, 8))[0].shape == (8, *student.outputs[0].shape)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_device_time_is_part_of_the_time_of_the_call(opened, evaluation, options):
    runner = opened(**options).runner(8, 1)
    (inputs,) = runner.allocate_inputs(1)
    inputs[0][...] = batch(evaluation, 0, 8)[0]
    begin = perf_counter_ns()
    device_ns = runner.device_ns(inputs)
    assert 0 < device_ns < perf_counter_ns() - begin


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("depth", [1, 3])
def test_resident_inputs_give_the_answers_of_host_arrays(opened, evaluation, options, depth):
    host = opened(**options).runner(8, 1)
    resident = opened(boundary="device", **options).runner(8, depth)
    there = [resident.upload(batch(evaluation, start, 8)) for start in (0, 8, 16)]
    for start, inputs in zip((0, 8, 16), there, strict=True):
        expected = host(batch(evaluation, start, 8))[0]
        assert np.allclose(resident.download(resident(inputs))[0], expected, atol=1e-3)
        assert resident.device_ns(inputs) > 0


def test_sleeping_and_spinning_give_the_same_answers(opened, evaluation):
    images = batch(evaluation, 0, 8)
    spun, slept = (opened(sync=sync).runner(8, 1)(images)[0] for sync in ("spin", "block"))
    assert np.allclose(spun, slept, atol=1e-3)


def test_the_last_device_computes_too(opened, available, evaluation):
    last = available.devices[-1]
    session = opened(on=last.id, mode="graph")
    assert session.placement.device == last.id
    assert len(session.runner(8, 2)(batch(evaluation, 0, 8))[0]) == 8
