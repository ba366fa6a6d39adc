"""What is peculiar to PyTorch: modes, folding, threads, and memory that is not copied."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from kdbench import Artifact, Placement, Student, Target, TensorSpec, Unavailable, Unsupported, networks
from kdbench.errors import BackendError
from kdbench.options import check_options
from kdbench.student import Evaluation
from kdbench_torch import cpu, processor
from kdbench_torch.network import fold_batch_norms
from kdbench_torch.session import TorchSession, use_threads

torch = pytest.importorskip("torch")

X86 = """
processor\t: 0
model name\t: Some CPU
flags\t\t: fpu avx512f avx512_bf16

processor\t: 1
model name\t: Another CPU
"""
ARM = """
processor\t: 0
Features\t: fp asimd bf16 i8mm
"""

WITHOUT_COMPILER = """
import sys
from pathlib import Path
from kdbench import Artifact, Target
from kdbench.options import check_options
from kdbench_torch import cpu
options = check_options(cpu.kdbench_describe(), {"mode": "aot"})
target = Target(device="cpu", batch_sizes=(8,), options=options)
session = cpu.kdbench_load(Artifact((Path(sys.argv[1]),), {"blueprint": sys.argv[2]}), target)
runner = cpu.kdbench_run(session, 8)
print(runner(runner.allocate_inputs(1)[0])[0].shape)
session.close()
"""


def target_of(*batch_sizes: int, dynamic: bool = False, **options) -> Target:
    checked = check_options(cpu.kdbench_describe(), options)
    return Target(device="cpu", batch_sizes=batch_sizes or (8,), dynamic=dynamic, options=checked)


@pytest.fixture(scope="module")
def package(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The student as an AOTInductor package for batch size 8."""
    return cpu.kdbench_compile(student, target_of(8, mode="aot"), tmp_path_factory.mktemp("package"))


@pytest.fixture
def session_of() -> Iterator[Callable[..., TorchSession]]:
    """Give the maker of a session around any callable: one input (4,) float32, one thread."""
    opened = []

    def make(network: Callable, shape: tuple[int, ...] = (4,)) -> TorchSession:
        session = TorchSession(
            lambda batch_size: network,
            inputs=(TensorSpec("input", shape, "float32"),),
            threads=1,
            placement=Placement(device="cpu", precision="fp32"),
        )
        opened.append(session)
        return session

    yield make
    for session in opened:
        session.close()


def answers(session: TorchSession, evaluation: Evaluation, batch_size: int) -> np.ndarray:
    images = np.ascontiguousarray(evaluation.inputs[0][:batch_size])
    return cpu.kdbench_run(session, batch_size)((images,))[0]


def assert_like_the_reference(logits: np.ndarray, evaluation: Evaluation) -> None:
    deviation = np.abs(logits - evaluation.logits[: len(logits)]).max()
    assert deviation <= 1e-4 * evaluation.logits.std()


def norms_in(network) -> list:
    return [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]


def settled(network):
    """Give batch norms statistics that are not those of a new one."""
    for norm in norms_in(network):
        torch.nn.init.uniform_(norm.running_mean, -1, 1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval().requires_grad_(False)


class TwiceCalled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = (
            torch.nn.Conv2d(3, 3, 1),
            torch.nn.BatchNorm2d(3),
            torch.nn.BatchNorm2d(3),
        )

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x))))


class Branching(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))

    def forward(self, x):
        return self.body(x) if x.sum() > 0 else x


def test_batch_norms_are_folded_and_the_answers_stay(student: Student, evaluation: Evaluation):
    network = networks.build(student)
    folded = fold_batch_norms(network)
    assert norms_in(network)
    assert not norms_in(folded)
    assert_like_the_reference(folded(torch.from_numpy(evaluation.inputs[0])).numpy(), evaluation)


def test_a_convolution_that_is_called_twice_keeps_its_norms():
    network, images = settled(TwiceCalled()), torch.rand(2, 3, 4, 4)
    folded = fold_batch_norms(network)
    assert len(norms_in(folded)) == 2
    assert torch.allclose(folded(images), network(images), atol=1e-6)


