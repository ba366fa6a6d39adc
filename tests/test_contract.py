"""The contract kit against backends that break it in one way each: the check about it fails, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kdbench.testing import CHECKS, BackendContract, Settings, run, run_apart
from tests.faulty import install, rogue

DESCRIBED = """
from dataclasses import replace

@hookimpl
def kdbench_describe():
    return replace(healthy.kdbench_describe(), {})
"""
HOST = 'boundaries=("host",)'


def plugin(place: str, statements: str, described: str = HOST) -> str:
    """Give a plugin that does something else in one place; its import brings no NumPy."""
    return _without_numpy(rogue(place, statements)) + (DESCRIBED.format(described) if described else "")


def host(statements: str, described: str = HOST) -> str:
    """Give a plugin whose runner has this class body."""
    return plugin("resident", statements, described)


def device(statements: str, described: str = "") -> str:
    """Give a plugin whose runner has this class body, whose inputs are a list where they were uploaded."""
    apart = """
    def upload(self, inputs):
        return list(inner.upload(inputs))
    """
    return plugin("resident", textwrap.dedent(apart) + textwrap.dedent(statements), described)


def hooks(text: str, described: str = HOST) -> str:
    """Give a plugin with further hooks in the place of the healthy ones."""
    return plugin("import", "pass", described) + textwrap.dedent(text)


def _without_numpy(source: str) -> str:
    return source.replace("\nimport numpy\n", "\n")


QUEUE = """
import numpy
waiting = []
def __call__(self, inputs):
    return inner(tuple(inputs))
def submit(self, inputs, tag):
    self.waiting.append((tag, inputs))
def wait(self):
    waiting = self.waiting
    tag, inputs = {next}
    return [(tag, self(inputs))]
"""
LAST_FIRST = "(waiting[-1][1], waiting.pop(0)[0])[::-1]"
UPLOADS_LAST_FIRST = f"({LAST_FIRST}) if isinstance(waiting[0][1], list) else waiting.pop(0)"
BOUND = """
import threading
home = threading.get_ident()
def __call__(self, inputs):
    assert self.threading.get_ident() == self.home or {unless}, "not my thread"
    return inner(tuple(inputs))
"""
REMEMBERS_CONTENT = """
seen = ()
def __call__(self, inputs):
    answer, content = inner(inputs), inputs[0].tobytes()
    self.seen = (*self.seen, content)
    return (answer[0] + 1,) if content in self.seen[:-1] else answer
"""
REMEMBERS_OBJECTS = """
known = ()
def __call__(self, inputs):
    for entry, answer in self.known:
        if entry is inputs:
            return answer
    answer = (inner(inputs)[0].copy(),)
    self.known = (*self.known, (inputs, answer))
    return answer
"""
LATE = """
calls = 0
def __call__(self, inputs):
    import threading
    whole = inner(inputs)[0].copy()
    early = whole.round(4)
    self.calls += 1
    if self.calls > 2:
        threading.Timer(0.005, lambda: early.__setitem__(..., whole)).start()
    return (early,)
"""
ONE_ENTRY = """
def allocate_inputs(self, count):
    import numpy
    return [(numpy.zeros((batch_size, 3, 16, 16), numpy.float32),)] * count
"""
SHARED = """
shared = session.__dict__.setdefault("shared", {})
if batch_size not in shared:
    shared[batch_size] = healthy.kdbench_run(session, batch_size)
return shared[batch_size]
"""
SHARED_AT_DEVICE = """
@hookimpl
def kdbench_load(artifact, target):
    session = healthy.kdbench_load(artifact)
    session.boundary = target.boundary
    return session

@hookimpl
def kdbench_run(session, batch_size):
    shared = session.__dict__.setdefault("shared", {})
    if session.boundary == "host" or batch_size not in shared:
        shared[batch_size] = healthy.kdbench_run(session, batch_size)
    return shared[batch_size]
"""
ABSOLUTE = """
@hookimpl
def kdbench_compile(student, target, workdir):
    artifact, copy = healthy.kdbench_compile(student, target), workdir / "weights"
    copy.write_bytes(artifact.files[0].read_bytes())
    return Artifact((copy,), {**artifact.notes, "path": str(copy)})

@hookimpl
def kdbench_load(artifact):
    notes = dict(artifact.notes)
    return healthy.kdbench_load(Artifact((Path(notes.pop("path")),), notes))
