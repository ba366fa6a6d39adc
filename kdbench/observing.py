"""One observer in a worker: made, told of each stage, and kept apart from the backend that it watches.

What an observer does wrong leaves here as an ObserverError in its own name; what the backend does wrong
passes through an observer unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, Literal

from kdbench.around import lacking, watched
from kdbench.discovery import OBSERVERS
from kdbench.errors import ObserverError
from kdbench.spec import Observation, Stage

HINT = "docs/hooks.md, Observers, says what one may do."
RUN = "kdbench_run"
"""The one hook whose answer an observer may put something around."""


@dataclass(frozen=True, slots=True)
class Watch:
    """An observer of one cell, by its name."""

    name: str
    observer: object

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Tell the observer that a stage begins and, whatever becomes of it, that it has ended."""
        self._tell("begin", stage)
        try:
            yield
        except BaseException:
            with suppress(ObserverError):
                self._tell("end", stage)
            raise
        self._tell("end", stage)

    def close(self) -> None:
        """Let the observer write what it has, and give back what it holds."""
        self._tell("close")

    def _tell(self, method: Literal["begin", "end", "close"], *arguments: object) -> None:
        with blamed(self.name, method):
            told = getattr(self.observer, method, None)
            if told is not None:
                told(*arguments)


def make(name: str, value: str, observation: Observation) -> Watch:
    """Import the observer that an entry point names, and let it make one for a cell.

    Runs the observer's code: for worker processes only. Raises ObserverError for whatever goes wrong.
    """
    with blamed(name, "import"):
        factory = getattr(EntryPoint(name, value, OBSERVERS).load(), "observe", None)
    if not callable(factory):
        raise broken(name, f"{value} has no function observe(observation)")
    with blamed(name, "observe"):
        observer = factory(observation)
    if observer is None:
        raise broken(name, "its observe() answered nothing, and an observer is promised")
    return Watch(name, observer)


def broken(name: str, fault: str) -> ObserverError:
    """Make the error that says which promise an observer broke."""
    return ObserverError(f"The observer {name} breaks its contract: {fault}.", hint=HINT, phase="observe")


@contextmanager
def blamed(name: str, place: str) -> Iterator[None]:
    """Turn whatever is raised inside into one sentence about this observer."""
    try:
        yield
    except ObserverError:
        raise
    # Not Exception: an observer may call sys.exit as well as a backend.
    except BaseException as fault:
        raise _fault(name, place, fault) from fault


def _fault(name: str, place: str, fault: BaseException) -> ObserverError:
    try:
        told = f"{type(fault).__name__}: {fault}".removesuffix(": ")
    except Exception:  # an error that cannot even be told
        told = type(fault).__name__
    return ObserverError(f"The observer {name} failed in {place}: {told}", phase="observe")


def guarded(name: str, hook: str, wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Give an observer's wrapper of a hook such that its faults are its own, with the same arguments.

    It sees each answer and each fault of the backend. It gives back what it was given; only a runner may it
    put something around.
    """

    @functools.wraps(wrapper)
    def guard(*arguments: Any) -> Generator[None, Any, Any]:
        with blamed(name, hook):
            steps = wrapper(*arguments)
            _advance(name, hook, steps)
        try:
            answer = yield
        except BaseException as fault:
            _show(name, hook, steps, fault)
            raise
        if answer is None:  # the backend's fault, and told as such: there is nothing to show
            steps.close()
            return None
        return _passed(name, hook, steps, answer)

    return guard


def _advance(name: str, hook: str, steps: Any) -> None:
    try:
        next(steps)
    except (StopIteration, TypeError) as fault:
        if isinstance(fault, TypeError) and isinstance(steps, Generator):
            raise
        raise broken(name, f"its {hook} does not `yield` once") from None


def _show(name: str, hook: str, steps: Any, fault: BaseException) -> None:
    """Throw a backend's fault into an observer's wrapper, which may look at it and not swallow it."""
    try:
        steps.throw(fault)
    except BaseException as seen:
        if seen is fault or isinstance(seen, StopIteration):
            return
        raise _fault(name, hook, seen) from seen


def _passed(name: str, hook: str, steps: Any, answer: Any) -> Any:
    """Show an answer to an observer's wrapper and take what it gives back."""
    sides = _Sides(name)
    runs = hook == RUN and callable(answer)
    given = watched(answer, sides.inside) if runs else answer
    with blamed(name, hook):
        try:
            steps.send(given)
        except StopIteration as stop:
            back = stop.value
        else:
            raise broken(name, f"its {hook} does not `yield` once")
    if back is given:
        return answer
    if back is None:
        raise broken(name, f"its {hook} gives nothing back; it ends with `return` of what `yield` gave")
    if not (runs and callable(back)):
        raise broken(name, f"its {hook} gives another answer back than it was given")
    if missing := lacking(back, than=answer):
        raise broken(name, f"its runner lacks {', '.join(missing)}, which the backend's has")
    return watched(back, sides.outside)


class _Sides:
    """Tells the faults of a backend's runner, inside, from those of what an observer put around it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._passed: list[BaseException] = []

    def inside(self, _: str, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except BaseException as fault:
            self._passed.append(fault)
            raise

    def outside(self, place: str, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except BaseException as fault:
            if any(fault is one for one in self._passed):
                raise
            raise _fault(self._name, f"its runner's {place}", fault) from fault
