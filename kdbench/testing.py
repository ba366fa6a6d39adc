"""The contract of a backend as tests; a plugin's author gets them all by one subclass.

```python
from kdbench.testing import BackendContract

class TestContract(BackendContract):
    backend = "numpy"
```

They run in the plugin's own pytest, on what is installed there. A backend that cannot run here skips
with the reason of its probe, save for what must hold on every machine.
"""

# ruff: noqa: D102  # the names of the tests say what they test
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pytest

from kdbench.backends import Backend, load_plugin
from kdbench.discovery import Source, installed
from kdbench.errors import Unsupported
from kdbench.options import check_options
from kdbench.spec import (
    PRECISIONS,
    Allocating,
    Artifact,
    Available,
    Pipelined,
    Runner,
    Scalar,
    Session,
    Student,
    Target,
    Unavailable,
)
from kdbench.student import Evaluation, load_evaluation, open_student
from kdbench.wire import artifact_to_json, encode

if TYPE_CHECKING:
    from kdbench.spec import Array

    Arrays = tuple[Array, ...]

BATCH_SIZES = (1, 8)
FP32_TOLERANCE = 1e-3
"""Largest deviation of fp32 logits from the reference, as a share of the reference's spread."""

AGREEMENT_MIN = 0.95
"""Least share of equal labels in any other precision."""

_IMPORTED = """
import json, sys
from kdbench.backends import load_plugin
from kdbench.discovery import Source
load_plugin(Source(*json.loads(sys.argv[1]))).describe()
print(json.dumps(sorted(sys.modules)))
"""

_ELSEWHERE = """
import json, sys
from pathlib import Path
import numpy as np
from kdbench.backends import load_plugin
from kdbench.discovery import Source
from kdbench.spec import Target
from kdbench.student import load_evaluation, open_student
from kdbench.wire import artifact_from_json, decode
source, target, artifact, workdir, student = sys.argv[1:]
backend, bundle = load_plugin(Source(*json.loads(source))), open_student(student)
wanted = decode(target.encode(), Target)
session = backend.load(artifact_from_json(artifact.encode(), Path(workdir), bundle), wanted)
inputs = tuple(np.ascontiguousarray(array[:1]) for array in load_evaluation(bundle).inputs)
outputs = [array.tolist() for array in backend.run(session, 1)(inputs)]
session.close()
print(json.dumps(outputs))
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend with the student compiled and loaded."""

    backend: Backend
    student: Student
    evaluation: Evaluation
    target: Target
    workdir: Path
    artifact: Artifact
    session: Session

    def runner(self, batch_size: int, depth: int = 1) -> Runner:
        """Get a new runner of the session."""
        return self.backend.run(self.session, batch_size, depth)

    def batch(self, start: int, count: int) -> Arrays:
        """Copy `count` images of the evaluation split, from `start` on."""
        return tuple(array[start : start + count].copy() for array in self.evaluation.inputs)

    def reopen(self, workdir: Path, **changes: Any) -> Session:
        """Compile and load again for another target; the caller closes the session."""
        target = replace(self.target, **changes)
        workdir.mkdir()
        return self.backend.load(self.backend.compile(self.student, target, workdir), target)