"""
SAYS_BF16 = """
@hookimpl
def kdbench_compile(student, target):
    return healthy.kdbench_compile(student, replace(target, precision="fp32"))

@hookimpl
def kdbench_load(artifact, target):
    session = healthy.kdbench_load(artifact)
    session.placement = Placement(device="cpu", precision=target.precision)
    return session
"""
SAYS = """
@hookimpl
def kdbench_load(artifact):
    session = healthy.kdbench_load(artifact)
    session.placement = Placement({})
    return session
"""
BUSY = """
from concurrent.futures import ThreadPoolExecutor
pool, work = ThreadPoolExecutor(1), bytes(4_000_000)
def __call__(self, inputs):
    import hashlib
    other = self.pool.submit(hashlib.sha256, self.work)
    hashlib.sha256(self.work)
    other.result()
    return inner(inputs)
"""
LEAK = """
kept = []
@hookimpl
def kdbench_load(artifact):
    {}
    return healthy.kdbench_load(artifact)
"""
CLOSES_ONCE = """
@hookimpl
def kdbench_load(artifact):
    session = healthy.kdbench_load(artifact)
    closed = []
    def close():
        type(session).close(session)
        closed.append(1)
        assert len(closed) < 2, "already closed"
    session.close = close
    return session
"""
LIVES_ON = """
last = None
def __call__(self, inputs):
    try:
        self.last = inner(tuple(inputs))
    except RuntimeError:
        if not isinstance(inputs, list):
            raise
    return self.last
"""
WRITES = """
def __call__(self, inputs):
    answer = inner(tuple(inputs))
    if isinstance(inputs, list):
        inputs[0].fill(0)
    return answer
"""
SPOILS_THE_HOST = """
def upload(self, inputs):
    copies = inner.upload(inputs)
    inputs[0].fill(0)
    return copies
"""
SLOTS = """
memory = {}
class Slot:
    free, most = list(range(200, 0, -1)), 0
    def __init__(self, arrays):
        self.number, self.arrays = self.free.pop(), arrays
        type(self).most = max(self.most, self.number)
    def __del__(self):
        self.free.append(self.number)
def upload(self, inputs):
    return self.Slot(inner.upload(inputs))
def __call__(self, inputs):
    if not isinstance(inputs, self.Slot):
        return inner(inputs)
    answer = inner(inputs.arrays)
    if self.Slot.most < 3:
        return answer
    return self.memory.setdefault(inputs.number, (answer[0].copy(),))
"""
"""Knows its inputs by where they lie, in memory that is handed out again."""

RETURNS_EARLY = """
ready = 0
def __call__(self, inputs):
    answer = inner(inputs)
    self.ready = time.perf_counter() + 0.002
    return answer
def download(self, outputs):
    while time.perf_counter() < self.ready:
        pass
    return inner.download(outputs)
"""
TIMED = """
def __call__(self, inputs):
    return inner(tuple(inputs))
def device_ns(self, inputs):
    {}
"""
MODE = 'Option(name="mode", type="str", default="a", choices=("a", "b"), help="?")'
OPTION = f'boundaries=("host",), options=({MODE},)'
NEEDS_PYTEST = """
@hookimpl
def kdbench_probe():
    import pytest
    return healthy.kdbench_probe()
