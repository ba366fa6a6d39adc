"""A device layer of torch that is not there: streams that finish at once, or when they are told to.

It stands in for `torch.cuda` where there is no GPU. Tensors, networks and copies are real, on the processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kdbench import Student
from kdbench.student import Evaluation, load_evaluation, open_student


@dataclass
class FakeStream:
    """A stream whose work is done after so many more questions; `asked` counts all of them."""

    busy: int = 0
    asked: int = 0
    waited: int = 0

    def query(self) -> bool:
        self.asked += 1
        self.busy = max(0, self.busy - 1)
        return not self.busy

    def synchronize(self) -> None:
        self.waited += 1
        self.busy = 0

    def wait_stream(self, other: FakeStream) -> None:
        pass


@dataclass
class FakeEvent:
    """An event that takes what is recorded as done only once somebody sleeps on it."""

    blocking: bool = False
    enable_timing: bool = False
    recorded: int = 0
    slept: int = 0

    def record(self, stream: FakeStream) -> None:
        self.recorded += 1

    def query(self) -> bool:
        return self.recorded == self.slept

    def synchronize(self) -> None:
        self.slept = self.recorded

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.enable_timing
        assert end.recorded
        return 0.25


@dataclass
class FakeDevice:
    """What was made and asked for."""

    streams: list[FakeStream] = field(default_factory=list)
    events: list[FakeEvent] = field(default_factory=list)
    within: list[FakeStream] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)
    emptied: int = 0
    capability: tuple[int, int] = (9, 0)
    default: FakeStream = field(default_factory=FakeStream)

    def stream(self) -> FakeStream:
        self.streams.append(FakeStream())
        return self.streams[-1]

    def event(self, **kind: bool) -> FakeEvent:
        self.events.append(FakeEvent(**kind))
        return self.events[-1]

    def empty_cache(self) -> None:
        self.emptied += 1

    def use(self, stream: FakeStream) -> Any:
        @contextlib.contextmanager
        def entered() -> Iterator[None]:
            self.within.append(stream)
            yield

        class Reusable:
            def __enter__(self) -> None:
                self.context = entered()
                self.context.__enter__()

            def __exit__(self, *fault: Any) -> None:
                self.context.__exit__(*fault)

        return Reusable()


@pytest.fixture(scope="module")
def student() -> Student:
    return open_student("digits-2x5")


@pytest.fixture(scope="module")
def evaluation(student: Student) -> Evaluation:
    return load_evaluation(student)


@pytest.fixture
def fake_device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """Put the fake device layer under torch.cuda for one test; `cpu` is then the id of a device."""
    torch = pytest.importorskip("torch")
    from kdbench_torch.cuda import memory

    fake = FakeDevice()
    parts = {
        "Stream": fake.stream,
        "Event": fake.event,
        "stream": fake.use,
        "current_stream": lambda *_: fake.default,
        "set_device": fake.entered.append,
        "empty_cache": fake.empty_cache,
        "get_device_capability": lambda *_: fake.capability,
    }
    for name, part in parts.items():
        monkeypatch.setattr(torch.cuda, name, part)
    monkeypatch.setattr(memory, "pinned", lambda shape, dtype: torch.zeros(tuple(shape), dtype=dtype))
    return fake