class BackendContract:
    """What every backend must do. Subclass it as `TestSomething` and name the backend.

    student: name of an embedded student or path of a bundle.
    device: id of the device to test; empty takes the first that the probe names.
    options: of the backend, where they differ from its defaults.
    """

    backend: ClassVar[str]
    student: ClassVar[str] = "digits-2x5"
    device: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Scalar]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls) -> Source:
        """The installed plugin."""
        found, faults = installed(only=cls.backend)
        assert not faults, faults[0].reason
        return found[cls.backend]

    @pytest.fixture(scope="class")
    @classmethod
    def connected(cls, source: Source) -> Backend:
        """The backend behind its facade, which checks the type of every answer."""
        return load_plugin(source)

    @pytest.fixture(scope="class")
    @classmethod
    def available(cls, connected: Backend) -> Available:
        """What the probe found; skips where that is nothing."""
        answer = connected.probe()
        if isinstance(answer, Unavailable):
            pytest.skip(answer.reason)
        return answer

    @pytest.fixture(scope="class")
    @classmethod
    def opened(
        cls, connected: Backend, available: Available, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Opened]:
        """The student compiled and loaded: in its own precision, else the first of the device; one thread."""
        student, device = open_student(cls.student), cls.device or available.devices[0].id
        precisions = _precisions(connected, available, device)
        own = student.precision in connected.info.precisions and student.precision != "fp32"
        target = Target(
            device=device,
            precision=student.precision if own else precisions[0],
            batch_sizes=BATCH_SIZES,
            options=check_options(connected.info, cls.options),
        )
        workdir = tmp_path_factory.mktemp("workdir")
        artifact = connected.compile(student, target, workdir)
        session = connected.load(artifact, target)
        yield Opened(connected, student, load_evaluation(student), target, workdir, artifact, session)
        session.close()

    def test_importing_and_describing_imports_no_vendor_library(
        self, source: Source, connected: Backend
    ) -> None:
        modules = set(json.loads(_python(_IMPORTED, [_plain(source)])))
        vendors = {
            module
            for module, providers in packages_distributions().items()
            if set(providers) & set(connected.info.distributions)
        }
        assert not modules & vendors

    def test_describe_gives_the_same_answer_every_time(self, connected: Backend) -> None:
        assert connected.describe() == connected.info
        assert encode(connected.describe()) == encode(connected.info)

    def test_probe_answers_and_never_raises(self, connected: Backend) -> None:
        answer = connected.probe()
        if isinstance(answer, Unavailable):
            assert answer.reason
            return
        assert answer.version
        for device in answer.devices:
            assert device.id.split(".")[0].split(":")[0] in connected.info.devices
            assert set(device.precisions) <= set(connected.info.precisions)

    def test_compile_writes_only_in_its_workdir(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for folder in ("here", "home", "work"):
            (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        before = _files(opened.student.root)
        opened.backend.compile(opened.student, opened.target, tmp_path / "work")
        assert not _files(tmp_path / "here")
        assert not _files(tmp_path / "home")
        assert _files(opened.student.root) == before

    def test_an_artifact_survives_json_and_another_process(self, source: Source, opened: Opened) -> None:
        stored = artifact_to_json(opened.artifact, opened.workdir, opened.student).decode()
        folders = [str(opened.workdir), str(opened.student.root)]
        answer = _python(_ELSEWHERE, [_plain(source), encode(opened.target).decode(), stored, *folders])
        there = tuple(np.array(array, "float32") for array in json.loads(answer))
        _assert_close(opened, opened.runner(1)(opened.batch(0, 1)), there)

    @pytest.mark.parametrize("batch_size", BATCH_SIZES)
    def test_outputs_are_arrays_of_the_declared_shape_and_dtype(
        self, opened: Opened, batch_size: int
    ) -> None:
        outputs = opened.runner(batch_size)(opened.batch(0, batch_size))
        assert isinstance(outputs, tuple)
        for spec, array in zip(opened.student.outputs, outputs, strict=True):
            assert array.shape == (batch_size, *spec.shape)
            assert array.dtype.name == spec.dtype
            assert array.flags.c_contiguous

    def test_inputs_are_not_written_to(self, opened: Opened) -> None:
        inputs = opened.batch(0, 8)
        opened.runner(8)(inputs)
        assert _equal(inputs, opened.batch(0, 8))

    def test_equal_inputs_give_equal_outputs_whatever_came_between(self, opened: Opened) -> None:
        runner = opened.runner(8)
        first = _copied(runner(opened.batch(0, 8)))
        between = _copied(runner(opened.batch(8, 8)))
        assert not _equal(first, between)
        assert _equal(first, runner(opened.batch(0, 8)))

    def test_a_row_of_a_batch_equals_the_same_image_alone(self, opened: Opened) -> None:
        batched, single = opened.runner(8)(opened.batch(0, 8)), opened.runner(1)
        rows = [_copied(single(opened.batch(row, 1))) for row in range(8)]
        _assert_close(opened, batched, tuple(map(np.concatenate, zip(*rows, strict=True))))

    def test_runners_of_one_session_do_not_disturb_each_other(self, opened: Opened) -> None:
        single, eight, other = opened.runner(1), opened.runner(8), opened.runner(8)
        outputs = eight(opened.batch(0, 8))
        before = _copied(outputs)
        single(opened.batch(20, 1))
        other(opened.batch(30, 8))
        assert _equal(outputs, before)

    def test_every_precision_of_the_device_agrees_with_the_reference(
        self, available: Available, opened: Opened, tmp_path: Path
    ) -> None:
        device, reference = opened.target.device, opened.evaluation.logits
        own = opened.student.precision
        for precision in _precisions(opened.backend, available, device):
            if precision != own and _refused(opened, tmp_path / f"{precision}-refused", precision):
                # It converts nothing, and runs each student in its own precision only.
                continue
            session = opened.reopen(tmp_path / precision, precision=precision)
            widened = {precision, "fp32"} if precision == own else {precision}
            assert session.placement.device == device
            assert session.placement.precision in widened
            runner = opened.backend.run(session, 8)
            starts = range(0, len(reference) // 8 * 8, 8)
            logits = np.concatenate([runner(opened.batch(start, 8))[0].copy() for start in starts])
            session.close()
            _assert_close(opened, (logits,), (reference[: len(logits)],), precision)

    def test_inputs_that_a_runner_allocates_are_distinct_writable_and_read_at_each_call(
        self, opened: Opened
    ) -> None:
        runner, starts = opened.runner(8), (0, 8, 16)
        if not isinstance(runner, Allocating):
            pytest.skip("This backend leaves the memory of its inputs to the harness.")
        ring = runner.allocate_inputs(len(starts))
        for entry, start in zip(ring, starts, strict=True):
            for array, image in zip(entry, opened.batch(start, 8), strict=True):
                assert (array.shape, array.dtype) == (image.shape, image.dtype)
                array[...] = image
        for entry, start in zip([*ring, ring[0]], [*starts, 0], strict=True):
            outputs = _copied(runner(entry))
            assert _equal(outputs, runner(opened.batch(start, 8)))
        ring[0][0][...] = ring[1][0]
        assert _equal(_copied(runner(ring[0])), runner(ring[1]))

    @pytest.mark.parametrize("burst", [3, 8])
    def test_every_request_in_flight_comes_back_once_with_its_own_outputs(
        self, opened: Opened, burst: int
    ) -> None:
        if opened.backend.info.concurrency != "pipelined":
            pytest.skip("This backend does not declare that it is pipelined.")
        runner = cast("Pipelined", opened.runner(1, 3))
        came: dict[int, Arrays] = {}
        for start in range(0, 3 * burst, burst):
            for tag in range(start, start + burst):
                runner.submit(opened.batch(tag, 1), tag)
            while len(came) < start + burst:
                for tag, outputs in runner.wait():
                    assert tag not in came
                    came[tag] = _copied(outputs)
        single = opened.runner(1)
        for tag, outputs in came.items():
            _assert_close(opened, single(opened.batch(tag, 1)), outputs)

    def test_runners_in_threads_of_their_own_do_not_disturb_each_other(self, opened: Opened) -> None:
        if opened.backend.info.concurrency != "threads":
            pytest.skip("This backend does not declare that threads may drive it.")
        runners = {start: opened.runner(8, 2) for start in (0, 8)}
        expected = {start: _copied(runner(opened.batch(start, 8))) for start, runner in runners.items()}

        def drive(start: int) -> int:
            return sum(_equal(runners[start](opened.batch(start, 8)), expected[start]) for _ in range(50))

        with ThreadPoolExecutor(len(runners)) as pool:
            assert list(pool.map(drive, runners)) == [50, 50]

    def test_the_number_of_threads_is_obeyed(self, opened: Opened, tmp_path: Path) -> None:
        for threads in {1, min(2, os.cpu_count() or 1)}:
            session = opened.reopen(tmp_path / str(threads), threads=threads)
            session.close()
            assert session.placement.threads in (None, threads)

    def test_closing_twice_is_fine_and_a_closed_session_runs_no_more(self, opened: Opened) -> None:
        session = opened.backend.load(opened.artifact, opened.target)
        runner = opened.backend.run(session, 1)
        runner(opened.batch(0, 1))
        session.close()
        session.close()
        with pytest.raises(Exception):  # noqa: B017, PT011  # which one is the plugin's own choice
            runner(opened.batch(0, 1))


def _precisions(connected: Backend, available: Available, device: str) -> list[Any]:
    """List what the device computes in, fp32 first where it has it."""
    found = next(known for known in available.devices if known.id == device)
    return sorted(found.precisions or connected.info.precisions, key=PRECISIONS.index)


def _refused(opened: Opened, workdir: Path, precision: str) -> bool:
    """Tell whether compile says of another precision than the student's own what to do to get it."""
    workdir.mkdir()
    target = replace(opened.target, precision=cast("Any", precision))
    try:
        opened.backend.compile(opened.student, target, workdir)
    except Unsupported as refusal:
        return bool(refusal.hint)
    return False


def _assert_close(opened: Opened, some: Arrays, others: Arrays, precision: str = "") -> None:
    """Hold fp32 to the spread of the reference logits, any other precision to its labels."""
    for one, other in zip(some, others, strict=True):
        if (precision or opened.target.precision) == "fp32":
            limit = FP32_TOLERANCE * opened.evaluation.logits.std()
            assert np.abs(one - other).max() <= limit
        else:
            assert np.mean(one.argmax(1) == other.argmax(1)) >= AGREEMENT_MIN


def _copied(arrays: Arrays) -> Arrays:
    return tuple(array.copy() for array in arrays)


def _equal(some: Arrays, others: Arrays) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def _files(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())


def _plain(source: Source) -> str:
    return json.dumps([source.name, source.value, source.distribution, source.version, source.stamp])


def _python(script: str, arguments: list[str]) -> str:
    """Run a script in a fresh interpreter; answers the last line that it printed."""
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]