"""


@dataclass(frozen=True)
class Rogue:
    """A plugin's source, the checks that must fail for it, and what they must say.

    apart: checks with processes of their own that are run on it; of these it is given few.
    """

    source: str
    broken: str
    words: str
    apart: frozenset[str] = field(default_factory=frozenset)


def slow(source: str, broken: str, words: str) -> Rogue:
    return Rogue(source, broken, words, frozenset({broken}))


BF16 = 'boundaries=("host",), precisions=("fp32", "bf16")'
BROKEN = {
    "misspelt": Rogue(
        hooks("@hookimpl\ndef kdbench_lode():\n    pass"), "connects", "Did you mean 'kdbench_load'"
    ),
    "imports-vendor": slow(plugin("import", "import numpy"), "import-light", "has imported numpy"),
    "tells-its-process": slow(
        hooks("", 'boundaries=("host",), title=f"Rogue {os.getpid()}"'),
        "describe-constant",
        "In another process, title was 'Rogue",
    ),
    "raises-in-probe": Rogue(plugin("probe", "raise OSError('no driver')"), "probe-answers", "no driver"),
    "finds-others": Rogue(
        plugin("probe", "return Available('1', (Device('gpu.0', 'a GPU'),))"),
        "probe-answers",
        "the kind 'gpu'; described are ['cpu']",
    ),
    "needs-its-vendor": slow(
        hooks(NEEDS_PYTEST, 'boundaries=("host",), distributions=("pytest",)'),
        "probe-without-vendor",
        "pytest it raised: ",
    ),
    "never-loads": Rogue(
        plugin("load", "raise ValueError('bad file')"),
        "opens",
        "ValueError: bad file\n  look:     docs/hooks.md#the-five and kdbench_load in ",
    ),
    "writes-at-home": slow(
        plugin("compile", "(Path.home() / 'cache.bin').write_text('x')"),
        "compile-confined",
        "wrote cache.bin in the home folder",
    ),
    "writes-in-bundle": slow(
        plugin("compile", "if 'scene' in str(student.root): (student.root / 'x').write_text('x')"),
        "compile-confined",
        "in the student's bundle",
    ),
    "writes-here": slow(
        plugin("compile", "Path('x').write_text('x')"), "compile-confined", "in which the process runs"
    ),
    "absolute-path": slow(hooks(ABSOLUTE), "artifact-travels", "No such file or directory"),
    "fails-in-bf16": Rogue(
        plugin("compile", "if target.precision == 'bf16': raise ValueError('no such kernel')", BF16),
        "precisions-tried",
        "In bf16 it failed",
    ),
    "no-hint": Rogue(
        plugin("compile", "if target.precision == 'bf16': raise Unsupported('No.')", BF16),
        "precisions-tried",
        "refused precision bf16 without a hint: No.",
    ),
    "scaled": Rogue(
        host("def __call__(self, inputs):\n    return (inner(inputs)[0] * 1.1,)"),
        "agrees-with-reference",
        "of their spread; 0.001 is allowed",
    ),
    "nan": Rogue(
        host("def __call__(self, inputs):\n    return (inner(inputs)[0] * float('nan'),)"),
        "agrees-with-reference outputs-repeatable rows-alone complete-on-return runners-apart outputs-fresh",
        "NaN or infinity",
    ),
    "bad-choice": Rogue(
        plugin("load", "assert target.options['mode'] == 'a', 'no such mode'", OPTION).replace(
            "kdbench_load(artifact)", "kdbench_load(artifact, target)", 1
        ),
        "options-tried",
        "With mode=b it failed",
    ),
    "float64": Rogue(
        host("def __call__(self, inputs):\n    return (inner(inputs)[0].astype('float64'),)"),
        "outputs-declared",
        "is float64 [1, 2], and the student declares float32 [1, 2]",
    ),
    "list": Rogue(
        host("def __call__(self, inputs):\n    return list(inner(inputs))"),
        "outputs-declared",
        "answered a list",
    ),
    "strided": Rogue(
        host("def __call__(self, inputs):\n    return (inner(inputs)[0].copy('F'),)"),
        "outputs-declared",
        "is not C-contiguous",
    ),
    "writes-to-its-input": Rogue(
        host("def __call__(self, inputs):\n    a = inner(inputs)\n    inputs[0].fill(0)\n    return a"),
        "inputs-untouched",
        "values of 'images'",
    ),
    "drifts": Rogue(host(REMEMBERS_CONTENT), "outputs-repeatable", "Two answers to the same images differ"),
    "remembers-objects": Rogue(host(REMEMBERS_OBJECTS), "outputs-fresh", "the very same answer as before"),
    "returns-early": Rogue(host(LATE), "complete-on-return", "it does not wait for its result"),
    "other-alone": Rogue(
        host("def __call__(self, inputs):\n    return (inner(inputs)[0] * (1.1 if batch_size == 1 else 1),)"),
        "rows-alone",
        "Rows of a batch and the same images alone differ",
    ),
    "shares-buffers": Rogue(plugin("bind", SHARED), "runners-apart", "changed when another one"),
    "one-entry": Rogue(host(ONE_ENTRY), "inputs-allocated", "Answers to an allocated entry"),
    "says-bf16": Rogue(hooks(SAYS_BF16, BF16), "placement-true", "nothing was rounded"),
    "says-gpu": Rogue(
        hooks(SAYS.format("device='gpu.0', precision='fp32'")), "placement-true", "placement says 'gpu.0'"
    ),
    "says-seven": slow(
        hooks(SAYS.format("device='cpu', precision='fp32', threads=7")),
        "threads-obeyed",
        "told to take 1 threads, and placement says 7",
    ),
    "busy": slow(host(BUSY), "threads-obeyed", "With 1 threads, its process kept"),
    "closes-once": Rogue(hooks(CLOSES_ONCE), "close-twice", "already closed"),
    "never-closes": Rogue(plugin("close", "pass"), "closed-raises", "answered after close()"),
    "leaks-memory": slow(
        hooks(LEAK.format("kept.append(b'x' * 500_000)")), "close-gives-back", "of resident memory"
    ),
    "leaks-files": slow(hooks(LEAK.format("kept.append(open(__file__))")), "close-gives-back", "open files"),
    "leaks-threads": slow(
        hooks(LEAK.format("import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()")),
        "close-gives-back",
        "threads",
    ),
    "last-comes-first": Rogue(
        host(QUEUE.format(next=LAST_FIRST), HOST + ', concurrency="pipelined"'),
        "requests-in-flight",
        "Of 3 requests in flight, request 0 and its image alone differ",
    ),
    "comes-twice": Rogue(
        host(QUEUE.format(next="(0, waiting.pop(0)[1])"), HOST + ', concurrency="pipelined"'),
        "requests-in-flight",
        "gave back request 0 twice",
    ),
    "bound-to-its-thread": Rogue(
        host(BOUND.format(unless="False"), HOST + ', concurrency="threads"'), "threads-apart", "not my thread"
    ),
    "uploads-last-first": Rogue(
        device(QUEUE.format(next=UPLOADS_LAST_FIRST), 'concurrency="pipelined"'),
        "device-requests-in-flight",
        "request 0 and its image alone differ",
    ),
    "uploads-bound": Rogue(
        device(BOUND.format(unless="isinstance(inputs, tuple)"), 'concurrency="threads"'),
        "device-threads-apart",
        "not my thread",
    ),
    "no-download": Rogue(host("download = None", ""), "device-opens", "has no download()"),
    "lives-on": Rogue(device(LIVES_ON), "device-closed-raises", "answered after close()"),
    "scaled-at-device": Rogue(
        host("def download(self, outputs):\n    return ((outputs[0] * 1.1).astype('float32'),)", ""),
        "device-answers",
        "Answers at the boundaries device and host differ",
    ),
    "writes-to-the-device": Rogue(device(WRITES), "uploads-kept", "Two answers to the same upload differ"),
    "no-copy": Rogue(
        host("def upload(self, inputs):\n    return tuple(list(inputs))", ""),
        "upload-copies",
        "whose host arrays were written to afterwards",
    ),
    "spoils-the-host": Rogue(host(SPOILS_THE_HOST, ""), "upload-copies", "wrote to the host's arrays"),
    "remembers-slots": Rogue(host(SLOTS, ""), "uploads-given-up", "two uploads of the same images"),
    "shares-device-buffers": Rogue(
        hooks(SHARED_AT_DEVICE, ""), "device-runners-apart", "changed when another one"
    ),
    "device-returns-early": Rogue(
        host(RETURNS_EARLY, ""), "device-complete-on-return", "it waits for what the call left to do"
    ),
    "no-time": Rogue(
        device(TIMED.format("return None if isinstance(inputs, list) else 0")),
        "device-time-told",
        "device_ns answered 0",
    ),
    "too-long": Rogue(
        device(TIMED.format("return None if isinstance(inputs, list) else 10**12")),
        "device-time-told",
        "and the whole call took",
    ),
    "a-bool": Rogue(
        device(TIMED.format("return True if isinstance(inputs, list) else None")),
        "device-time-resident",
        "device_ns answered True",
    ),
    "clears-its-input": Rogue(
        device(TIMED.format("inputs[0].fill(0)")), "device-time-harmless", "device_ns wrote to its inputs"
    ),
}
SLOWLY = "begin = time.perf_counter_ns()\n    self(inputs)\n    return time.perf_counter_ns() - begin"
HEALTHY = {
    "timed": device(TIMED.format(SLOWLY)),
    "pipelined": device(QUEUE.format(next="waiting.pop(0)"), 'concurrency="pipelined"'),
    "threads": device(BOUND.format(unless="True"), 'concurrency="threads"'),
}
WHOLE = frozenset(check.id for check in CHECKS)
EXCUSED = """
class TestExcused(BackendContract):
    backend = "scaled"

    @pytest.mark.xfail(reason="the runtime scales, and nobody knows why")
    def test_agrees_with_reference(self):
        pass
