"""torch-cuda up to the device: options, TF32, and its runners on a fake device layer (see conftest.py)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdbench import Placement, Target, TensorSpec, Unsupported
from kdbench.errors import BackendError, UsageError
from kdbench.options import check_options
from kdbench.spec import Allocating, DeviceTimed, Pipelined, Resident
from kdbench_torch import cuda
from kdbench_torch.cuda.network import captures, channels_last, provider
from kdbench_torch.cuda.session import CudaSession

torch = pytest.importorskip("torch")

SWITCHES = """
import os, torch
from kdbench_torch.cuda import tf32

def read():
    b = torch.backends
    parts = (b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn) if hasattr(b.cudnn, "conv") else ()
    newer = [part.fp32_precision for part in parts]
    return b.cuda.matmul.allow_tf32, b.cudnn.allow_tf32, torch.get_float32_matmul_precision(), *newer

print(tf32.allowed())
tf32.allow(False)
print(tf32.allowed(), *read())
tf32.allow(True)
print(tf32.allowed(), *read())
torch.backends.cuda.matmul.allow_tf32 = False
print(tf32.allowed())
torch.backends.cudnn.allow_tf32 = False
print(tf32.allowed())
tf32.allow(True)
os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
print(tf32.allowed())
"""

MIXED = """
import torch
from kdbench_torch.cuda import tf32
torch.backends.cuda.matmul.fp32_precision = "tf32"
torch.backends.cudnn.conv.fp32_precision = "ieee"
tf32.allow(False)
print(tf32.allowed(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""


def target_of(*batch_sizes: int, precision: str = "fp32", boundary: str = "host", **options: Any) -> Target:
    return Target(
        device="cpu",
        precision=precision,
        boundary=boundary,
        batch_sizes=batch_sizes or (8,),
        options=check_options(cuda.kdbench_describe(), options),
    )


@pytest.fixture
def session_of(fake_device: Any) -> Iterator[Callable[..., CudaSession]]:
    """Give the maker of a session around any callable: one input (4,) float32."""
    opened = []

    def make(network: Callable[..., Any], **changes: Any) -> CudaSession:
        session = CudaSession(
            network,
            inputs=(TensorSpec("input", (4,), "float32"),),
            target=target_of(**changes),
            placement=Placement(device="cpu", precision="fp32"),
        )
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.close()


def numbers(first: int) -> tuple[np.ndarray, ...]:
    return (np.arange(first, first + 4, dtype=np.float32).reshape(1, 4),)


def run_python(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tf32_is_off_or_on_everywhere_and_every_switch_of_torch_says_the_same():
    newer = ["ieee"] * 3 if hasattr(torch.backends.cudnn, "conv") else []
    assert run_python(SWITCHES) == [
        "True",
        " ".join(["False", "False", "False", "highest", *newer]),
        " ".join(["True", "True", "True", "high", *("tf32" for _ in newer)]),
        "True",
        "False",
        "False",
    ]


def test_tf32_can_be_switched_where_somebody_left_the_switches_mixed():
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("This torch has one set of switches.")
    assert run_python(MIXED) == ["False False False"]


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_compiling_for_these_modes_answers_the_weights_and_asks_for_no_device(student, mode, tmp_path):
    artifact = cuda.kdbench_compile(student, target_of(mode=mode), tmp_path)
    assert artifact.files == (student.files["weights"],)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_an_option_of_inductor_without_inductor_is_refused(student, mode, tmp_path):
    with pytest.raises(Unsupported, match=f"no part in mode={mode}") as caught:
        cuda.kdbench_compile(student, target_of(mode=mode, inductor="max-autotune"), tmp_path)
    assert "mode=compile" in caught.value.hint


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="eager, graph, compile"):
        target_of(mode="aot")


@pytest.mark.parametrize(
    ("precision", "asked", "last"),
    [
        ("fp32", "auto", False),
        ("tf32", "auto", True),
        ("fp16", "auto", True),
        ("bf16", "auto", True),
        ("fp32", "yes", True),
        ("fp16", "no", False),
    ],
)
def test_images_are_kept_channels_last_where_tensor_cores_compute(precision, asked, last):
    assert channels_last(target_of(precision=precision, channels_last=asked)) is last


@pytest.mark.parametrize(
    ("options", "captured", "name"),
    [
        ({}, False, "eager"),
        ({"mode": "graph"}, True, "eager, cuda graph"),
        ({"mode": "compile"}, False, "inductor"),
        ({"mode": "compile", "inductor": "reduce-overhead"}, True, "inductor, cuda graph"),
        ({"mode": "compile", "inductor": "max-autotune"}, True, "inductor, cuda graph"),
    ],
)
def test_what_executes_is_named_and_a_graph_is_captured_where_it_is_asked_for(options, captured, name):
    assert captures(target_of(**options)) is captured
    assert provider(target_of(**options)) == name


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_computes_as_it_says_and_like_the_reference(
    student, evaluation, fake_device, precision, tmp_path
):
    target = target_of(precision=precision)
    session = cuda.kdbench_load(cuda.kdbench_compile(student, target, tmp_path), target)
    try:
        (logits,) = cuda.kdbench_run(session, 8, 1)((evaluation.inputs[0][:8].copy(),))
        assert session.placement.precision == precision
        assert logits.dtype == np.float32
        assert (logits.argmax(1) == evaluation.logits[:8].argmax(1)).all()
    finally:
        session.close()


def test_a_device_without_tf32_says_that_it_computes_in_fp32(student, fake_device, tmp_path):
    fake_device.capability = (7, 5)
    target = target_of(precision="tf32")
    session = cuda.kdbench_load(cuda.kdbench_compile(student, target, tmp_path), target)
    assert session.placement.precision == "fp32"
    session.close()


def test_sessions_of_two_precisions_in_one_process_each_compute_in_their_own(session_of):
    def network(x: Any) -> Any:
        seen.append(torch.backends.cudnn.allow_tf32)
        return x

    seen: list[bool] = []
    exact = session_of(network).runner(1, 1)
    rounded = session_of(network, precision="tf32").runner(1, 1)
    seen.clear()
    for runner in (exact, rounded, exact):
        runner(numbers(0))
    assert seen == [False, True, False]


def test_images_are_converted_and_reordered_in_one_pass(student, fake_device, tmp_path):
    orders = []

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images: Any) -> Any:
            orders.append((images.dtype, images.is_contiguous(memory_format=torch.channels_last)))
            return images * self.weight

    from kdbench_torch.network import cast

    answer = cast(First(), torch.float16, reorder=True)(torch.ones(2, 3, 4, 4))
    assert (orders, answer.dtype) == ([(torch.float16, True)], torch.float32)


def test_a_runner_has_the_abilities_of_its_boundary(session_of):
    for depth in (1, 2):
        host = session_of(lambda x: x).runner(1, depth)
        resident = session_of(lambda x: x, boundary="device").runner(1, depth)
        for runner in (host, resident):
            assert isinstance(runner, DeviceTimed)
            assert isinstance(runner, Pipelined) is (depth > 1)
        assert (isinstance(host, Allocating), isinstance(host, Resident)) == (True, False)
        assert (isinstance(resident, Allocating), isinstance(resident, Resident)) == (False, True)


def test_pinned_inputs_are_read_where_they_are_and_foreign_ones_are_staged(session_of):
    runner = session_of(lambda x: x + 1).runner(1, 1)
    mine, other = runner.allocate_inputs(2)
    mine[0][...], other[0][...] = 1, 5
    assert (runner(mine)[0] == 2).all()
    assert (runner(other)[0] == 6).all()
    mine[0][...] = 3
    assert (runner(mine)[0] == 4).all()
    foreign = numbers(10)
    foreign[0].flags.writeable = False
    assert np.array_equal(runner(foreign)[0], foreign[0] + 1)


def test_outputs_of_one_runner_are_the_same_memory_at_every_call_and_not_another_runners(session_of):
    session = session_of(lambda x: x + 1)
    one, other = session.runner(1, 1), session.runner(1, 1)
    first = one(numbers(0))
    before = first[0].copy()
    assert not np.shares_memory(other(numbers(7))[0], first[0])
    assert np.array_equal(first[0], before)
    assert np.shares_memory(one(numbers(9))[0], first[0])


def test_several_answers_come_back_contiguous_and_in_their_order(session_of):
    runner = session_of(lambda x: [x, x.T]).runner(1, 1)
    first, second = runner(numbers(3))
    assert np.array_equal(first.T, second)
    assert second.flags.c_contiguous


def test_spinning_asks_the_stream_until_it_is_done_and_never_sleeps(session_of, fake_device):
    runner = session_of(lambda x: x).runner(1, 1)
    fake_device.default.busy, asked, waited = 5, fake_device.default.asked, fake_device.default.waited
    runner(numbers(0))
    assert (fake_device.default.asked - asked, fake_device.default.waited - waited) == (5, 0)


def test_blocking_sleeps_on_an_event_of_that_kind(session_of, fake_device):
    runner = session_of(lambda x: x, sync="block").runner(1, 1)
    asked = fake_device.default.asked
    runner(numbers(0))
    [event] = fake_device.events
    assert (event.blocking, event.slept, fake_device.default.asked) == (True, 1, asked)


def test_device_time_is_what_two_events_around_the_computation_tell(session_of, fake_device):
    order: list[Any] = []
    runner = session_of(lambda x: order.append("computed") or x).runner(1, 1)
    assert runner.device_ns(numbers(0)) == 250_000
    assert all(event.enable_timing and event.recorded for event in fake_device.events)
    assert (runner(numbers(4))[0] == numbers(4)[0]).all()


def test_the_device_is_still_at_work_when_what_is_timed_is_enqueued(session_of, fake_device, monkeypatch):
    order: list[str] = []
    make = fake_device.event

    def event(**kind: bool) -> Any:
        made = make(**kind)
        record = made.record
        made.record = lambda stream: (order.append("event"), record(stream))
        return made

    runner = session_of(lambda x: order.append("computed") or x).runner(1, 1)
    monkeypatch.setattr(torch.cuda, "Event", event)
    order.clear()
    runner.device_ns(numbers(0))
    assert order == ["computed", "event", "computed", "event"]


def test_a_runner_in_another_thread_sets_its_device_there_once(session_of, fake_device):
    runner = session_of(lambda x: x).runner(1, 1)
    entered = len(fake_device.entered)
    runner(numbers(0))
    assert len(fake_device.entered) == entered
    thread = threading.Thread(target=lambda: [runner(numbers(n)) for n in range(3)])
    thread.start()
    thread.join()
    assert len(fake_device.entered) == entered + 1


def test_inference_mode_holds_while_the_network_runs_and_its_inputs_are_ordinary(session_of):
    modes = []
    session = session_of(lambda x: modes.append((torch.is_inference_mode_enabled(), x.is_inference())) or x)
    session.runner(1, 1)(numbers(0))
    assert set(modes) == {(True, False)}
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("boundary", ["host", "device"])
def test_every_request_in_flight_comes_back_once_with_its_own_outputs(session_of, boundary):
    runner = session_of(lambda x: x + 1, boundary=boundary).runner(1, 3)
    there = runner.upload if boundary == "device" else lambda arrays: arrays
    back = runner.download if boundary == "device" else lambda arrays: arrays
    came: dict[int, np.ndarray] = {}
    for start in range(0, 24, 8):
        for tag in range(start, start + 8):
            runner.submit(there(numbers(tag)), tag)
        while len(came) < start + 8:
            for tag, outputs in runner.wait():
                assert tag not in came
                came[tag] = back(outputs)[0].copy()
    assert all(np.array_equal(output, numbers(tag)[0] + 1) for tag, output in came.items())


def test_each_request_in_flight_has_a_stream_of_its_own(session_of, fake_device):
    runner = session_of(lambda x: x).runner(1, 3)
    fake_device.within.clear()
    for tag in range(3):
        runner.submit(numbers(tag), tag)
    assert len({id(stream) for stream in fake_device.within}) == 3
    assert {id(stream) for stream in fake_device.within} == {id(stream) for stream in fake_device.streams}


def test_waiting_takes_the_oldest_and_whatever_else_is_complete(session_of, fake_device):
    runner = session_of(lambda x: x).runner(1, 3)
    for tag in range(3):
        runner.submit(numbers(tag), tag)
    # The last slot that was made is the first to be taken.
    fake_device.streams[1].busy = 1000
    assert [tag for tag, _ in runner.wait()] == [0, 2]
    assert [tag for tag, _ in runner.wait()] == [1]
    assert fake_device.streams[1].asked > 900


def test_a_request_beyond_the_depth_waits_for_the_oldest_and_keeps_its_outputs(session_of, fake_device):
    runner = session_of(lambda x: x).runner(1, 2)
    for tag in range(3):
        runner.submit(numbers(tag), tag)
    came = {tag: outputs[0].copy() for tag, outputs in runner.wait()}
    assert {tag: output[0, 0] for tag, output in came.items()} == {0: 0, 1: 1, 2: 2}


def test_resident_inputs_are_copied_before_upload_returns_and_outlive_each_other(session_of, fake_device):
    runner = session_of(lambda x: x * 2, boundary="device").runner(1, 1)
    staged = numbers(1)
    first = runner.upload(staged)
    staged[0][...] = 7
    second = runner.upload(staged)
    # On a device the copy is there already; tensors of the processor share the array, so take one of its own.
    assert first is not second
    (doubled,) = runner.download(runner(second))
    assert (doubled == 14).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_a_closed_session_runs_no_more_and_gives_its_memory_back(session_of, fake_device, depth):
    session = session_of(lambda x: x)
    runner = session.runner(1, depth)
    runner(numbers(0))
    session.close()
    session.close()
    assert fake_device.emptied
    for call in (lambda: runner(numbers(0)), lambda: runner.device_ns(numbers(0))):
        with pytest.raises(BackendError, match="closed"):
            call()


def test_closing_waits_for_what_is_in_flight(session_of, fake_device):
    session = session_of(lambda x: x)
    runner = session.runner(1, 2)
    runner.submit(numbers(0), 0)
    fake_device.streams[1].busy = 3
    session.close()
    assert fake_device.streams[1].busy == 0


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nmore"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_is_lacking_becomes_one_sentence_with_the_phase(session_of, fault):
    def network(_: Any) -> Any:
        raise fault

    with pytest.raises(BackendError, match="out of memory on cpu at batch size 512") as caught:
        session_of(network).runner(512, 1)
    assert caught.value.phase == "run"
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_memory_that_runs_out_later_is_told_too_and_the_slot_stays_usable(session_of):
    faults = [torch.OutOfMemoryError("CUDA out of memory.")]
    runners: list[Any] = []

    def network(x: Any) -> Any:
        if runners and faults:
            raise faults.pop()
        return x

    runners.append(session_of(network).runner(1, 2))
    with pytest.raises(BackendError, match="out of memory"):
        runners[0].submit(numbers(0), 0)
    runners[0].submit(numbers(1), 1)
    assert [tag for tag, _ in runners[0].wait()] == [1]


def test_any_other_fault_passes_as_it_is(session_of):
    def network(_: Any) -> Any:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        session_of(network).runner(1, 1)


@pytest.fixture
def graphs(fake_device: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fake captures that only tell their order: warm-up, workspaces, capture, replay."""
    told: list[str] = []

    class FakeGraph:
        def replay(self) -> None:
            told.append("replay")

        def reset(self) -> None:
            told.append("reset")

    @contextmanager
    def capture(graph: FakeGraph, stream: Any) -> Iterator[None]:
        assert fake_device.within[-1] is stream
        told.append("begin")
        try:
            yield
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture") from None
        finally:
            told.append("end")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: told.append("forget"), raising=False)
    return told


def test_a_graph_is_captured_after_warming_up_with_workspaces_that_are_its_own(session_of, graphs):
    session = session_of(lambda x: graphs.append("call") or x, mode="graph")
    runner = session.runner(1, 1)
    assert graphs == ["call", "call", "call", "forget", "begin", "call", "end", "forget", "replay"]
    graphs.clear()
    runner(numbers(0))
    assert graphs == ["replay"]
    session.close()
    assert graphs == ["replay", "reset", "forget"]


def test_a_network_that_cannot_be_captured_is_unsupported_by_its_first_fault(session_of, graphs):
    def network(x: Any) -> Any:
        if graphs and graphs[-1] == "begin":
            raise RuntimeError("operation not permitted when stream is capturing\nadvice")
        return x

    with pytest.raises(Unsupported, match="RuntimeError: operation not permitted") as caught:
        session_of(network, mode="graph").runner(1, 1)
    assert "\n" not in caught.value.message
    assert "mode=eager" in caught.value.hint


def test_a_capture_without_memory_is_out_of_memory_and_not_unsupported(session_of, graphs):
    def network(x: Any) -> Any:
        if graphs and graphs[-1] == "begin":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x

    with pytest.raises(BackendError, match="out of memory") as caught:
        session_of(network, mode="graph").runner(1, 1)
    assert not isinstance(caught.value, Unsupported)


def test_at_the_device_a_graph_reads_a_copy_and_eager_operators_the_inputs_themselves(session_of, graphs):
    seen: list[Any] = []

    def network(x: Any) -> Any:
        seen.append(x)
        return x

    for mode in ("eager", "graph"):
        runner = session_of(network, boundary="device", mode=mode).runner(1, 1)
        resident = runner.upload(numbers(5))
        runner(resident)
        assert (seen[-1] is resident[0]) is (mode == "eager")
        assert torch.equal(seen[-1], resident[0])


def test_no_module_of_the_backend_imports_torch_before_a_hook_is_called(tmp_path: Path):
    script = (
        "import sys, pkgutil, importlib, kdbench_torch.cuda as package\n"
        "package.kdbench_describe()\n"
        "for found in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'{package.__name__}.{found.name}')\n"
        "print('torch' in sys.modules)"
    )
    assert run_python(script) == ["False"]
