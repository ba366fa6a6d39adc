"""The contract as tests of pytest: a thin layer over the checks, taken by one subclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from kdbench.errors import UnknownBackend
from kdbench.spec import Scalar, Session, Student, Target
from kdbench.testing.finding import Check, Skipped
from kdbench.testing.opened import Opened
from kdbench.testing.running import judge
from kdbench.testing.subject import Settings, Subject, named
from kdbench.testing.table import CHECKS


class BackendFixtures:
    """The settings of a contract and the fixtures made of them, for a plugin's own tests.

    backend: name of the installed backend.
    student: name of an embedded student or path of a bundle.
    device: id of the device to test; empty takes the first that the probe names.
    options: of the backend, where they differ from its defaults.
    untried: choices of options that the contract leaves out, `{"mode=compile": "why"}`; each has a reason.
    """

    backend: ClassVar[str]
    student: ClassVar[str] = "digits-2x5"
    device: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Scalar]] = {}
    untried: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Iterator[Subject]:
        """The plugin under test; its backend, student and sessions are made when they are first needed."""
        settings = Settings(
            student=cls.student, device=cls.device, options=cls.options, untried=cls.untried
        )  # fmt: skip
        try:
            source = named(cls.backend)
        except UnknownBackend as unknown:
            pytest.fail(str(unknown), pytrace=False)
        with Subject(source, settings) as subject:
            yield subject

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, subject: Subject) -> Opened:
        """The student compiled and loaded; skips with the probe's reason where the backend cannot run."""
        try:
            return subject.opened
        except Skipped as skipped:
            pytest.skip(skipped.reason)

    @pytest.fixture(scope="class")
    @classmethod
    def bundle(cls, subject: Subject) -> Student:
        """The student."""
        return subject.student

    @pytest.fixture
    def target(self, opened: Opened) -> Target:
        """What the backend is asked for."""
        return opened.target

    @pytest.fixture
    def make_session(self, opened: Opened, subject: Subject) -> Iterator[Callable[..., Session]]:
        """Give the maker of sessions, as `make_session(precision="bf16", threads=2)`.

        It compiles and loads for the target with these changes; the sessions are closed after the test.
        """
        with ExitStack() as exits:

            def make(**changes: Any) -> Session:
                asked, workdir = replace(opened.target, **changes), subject.folder("artifact")
                artifact = opened.backend.compile(opened.student, asked, workdir)
                session = opened.backend.load(artifact, asked)
                exits.callback(session.close)
                return session

            yield make


class BackendContract(BackendFixtures):
    """What every backend must do, a test for each promise of `kdbench.testing.CHECKS`.

    Subclass it as `TestSomething` and name the backend. A promise that your runtime cannot keep is
    marked, and its test still runs, to tell you when it can:

        @pytest.mark.xfail(reason="the runtime has no way to free its pool")
        def test_close_gives_back(self): ...

    No other change of a test of the contract is taken.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in FIXTURES:
            if inspect.getattr_static(cls, name) is not vars(BackendFixtures)[name]:
                raise pytest.Collector.CollectError(
                    f"{cls.__name__} replaces the fixture {name} of the contract; call yours otherwise."
                )
        for one in CHECKS:
            own = inspect.getattr_static(cls, one.test, None)
            if getattr(own, "check", None) is not one:
                setattr(cls, one.test, _excused(cls, one, own))
        if unreasoned := [choice for choice, reason in cls.untried.items() if not reason.strip()]:
            raise pytest.Collector.CollectError(
                f"{cls.__name__} leaves {', '.join(unreasoned)} untried without saying why."
            )


FIXTURES = ("subject", "opened", "bundle", "target", "make_session")


def _excused(cls: type, one: Check, own: object) -> Callable[..., None]:
    """Give the contract's own test with the marks of one that a subclass put in its place.

    Raises CollectError, which pytest shows as one sentence, unless it is marked xfail with a reason.
    """
    marks: list[pytest.Mark] = getattr(own, "pytestmark", [])
    if not any(mark.name == "xfail" and str(mark.kwargs.get("reason", "")).strip() for mark in marks):
        raise pytest.Collector.CollectError(
            f"{cls.__name__} overrides {one.test}: a test of the contract stays as it is, or is marked "
            "@pytest.mark.xfail(reason=...) with the reason."
        )
    test = _test_of(one)
    test.pytestmark = marks  # type: ignore[attr-defined]  # where pytest looks for them
    return test


def _test_of(one: Check) -> Callable[..., None]:
    def test(self: BackendContract, subject: Subject) -> None:
        finding = judge(one, subject)
        if finding.verdict == "skipped":
            pytest.skip(finding.seen)
        if finding.verdict == "broken":
            pytest.fail(str(finding), pytrace=False)

    test.__name__, test.__doc__ = one.test, one.promise
    test.__qualname__ = f"{BackendContract.__name__}.{one.test}"
    test.check = one  # type: ignore[attr-defined]  # how a subclass's own is told from the contract's
    return test


for _one in CHECKS:
    setattr(BackendContract, _one.test, _test_of(_one))