"""
OVERRIDES = """
from kdbench.testing import BackendContract


class TestOverriding(BackendContract):
    backend = "scaled"

    def test_agrees_with_reference(self):
        pass
"""
DESELECT = """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if not item.obj.check.apart or item.obj.check.id in item.cls.apart]
"""


@dataclass
class Outcome:
    """What became of one plugin: checks by verdict, and what the failing ones say."""

    checks: dict[str, set[str]]
    texts: dict[str, str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run the kit on all of them in one pytest; gives outcomes by plugin, and what pytest printed."""
    folder = tmp_path_factory.mktemp("kit")
    sources = {name: rogue.source for name, rogue in BROKEN.items()} | HEALTHY
    lines = ["import pytest\nfrom kdbench.testing import BackendContract"]
    for number, (name, source) in enumerate(sources.items()):
        install(folder / "plugins", name, source)
        apart = BROKEN[name].apart if name in BROKEN else WHOLE if name == "timed" else frozenset()
        lines.append(
            f"class Test{number}(BackendContract):\n    backend = {name!r}\n    apart = {set(apart)!r}"
        )
    excused = EXCUSED.replace('"scaled"', '"scaled"\n    apart = set()')
    files = {
        "test_kit.py": "\n".join([*lines, excused]),
        "test_overrides.py": OVERRIDES,
        "conftest.py": DESELECT,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    words = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
        "--junitxml=kit.xml",
    ]
    path = os.pathsep.join([str(folder / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return _outcomes(folder / "kit.xml", list(sources)), done.stdout


def _outcomes(report, names):
    found = defaultdict(lambda: Outcome(defaultdict(set), {}))
    for case in ElementTree.parse(report).iter("testcase"):
        label = case.attrib["classname"].rpartition("Test")[2]
        name = names[int(label)] if label.isdigit() else label
        check = case.attrib["name"].removeprefix("test_").replace("_", "-")
        children = {child.tag: child for child in case if child.tag in ("failure", "error", "skipped")}
        verdict, child = next(iter(children.items()), ("passed", None))
        found[name].checks[verdict].add(check)
        if child is not None:
            found[name].texts[check] = f"{child.attrib.get('message')}\n{child.text}"
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_a_backend_that_breaks_a_promise_fails_the_check_that_is_about_it_and_no_other(ran, name):
    outcome = ran[0][name]
    assert outcome.checks["failure"] | outcome.checks["error"] == set(BROKEN[name].broken.split())
    assert not outcome.checks["error"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_failure_says_what_was_promised_what_was_seen_and_where_to_look(ran, name):
    rogue = BROKEN[name]
    check = next(one for one in CHECKS if one.id == rogue.broken.split()[0])
    text = ran[0][name].texts[check.id]
    assert f"promised: {check.promise}" in text
    assert rogue.words in text.partition("seen:")[2]
    assert f"look:     docs/hooks.md#{check.section} and " in text
    assert f"kdbench_{name.replace('-', '_')}" in text.partition("look:")[2] or "kdbench_numpy" in text


def test_every_check_has_a_backend_that_breaks_it():
    assert {check.id for check in CHECKS} == {
        name for rogue in BROKEN.values() for name in rogue.broken.split()
    }


@pytest.mark.parametrize("name", HEALTHY)
def test_a_backend_that_keeps_the_contract_passes_all_of_it(ran, name):
    checks = ran[0][name].checks
    assert not checks["failure"] | checks["error"]
    assert "uploads-kept" in checks["passed"]
    assert name != "timed" or {one.id for one in CHECKS if one.apart} - checks["passed"] == {
        "probe-without-vendor"
    }


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("timed", "device-time-resident"),
        ("timed", "device-time-told"),
        ("pipelined", "device-requests-in-flight"),
        ("threads", "device-threads-apart"),
    ],
)
def test_what_a_backend_declares_is_tested_and_not_skipped(ran, name, check):
    assert check in ran[0][name].checks["passed"]


def test_a_backend_that_cannot_be_opened_skips_the_rest_and_says_what_it_needs(ran):
    assert "It needs what opens is about, and that is broken." in ran[0]["never-loads"].texts["rows-alone"]


def test_an_excused_test_still_runs_and_is_expected_to_fail(ran):
    excused = ran[0]["Excused"]
    assert "agrees-with-reference" in excused.checks["skipped"]
    assert "nobody knows why" in excused.texts["agrees-with-reference"]
    assert not excused.checks["failure"]


def test_overriding_a_test_of_the_kit_is_an_error_of_one_sentence(ran):
    sentence = "TestOverriding overrides test_agrees_with_reference: a test of the contract stays as it is"
    assert sentence in ran[1]
    assert "Traceback" not in ran[1].partition(sentence)[0].rpartition("ERROR collecting")[2]


@pytest.mark.parametrize(
    "body",
    [
        {"test_opens": None},
        {"test_opens": pytest.mark.xfail(lambda self: None)},
        {"test_opens": pytest.mark.xfail(reason=" ")(lambda self: None)},
        {"test_opens": pytest.mark.skip(reason="not today")(lambda self: None)},
        {"subject": lambda self: None},
        {"untried": {"mode=b": ""}},
    ],
)
def test_no_way_around_a_check_is_taken_without_a_reason(body):
    with pytest.raises(pytest.Collector.CollectError, match=r"^\w+ (overrides|replaces|leaves) "):
        type("TestOverriding", (BackendContract,), {"backend": "numpy", **body})


def test_a_test_of_the_kit_is_not_overridden_by_a_mixin_either():
    mixin = type("Mixin", (), {"test_opens": lambda self: None})
    with pytest.raises(pytest.Collector.CollectError, match="test_opens"):
        type("TestOverriding", (mixin, BackendContract), {"backend": "numpy"})


def test_without_pytest_the_same_checks_give_findings():
    findings = list(run("numpy", only={"opens", "rows-alone", "options-tried"}))
    assert [(one.check, one.verdict) for one in findings] == [
        ("opens", "kept"),
        ("options-tried", "skipped"),
        ("rows-alone", "kept"),
    ]


def test_the_kit_needs_pytest_for_its_classes_only():
    code = "import sys, kdbench.testing as kit; kit.run; assert 'pytest' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plugin_that_kills_its_process_breaks_one_promise_and_the_rest_is_still_checked(
    make_plugin, monkeypatch
):
    source = host("def __call__(self, inputs):\n    os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(make_plugin("crashing", source))
    findings = list(run_apart("crashing", only={"connects", "opens", "close-twice", "options-tried"}))
    assert {one.check: one.verdict for one in findings} == {
        "connects": "kept",
        "opens": "broken",
        "options-tried": "skipped",
        "close-twice": "skipped",
    }
    assert findings[1].seen == "Its process died of SIGSEGV."


def test_a_plugin_that_hangs_is_given_up(make_plugin, monkeypatch):
    monkeypatch.syspath_prepend(make_plugin("hanging", plugin("probe", "time.sleep(600)")))
    [finding] = run_apart("hanging", only={"probe-answers"}, limit_s=1.0)
    assert (finding.verdict, finding.seen) == ("broken", "It was not done after 1 s.")


def test_choices_that_are_left_out_with_a_reason_are_not_tried(make_plugin, monkeypatch):
    monkeypatch.syspath_prepend(make_plugin("picky", BROKEN["bad-choice"].source))
    [left_out] = run("picky", Settings(untried={"mode=b": "takes an hour"}), only={"options-tried"})
    [tried] = run("picky", only={"options-tried"})
    assert (left_out.verdict, tried.verdict) == ("kept", "broken")


def test_the_page_about_the_hooks_lists_every_check_with_its_promise():
    page = (Path(__file__).parent.parent / "docs" / "hooks.md").read_text()
    section = page.partition("\n## The contract kit\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|$", section, flags=re.MULTILINE)
    assert rows == [(check.id, check.promise.replace("|", "\\|")) for check in CHECKS]
    anchors = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-")
        for line in page.splitlines()
        if line[:3] == "## "
    }
    assert {check.section for check in CHECKS} <= anchors