def test_a_network_that_cannot_be_traced_stays_as_it_is(caplog: pytest.LogCaptureFixture):
    network = settled(Branching())
    assert fold_batch_norms(network) is network
    assert "cannot be traced" in caplog.text


@pytest.mark.parametrize("change", [{"factory": None}, {"files": {}}])
def test_a_student_without_factory_or_weights_is_sent_to_backends_that_read_onnx(student, change, tmp_path):
    with pytest.raises(Unsupported) as caught:
        cpu.kdbench_compile(replace(student, **change), target_of(), tmp_path)
    assert "onnxruntime" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"factory": "no-such-factory"}, "'no-such-factory' is not installed"),
        ({"factory": "tiny-teacher", "arguments": {}}, "do not fit"),
    ],
)
def test_a_factory_that_is_missing_or_wrong_is_named(student, change, told, tmp_path):
    artifact = cpu.kdbench_compile(replace(student, **change), target_of(), tmp_path)
    with pytest.raises(Unsupported, match=told):
        cpu.kdbench_load(artifact, target_of())


def test_an_option_that_would_change_nothing_is_refused(student: Student, tmp_path: Path):
    with pytest.raises(Unsupported, match="freeze"):
        cpu.kdbench_compile(student, target_of(freeze=True), tmp_path)


@pytest.mark.parametrize("options", [{"fuse": False}, {"channels_last": False}])
def test_options_change_no_answer(student, evaluation, options, tmp_path):
    target = target_of(**options)
    session = cpu.kdbench_load(cpu.kdbench_compile(student, target, tmp_path), target)
    assert_like_the_reference(answers(session, evaluation, 8), evaluation)


def test_neither_inputs_nor_outputs_are_copied(session_of):
    runner = cpu.kdbench_run(session_of(lambda x: x), 2)
    foreign = (np.ones((2, 4), np.float32),)
    assert np.shares_memory(runner(foreign)[0], foreign[0])
    for inputs in runner.allocate_inputs(3):
        inputs[0][...] = 7
        assert np.shares_memory(runner(inputs)[0], inputs[0])


def test_read_only_inputs_are_taken_without_a_warning(session_of):
    inputs = np.arange(8, dtype=np.float32).reshape(2, 4)
    inputs.flags.writeable = False
    assert np.array_equal(cpu.kdbench_run(session_of(lambda x: x + 1), 2)((inputs,))[0], inputs + 1)


def test_a_network_with_several_answers_gives_them_in_their_order(session_of):
    runner = cpu.kdbench_run(session_of(lambda x: [x, x.T]), 2)
    first, second = runner((np.arange(8, dtype=np.float32).reshape(2, 4),))
    assert np.array_equal(first.T, second)
    assert second.flags.c_contiguous


def in_another_thread(task: Callable[[], object]) -> list:
    found: list = []
    thread = threading.Thread(target=lambda: found.append(task()))
    thread.start()
    thread.join()
    return found


def test_a_runner_infers_in_whichever_thread_calls_it(session_of):
    modes = []
    runner = cpu.kdbench_run(session_of(lambda x: modes.append(torch.is_inference_mode_enabled()) or x), 1)
    inputs = runner.allocate_inputs(1)[0]
    runner(inputs)
    in_another_thread(lambda: runner(inputs))
    assert modes == [True, True]
    assert not torch.is_inference_mode_enabled()


@pytest.mark.skipif(
    len(psutil.Process().cpu_affinity()) < 2, reason="one processor: OpenMP starts no threads"
)
def test_a_runner_in_another_thread_computes_with_no_more_threads_than_asked(session_of):
    use_threads(1)
    convolution = torch.nn.Conv2d(16, 16, 3).eval().requires_grad_(False)
    runner = cpu.kdbench_run(session_of(convolution, (16, 64, 64)), 8)
    inputs = runner.allocate_inputs(1)[0]

    def started_threads() -> int:
        before = psutil.Process().num_threads()
        runner(inputs)
        return psutil.Process().num_threads() - before

    assert in_another_thread(started_threads) == [0]


def test_a_closed_session_gives_no_runner(session_of):
    session = session_of(lambda x: x)
    session.close()
    with pytest.raises(BackendError, match="closed"):
        cpu.kdbench_run(session, 1)


