"""Hostile and broken third parties: real wheels, a real environment, the real command line.

What a plugin does wrong in one hook is in test_faults_*.py; here is what installation and process suffer.
`docs/trust.md` names these tests.
"""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path

import pytest

from kdbench import mishap
from kdbench.errors import StudentError
from kdbench.protocol import Windowed
from kdbench.student import load_evaluation, open_student
from tests.faulty import HEAD, HEALTHY, MARK, STUDENT, checked, living, rogue
from tests.hostile import Environment, Told, install, wheel

CHECKED = checked()
LIMIT_S = 5
HALF_CLOCK = """
real = time.perf_counter_ns
zero = real()
def half():
    return zero + (real() - zero) // 2
"""
SOCKET = """
import socket
(pipe,) = [
    int(name) for name in os.listdir("/proc/self/fd")
    if int(name) > 2 and "/socket:" in os.path.realpath(f"/proc/self/fd/{name}")
]
"""
WEIRD = "\\x1b[31m[bold]red[/bold]\\x1b[0m <script>alert(1)</script>\\x07\\nforged | row"

DESCRIBES = """
@hookimpl
def kdbench_describe():
    return BackendInfo(api={}, title={}, devices=("cpu",), precisions=("fp32",))
"""

REFUSED = {
    "api-too-new": (
        HEAD + DESCRIBES.format(99, "'X'"),
        "describe",
        "API 99 of the hooks, and this kdbench has API 1. Install a newer kdbench.",
    ),
    "api-too-old": (
        HEAD + DESCRIBES.format(0, "'X'"),
        "describe",
        "API 0 of the hooks, and this kdbench has API 1. Install a newer version of the plugin.",
    ),
    "hook-misspelt": (
        HEAD + "kdbench_laod = hookimpl(lambda artifact: None)",
        "import",
        "has a hook 'kdbench_laod', which does not exist. Did you mean 'kdbench_load'?",
    ),
    "argument-unknown": (
        HEAD + "@hookimpl\ndef kdbench_load(artifact, gpu_name): pass",
        "import",
        "takes 'gpu_name' in kdbench_load, which is no argument of it. It has artifact, target.",
    ),
    "import-exits": ("raise SystemExit('licence expired')", "import", "SystemExit: licence expired"),
    "clock-at-import": (
        HEAD + HALF_CLOCK + "time.perf_counter_ns = half",
        "import",
        "changed time.perf_counter_ns in its worker into kdbench_clock_at_import.half",
    ),
    "title-of-megabytes": (
        HEAD + DESCRIBES.format(1, "'[bold]' * 1_000_000"),
        "describe",
        "its answer is 5859 KiB of text, and at most 256 are taken",
    ),
}
"""By name: the source, the phase, and what is told of a backend that is refused before any plan."""

FAILING = {
    "clock-in-load": (
        rogue("load", HALF_CLOCK + "time.perf_counter_ns = half"),
        "load",
        "It changed time.perf_counter_ns in its worker into",
    ),
    "clock-of-the-harness": (
        rogue("bind", HALF_CLOCK + "from kdbench import measure\nmeasure.time_calls.__defaults__ = (half,)"),
        "run",
        "It changed kdbench.measure.time_calls in its worker",
    ),
    "clock-and-seal": (
        rogue(
            "bind",
            HALF_CLOCK
            + """
import gc
from kdbench import measure, seal
for one in gc.get_objects():
    if isinstance(one, seal.Seal):
        one._marks = ()
time.perf_counter_ns = half
for one in (measure.time_calls, measure.time_slice, measure.settle):
    one.__defaults__ = (half, *one.__defaults__[1:])
""",
        ),
        "run",
        "Its worker's clock is not this machine's: what it timed begins",
    ),
    "remembers-by-content": (
        rogue(
            "run",
            """
            memory, key = call.__dict__, inputs[0].tobytes()
            if key not in memory:
                memory[key] = tuple(array.copy() for array in runner(inputs))
            return memory[key]
            """,
        ),
        "run",
        "it answers from a cache",
    ),
    "answers-for-the-harness": (
        rogue(
            "bind",
            SOCKET
            + """
from kdbench import protocol
with socket.socket(fileno=os.dup(pipe)) as forged:
    protocol.send(forged, protocol.Prepared(call_ns=1))
""",
        ),
        None,
        "The worker's answer is not one",
    ),
    "raises-the-untellable": (
        rogue(
            "run",
            "class Odd(Unsupported):\n    def __init__(self):\n        self.message = b'?' * 10_000_000\n"
            "        self.hint = self.phase = None\nraise Odd",
        ),
        "run",
        "b'???",
    ),
}
"""By name: the source, the phase (None: one of several), and what the row of the cell says."""

