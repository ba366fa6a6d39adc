from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from kdbench import Target, Unsupported
from kdbench.backends import connect
from kdbench.errors import BackendError
from kdbench.options import check_options
from kdbench.spec import Allocating, DeviceTimed, Pipelined, Resident
from kdbench_onnxruntime import cuda

pytest.importorskip("onnxruntime")

CPU = "CPUExecutionProvider"
MISSING = "ignore:Specified provider .* is not in available provider names:UserWarning"


@pytest.fixture
def backend():
    return connect("onnxruntime-cuda", cuda)


@pytest.fixture
def opened(backend, driver, student, tmp_path, monkeypatch):
    """Open sessions on the fake device whose provider is the CPU's; all are closed in the end."""
    monkeypatch.setattr(cuda, "chain", lambda target, stream: [(CPU, {})])
    monkeypatch.setattr(cuda, "PROVIDER", CPU)
    sessions = []

    def make(*, options=(), **changes):
        target = make_target(backend, options, **changes)
        workdir = tmp_path / str(len(sessions))
        workdir.mkdir()
        sessions.append(backend.load(backend.compile(student, target, workdir), target))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def make_target(backend, options=(), **changes):
    given = {"device": "cuda:0", "batch_sizes": (1, 8), "options": check_options(backend.info, dict(options))}
    return Target(**{**given, **changes})


def batch(evaluation, start, count):
    return (evaluation.inputs[0][start : start + count].copy(),)


def close_to(evaluation, logits, start):
    difference = np.abs(logits - evaluation.logits[start : start + len(logits)]).max()
    return difference <= 1e-3 * evaluation.logits.std()