def test_an_aot_package_answers_like_the_reference_and_says_what_it_is(package, evaluation):
    session = cpu.kdbench_load(package, target_of(8, mode="aot"))
    assert_like_the_reference(answers(session, evaluation, 8), evaluation)
    assert (session.placement.provider, session.placement.precision) == ("aot-inductor", "fp32")
    session.close()


def test_an_aot_package_is_all_that_is_left_of_its_making(package):
    (path,) = package.files
    assert list(path.parent.iterdir()) == [path]
    assert not psutil.Process().children()


def test_an_open_aot_package_keeps_no_folder(package, evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    session = cpu.kdbench_load(package, target_of(8, mode="aot"))
    assert not list(tmp_path.iterdir())
    assert_like_the_reference(answers(session, evaluation, 8), evaluation)
    session.close()


def test_an_aot_package_refuses_a_batch_size_that_it_was_not_made_for(package):
    session = cpu.kdbench_load(package, target_of(8, mode="aot"))
    with pytest.raises(BackendError, match="batch sizes 8, not for 3"):
        cpu.kdbench_run(session, 3)


def test_an_aot_package_loads_where_there_is_no_compiler(package, tmp_path):
    arguments = [str(package.files[0]), package.notes["blueprint"]]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_COMPILER, *arguments],
        env={**os.environ, "PATH": str(tmp_path), "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(8, 2)"), done.stderr


def test_a_dynamic_aot_package_runs_any_batch_size(student, evaluation, tmp_path):
    target = target_of(1, 8, mode="aot", dynamic=True)
    session = cpu.kdbench_load(cpu.kdbench_compile(student, target, tmp_path), target)
    for batch_size in (1, 5, 8):
        assert_like_the_reference(answers(session, evaluation, batch_size), evaluation)


def test_compiled_code_travels_in_the_artifact_and_no_call_compiles_again(
    student, evaluation, tmp_path, monkeypatch
):
    for folder in ("work", "temporary"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    target = target_of(8, mode="compile")
    artifact = cpu.kdbench_compile(student, target, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == [artifact.files[1]]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    session = cpu.kdbench_load(artifact, target)
    assert_like_the_reference(answers(session, evaluation, 8), evaluation)
    found = torch._dynamo.utils.counters["inductor"]
    assert (found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]) == (1, 0)
    assert not list((tmp_path / "temporary").iterdir())
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert not psutil.Process().children()


@pytest.mark.parametrize("mode", ["compile", "aot"])
def test_a_network_that_is_no_single_graph_is_unsupported_in_one_line(student, mode, tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.networks.assemble", lambda *_: settled(Branching()))
    with pytest.raises(Unsupported) as caught:
        cpu.kdbench_compile(student, target_of(mode=mode), tmp_path)
    assert "\n" not in caught.value.message
    assert "mode=eager" in caught.value.hint


@pytest.mark.parametrize("mode", ["compile", "aot"])
def test_a_missing_compiler_is_unsupported_in_one_sentence(student, mode, tmp_path):
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(Unsupported) as caught:
        cpu.kdbench_compile(student, target_of(mode=mode), tmp_path)
    assert "C++ compiler" in caught.value.message
    assert "mode=eager" in caught.value.hint


def test_a_probe_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = cpu.kdbench_probe()
    assert isinstance(answer, Unavailable)
    assert "torch" in answer.reason
    assert "pip install" in answer.fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, ("Some CPU", ("fp32", "bf16"))),
        (X86.replace(" avx512_bf16", ""), ("Some CPU", ("fp32",))),
    ],
)
def test_the_processor_is_named_with_its_native_precisions(text, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert processor.identify(tmp_path / "cpuinfo") == expected


def test_an_arm_processor_is_asked_for_its_features(tmp_path):
    (tmp_path / "cpuinfo").write_text(ARM)
    name, precisions = processor.identify(tmp_path / "cpuinfo")
    assert name
    assert precisions == ("fp32", "bf16")


def test_a_processor_that_tells_nothing_computes_in_fp32(tmp_path):
    name, precisions = processor.identify(tmp_path / "none")
    assert name
    assert precisions == ("fp32",)