NOISY = """
print("o" * 3_000_000)
print("e" * 3_000_000, file=sys.stderr)
for number in (signal.SIGTERM, signal.SIGABRT, signal.SIGINT, signal.SIGCONT, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
sys.excepthook = lambda *_: os._exit(3)
subprocess.Popen(["sleep", "600"], start_new_session=True)
sys.exit = os._exit = lambda *_: None
sys.stdout.close()
os.chdir("/")
"""

LABELS = """
known = getattr(call, "known", None)
if known is None:
    from kdbench.student import load_evaluation, open_student
    split = load_evaluation(open_student("digits-2x5"))
    known = call.known = {image.tobytes(): logits for image, logits in zip(split.inputs[0], split.logits)}
return (numpy.stack([known.get(image.tobytes(), numpy.ones(2, "float32")) for image in inputs[0]]),)
"""

MEASURED = {
    "makes-noise": rogue("load", NOISY),
    "knows-the-answers": rogue("run", LABELS),
    "dawdles-before-the-loop": rogue("run", f"time.sleep(0.001 if len(calls) <= {CHECKED} else 0)"),
}
"""What does no harm, and what nobody can know: the row says nothing."""

MARKUP = "fast[red]<b>&amp"
UNFIT = "../escape"
ODD = {
    UNFIT: ("unfit", HEAD),
    MARKUP: (
        "markup",
        HEAD + f'@hookimpl\ndef kdbench_probe():\n    return Unavailable("{WEIRD}", "{WEIRD}")\n',
    ),
}
"""By backend: the distribution and its source. The names alone are odd, or what is said."""

SLOW = {
    "import-takes-30s": (
        HEAD + "time.sleep(30)",
        "import",
        "failed",
    ),
    "never-closes": (rogue("close", "time.sleep(3600)"), "close", "timed out"),
}
WRITER = "writes-into-the-bundle"
WRITES = rogue("compile", "with student.files['onnx'].open('ab') as file:\n    file.write(b'x')")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make the environment with all wheels; `KDBENCH_PLUGINS` picks those that a run shall meet."""
    folder = tmp_path_factory.mktemp("hostile")
    sources = {name: one[0] for name, one in (REFUSED | FAILING | SLOW).items()} | MEASURED | {WRITER: WRITES}
    wheels = [wheel(folder, name, source, distribution=f"kdbench-{name}") for name, source in sources.items()]
    wheels += [
        wheel(folder, name, source, distribution=f"kdbench-{own}") for name, (own, source) in ODD.items()
    ]
    wheels += [wheel(folder, "claimed", HEAD, distribution=f"kdbench-{own}") for own in ("one", "two")]
    return install(folder, wheels)


@pytest.fixture(scope="module")
def left() -> list[str]:
    return []


@pytest.fixture(scope="module")
def ran(environment: Environment, left: list[str]) -> Told:
    plugins = (HEALTHY, "claimed", *REFUSED, *FAILING, *MEASURED, *ODD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, mark := uuid.uuid4().hex)
        told = environment.run(plugins)
    left += living(mark)
    return told


@pytest.fixture(scope="module")
def waited(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Run those that take too long, and one that alters the bundle, which is a copy."""
    student = shutil.copytree(open_student(STUDENT).root, tmp_path_factory.mktemp("bundle") / "digits")
    limits = [word for phase in ("describe", "run") for word in ("--timeout", f"{phase}={LIMIT_S}s")]
    return environment.run((*SLOW, HEALTHY, WRITER), str(student), *limits)