@pytest.mark.parametrize(
    "options", [{}, {"graph": True}, {"sync": "block"}, {"optimization": "none"}], ids=str
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_call_answers_with_the_logits_of_its_own_images(backend, opened, evaluation, options, dynamic):
    session = opened(options=options, dynamic=dynamic)
    for size in (1, 8):
        runner = backend.run(session, size)
        assert isinstance(runner, Allocating)
        assert isinstance(runner, DeviceTimed)
        for start in (0, 8):
            assert close_to(evaluation, runner(batch(evaluation, start, size))[0], start)


def test_inputs_that_it_allocates_are_read_at_each_call(backend, opened, evaluation):
    runner = backend.run(opened(), 8)
    ring = runner.allocate_inputs(3)
    for entry, start in zip(ring, (0, 8, 16), strict=True):
        entry[0][...] = batch(evaluation, start, 8)[0]
    for entry, start in zip([*ring, ring[0]], (0, 8, 16, 0), strict=True):
        assert close_to(evaluation, runner(entry)[0], start)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("burst", [3, 8])
def test_requests_in_flight_come_back_once_each_with_its_own_outputs(
    backend, opened, evaluation, graph, burst
):
    runner = backend.run(opened(options={"graph": graph}), 1, 3)
    assert isinstance(runner, Pipelined)
    came = {}
    for start in range(0, 2 * burst, burst):
        for tag in range(start, start + burst):
            runner.submit(batch(evaluation, tag, 1), tag)
        while len(came) < start + burst:
            for tag, outputs in runner.wait():
                assert tag not in came
                came[tag] = outputs[0].copy()
    assert all(close_to(evaluation, logits, tag) for tag, logits in came.items())


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_at_the_boundary_device_a_call_copies_nothing_and_download_gives_its_outputs(
    backend, opened, evaluation, driver, graph, depth
):
    runner = backend.run(opened(boundary="device", options={"graph": graph}), 8, depth)
    assert isinstance(runner, Resident)
    uploaded = [runner.upload(batch(evaluation, start, 8)) for start in (0, 8, 16)]
    driver.cuMemcpyHtoDAsync = None
    for entry, start in zip([*uploaded, uploaded[0]], (0, 8, 16, 0), strict=True):
        assert close_to(evaluation, runner.download(runner(entry))[0], start)
    for tag, entry in enumerate(uploaded * 2):
        runner.submit(entry, tag)
    came = {}
    while len(came) < 6:
        came |= {tag: runner.download(outputs)[0].copy() for tag, outputs in runner.wait()}
    assert all(close_to(evaluation, logits, tag % 3 * 8) for tag, logits in came.items())


def test_device_time_is_told_but_for_cuda_graphs_whose_end_onnx_runtime_waits_for(
    backend, opened, evaluation
):
    assert backend.run(opened(), 8).device_ns(batch(evaluation, 0, 8)) == 1_000_000
    assert backend.run(opened(options={"graph": True}), 8).device_ns(batch(evaluation, 0, 8)) is None
    resident = backend.run(opened(boundary="device"), 8)
    assert resident.device_ns(resident.upload(batch(evaluation, 0, 8))) == 1_000_000


def test_the_device_is_still_at_work_when_what_is_timed_is_enqueued(
    backend, opened, evaluation, driver, monkeypatch
):
    runner, order = backend.run(opened(), 8), []
    [slot] = runner._slots
    compute, record = slot.compute, driver.cuEventRecord
    monkeypatch.setattr(slot, "compute", lambda bound: (order.append("computed"), compute(bound)))
    monkeypatch.setattr(driver, "cuEventRecord", lambda *given: (order.append("event"), record(*given))[1])
    runner.device_ns(batch(evaluation, 0, 8))
    assert order == ["computed", "event", "computed", "event"]


def test_runners_of_one_session_do_not_disturb_each_other(backend, opened, evaluation):
    session = opened(options={"graph": True})
    first, second = backend.run(session, 8), backend.run(session, 8)
    outputs = first(batch(evaluation, 0, 8))
    before = outputs[0].copy()
    second(batch(evaluation, 8, 8))
    assert np.array_equal(before, outputs[0])


@pytest.mark.parametrize("boundary", ["host", "device"])
@pytest.mark.parametrize("graph", [False, True])
def test_a_closed_session_runs_no_more_and_gives_everything_back(
    backend, opened, evaluation, driver, boundary, graph
):
    session = opened(boundary=boundary, options={"graph": graph})
    runner = backend.run(session, 8, 2)
    inputs = batch(evaluation, 0, 8)
    entry = runner.upload(inputs) if boundary == "device" else inputs
    runner(entry)
    runner.submit(entry, 0)
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner(entry)
    with pytest.raises(RuntimeError, match="closed"):
        runner.wait()
    assert driver.count("stream") == 0
    del session, runner, entry
    gc.collect()
    assert driver.count("event") == 0


def test_cycles_of_load_and_close_leave_nothing_on_the_device(backend, opened, evaluation, driver):
    for _ in range(3):
        session = opened()
        backend.run(session, 8, 2)(batch(evaluation, 0, 8))
        session.close()
    del session
    gc.collect()
    assert driver.alive == {}


def test_a_batch_that_does_not_fit_is_out_of_memory(backend, opened, driver):
    session = opened()
    driver.free_bytes = 1000
    with pytest.raises(BackendError, match=r"[Oo]ut of memory") as caught:
        backend.run(session, 8)
    assert caught.value.phase == "run"


def test_onnx_runtimes_own_words_for_full_memory_are_understood():
    from kdbench_onnxruntime._device import memory_fault

    said = "bfc_arena.cc:359 Failed to allocate memory for requested buffer of size 8589934592\nmore"
    assert "bfc_arena" in str(memory_fault(RuntimeError(said)))
    assert isinstance(memory_fault(RuntimeError("CUDA failure 2: out of memory ; GPU=0")), MemoryError)
    assert memory_fault(RuntimeError("Got: 2 Expected: 1")) is None


def test_how_the_host_waits_is_told_to_the_driver(opened, driver):
    opened(options={"sync": "spin"})
    assert driver.flags == 1
    opened(options={"sync": "block"})
    assert driver.flags == 4


def test_tf32_is_off_for_fp32_and_the_stream_is_ours(backend):
    [(name, options)] = cuda.chain(make_target(backend, device="cuda:1"), 1234)
    assert name == "CUDAExecutionProvider"
    assert options == {
        "device_id": "1",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "prefer_nhwc": "0",
        "has_user_compute_stream": "1",
        "user_compute_stream": "1234",
        "enable_cuda_graph": "0",
    }
    target = make_target(
        backend, {"graph": True, "conv_search": "heuristic", "prefer_nhwc": True}, precision="tf32"
    )
    [(_, options)] = cuda.chain(target, 1)
    assert [
        options[name] for name in ("use_tf32", "cudnn_conv_algo_search", "prefer_nhwc", "enable_cuda_graph")
    ] == [
        "1",
        "HEURISTIC",
        "1",
        "1",
    ]


@pytest.mark.filterwarnings(MISSING)
def test_a_quiet_fall_back_to_the_cpu_shows_in_the_placement(backend, driver, student, tmp_path):
    # Without a GPU a real session that was asked for CUDA is made all the same, and computes on the CPU.
    target = make_target(backend)
    session = backend.load(backend.compile(student, target, tmp_path), target)
    assert session.placement.device == "cpu"
    assert session.placement.provider == CPU
    assert set(session.placement.nodes) == {CPU}
    session.close()


@pytest.mark.filterwarnings(MISSING)
def test_another_precision_is_cast_into_the_graph_and_fp32_and_tf32_take_it_as_it_is(
    backend, student, tmp_path
):
    pytest.importorskip("onnx")
    stored = student.files["onnx"]
    for precision in ("fp32", "tf32"):
        artifact = backend.compile(student, make_target(backend, precision=precision), tmp_path)
        assert artifact.files == (stored,)
        assert artifact.notes["precision"] == precision
    artifact = backend.compile(student, make_target(backend, precision="fp16"), tmp_path)
    assert artifact.files[0].parent == tmp_path
    # Here the CPU provider takes the graph, and widens it: what is noted is what was seen.
    assert artifact.notes["precision"] == "fp32"


def test_a_student_that_is_stored_in_less_is_run_as_it_is_or_not_at_all(backend, student, tmp_path):
    narrow = replace(student, precision="fp16")
    with pytest.raises(Unsupported, match="stored in fp16, and cannot be run in bf16"):
        backend.compile(narrow, make_target(backend, precision="bf16"), tmp_path)


def test_a_bundle_without_an_onnx_file_is_unsupported(backend, student, tmp_path):
    with pytest.raises(Unsupported, match="holds no ONNX file"):
        backend.compile(replace(student, files={}), make_target(backend), tmp_path)
