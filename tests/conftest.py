"""Fixtures that several test files share: a student on paper, and throw-away plugins."""

from __future__ import annotations

import importlib
import itertools
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kdbench.spec import Student, TensorSpec
from tests import faulty

HEALTHY_HOOKS = {
    "kdbench_describe": """
        @hookimpl
        def kdbench_describe():
            return BackendInfo(api=1, title="Throw-away", devices=("cpu",), precisions=("fp32",))
    """,
    "kdbench_probe": """
        @hookimpl
        def kdbench_probe():
            return Available("1.0", (Device("cpu", "any CPU"),))
    """,
    "kdbench_compile": """
        @hookimpl
        def kdbench_compile(student):
            return Artifact((student.files["weights"],), {"classes": str(len(student.classes))})
    """,
    "kdbench_load": """
        class Opened:
            placement = Placement(device="cpu", precision="fp32")

            def __init__(self, classes):
                self.classes = classes

            def close(self):
                pass

        @hookimpl
        def kdbench_load(artifact):
            return Opened(int(artifact.notes["classes"]))
    """,
    "kdbench_run": """
        @hookimpl
        def kdbench_run(session, batch_size):
            import numpy

            return lambda inputs: (numpy.zeros((batch_size, session.classes), numpy.float32),)
    """,
}


@pytest.fixture(scope="session", autouse=True)
def signals_heard():
    """Hear what the caller of pytest may have ignored, as `nohup` and `&` do: children inherit it."""
    heard = dict.fromkeys((signal.SIGHUP, signal.SIGTERM), signal.SIG_DFL)
    heard[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def paper_student(tmp_path: Path) -> Student:
    """Give a student whose files exist and hold nothing: for what never looks inside."""
    root = tmp_path / "bundle"
    root.mkdir()
    weights = root / "student.safetensors"
    weights.write_bytes(b"paper")
    return Student(
        name="paper",
        task="classification",
        sha256="0" * 64,
        root=root,
        files={"weights": weights},
        inputs=(TensorSpec("input", (1, 8, 8), "float32"),),
        outputs=(TensorSpec("logits", (3,), "float32"),),
        classes=("a", "b", "c"),
    )


@pytest.fixture
def plugin_source() -> Callable[..., str]:
    """Give the maker of a plugin's source: healthy, but for the hooks that are replaced.

    `plugin_source(kdbench_load="...", kdbench_run="")` replaces one hook's definition and drops
    another; `before` goes ahead of the hooks, at module level. Its outputs are all zero.
    """

    def source(before: str = "", **hooks: str) -> str:
        parts = ["from kdbench import *", before, *{**HEALTHY_HOOKS, **hooks}.values()]
        return "\n".join(textwrap.dedent(part) for part in parts)

    return source


@pytest.fixture
def make_plugin(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Give the maker of a really installed plugin: a folder that works on PYTHONPATH and `sys.path`.

    `make_plugin(name, source_code)` writes a module with that source and the metadata of a
    distribution `kdbench-<name>` whose entry point `name` is the module. Its answer is the folder,
    the same for all plugins of a test unless `folder` says otherwise. `attribute` makes the entry
    point `module:attribute`; `distribution` and `version` stand in the metadata.
    """
    modules: list[str] = []

    def make(
        name: str,
        source_code: str,
        *,
        attribute: str = "",
        distribution: str = "",
        version: str = "1.0",
        folder: str = "plugins",
    ) -> Path:
        home = tmp_path / folder
        distribution = distribution or f"kdbench-{name}"
        module = distribution.replace("-", "_")
        metadata = home / f"{module}-{version}.dist-info"
        metadata.mkdir(parents=True, exist_ok=True)
        (home / f"{module}.py").write_text(source_code, encoding="utf-8")
        value = f"{module}:{attribute}" if attribute else module
        written = {
            "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
            "entry_points.txt": f"[kdbench]\n{name} = {value}\n",
            "RECORD": f"{module}.py,,\n",
        }
        for file, text in written.items():
            (metadata / file).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        modules.append(module)
        return home

    yield make
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own: none touches the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KDBENCH_CACHE", str(folder))
    return folder


class LyingClock:
    """A clock that goes only when it is told to, or by `reading_ns` each time that it is read."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.reading_ns = 0
        self.readings: list[int] = []

    def __call__(self) -> int:
        self.now_ns += self.reading_ns
        self.readings.append(self.now_ns)
        return self.now_ns

    def runner(self, *durations_ns: int) -> Callable[[object], object]:
        """Give a runner whose calls take these times in turns, and which answers its own input."""
        turns = itertools.cycle(durations_ns)

        def run(inputs: object) -> object:
            self.now_ns += next(turns)
            return inputs

        return run


@pytest.fixture
def clock() -> LyingClock:
    """Give a clock that the test itself lets go."""
    return LyingClock()


@pytest.fixture(scope="session")
def kept_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the cache folder that the runs of all tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run_beside(tmp_path_factory: pytest.TempPathFactory, kept_artifacts: Path) -> Callable[..., faulty.Ran]:
    """Give what runs misbehaving plugins, sources by name, beside a healthy one: see `faulty.run_beside`."""

    def run(rogues: Mapping[str, str], **settings: Any) -> faulty.Ran:
        folder = tmp_path_factory.mktemp("run")
        return faulty.run_beside(rogues, folder, kept_artifacts, faulty.tiny(**settings))

    return run