def test_a_name_that_two_distributions_claim_names_both_and_what_to_do(ran: Told):
    row = ran.row("claimed")
    assert (row["status"], row["phase"]) == ("failed", "discover")
    assert "kdbench-one 1.0 and kdbench-two 1.0 both claim the name 'claimed'" in row["reason"]
    assert "uninstall all of them but one" in row["reason"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_plugin_that_does_not_fit_is_refused_and_told_what_is_wrong(ran: Told, name: str):
    _, phase, reason = REFUSED[name]
    row = ran.row(name)
    assert (row["status"], row["phase"]) == ("failed", phase)
    assert reason in row["reason"]
    assert len(row["reason"]) < 1000


@pytest.mark.parametrize("name", FAILING)
def test_what_falsifies_or_breaks_is_a_row_with_its_phase(ran: Told, name: str):
    _, phase, reason = FAILING[name]
    row = ran.row(name)
    assert row["status"] in ("failed", "unsupported")
    assert phase in (row["phase"], None)
    assert reason in row["reason"]
    assert len(row["reason"]) < 1000


@pytest.mark.parametrize("name", [HEALTHY, *MEASURED])
def test_who_does_no_harm_or_cannot_be_seen_through_is_measured(ran: Told, name: str):
    assert ran.row(name)["status"] == "measured"


def test_a_name_that_no_file_can_have_is_refused(ran: Told):
    row = ran.row(UNFIT)
    assert (row["status"], row["phase"]) == ("failed", "discover")
    assert "names its backend '../escape'" in row["reason"]


def test_markup_in_names_and_reasons_is_text_wherever_it_is_shown(environment: Environment, ran: Told):
    row = ran.row(MARKUP)
    assert row["status"] == "unavailable"
    assert row["reason"] == "[bold]red[/bold] <script>alert(1)</script> forged | row"
    listed = environment.show((MARKUP, HEALTHY), "backends")
    for shown in (ran.output, listed):
        assert MARKUP in shown
        assert not {letter for letter in shown if letter < " " and letter != "\n"}
    assert "[bold]red[/bold] <script>" in " ".join(listed.split())


def test_nothing_of_a_hostile_plugin_lives_on(ran: Told, left: list[str]):
    assert ran.code == 1
    assert left == []


@pytest.mark.parametrize("name", SLOW)
def test_what_takes_too_long_is_ended_at_the_limit_that_was_given(waited: Told, name: str):
    _, phase, status = SLOW[name]
    row = waited.row(name)
    assert (row["status"], row["phase"]) == (status, phase)
    assert f"No answer within {LIMIT_S} s" in row["reason"]
    limit = "describe" if phase == "import" else "run"
    assert f"--timeout {limit}={4 * LIMIT_S}s allows it more." in row["reason"] + row.get("fix", "")


def test_who_alters_the_bundle_is_named_with_the_file(waited: Told):
    row = waited.row(WRITER)
    assert (row["status"], row["phase"]) == ("failed", "compile")
    assert row["reason"] == "The bundle's file student.onnx was changed while it was at work."
    assert "Get the bundle anew" in row["fix"]


def test_the_others_are_measured_beside_it(waited: Told):
    assert waited.row(HEALTHY)["status"] == "measured"
    assert waited.code == 1


@pytest.mark.parametrize("role", ["evaluation", "reference"])
def test_nobody_is_judged_by_a_file_that_was_altered_since_the_bundle_was_opened(role: str, tmp_path: Path):
    opened = open_student(shutil.copytree(open_student(STUDENT).root, tmp_path / "digits"))
    path = opened.files[role]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StudentError, match="was altered: its sha256 is not the card's"):
        load_evaluation(opened)


@pytest.mark.parametrize(
    ("sent_ns", "received_ns", "told"),
    [(0, 100, ""), (11, 100, "begins 1e-06 ms before"), (0, 40 - mishap.ROUNDING_NS, "ends 0.001 ms after")],
)
def test_what_was_timed_lies_within_the_time_in_which_it_was_asked_for(
    sent_ns: int, received_ns: int, told: str
):
    reply = Windowed(started_ns=10, duration_ns=31, images=1, cpu_ns=0)
    found = mishap.displaced(reply, sent_ns, received_ns)
    assert told in found if told else not found


def test_the_page_on_trust_has_every_case_and_names_only_tests_that_exist():
    home = Path(__file__).parent
    page = (home.parent / "docs" / "trust.md").read_text()
    tried = [*REFUSED, *FAILING, *MEASURED, *SLOW, WRITER]
    assert [name for name in tried if f"`{name}`" not in page] == []
    for file, names in re.findall(r"`tests/(test_\w+\.py)`: ((?:`[\w-]+`(?:, )?)+)", page):
        source = (home / file).read_text()
        assert [name for name in re.findall(r"`([\w-]+)`", names) if name not in source] == [], file
