"""Plugins that die, raise or lack something, in every phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench import bench, results
from kdbench.errors import BackendUnavailable
from kdbench.student import open_student
from tests.faulty import HEALTHY, STUDENT, environment, install, living, rogue, tiny

PHASES = {"import": "import", "probe": "probe", "compile": "compile", "load": "load", "run": "run"}
HOOKS = {**PHASES, "describe": "describe", "bind": "run", "close": "close"}

SEGFAULT = "ctypes.string_at(0)"
RAISE = "raise ValueError('a fault on purpose')"

ENDINGS = {
    "exits-with-0": (rogue("run", "os._exit(0)"), "run", "ended by itself with exit code 0"),
    "exits-with-3": (rogue("load", "os._exit(3)"), "load", "ended by itself with exit code 3"),
    "is-killed": (rogue("run", "os.kill(os.getpid(), signal.SIGKILL)"), "run", "SIGKILL"),
    "is-killed-by-an-odd-signal": (rogue("load", "os.kill(os.getpid(), 40)"), "load", "killed by signal 40"),
    "aborts": (rogue("compile", "os.abort()"), "compile", "SIGABRT"),
    "calls-exit": (rogue("run", "sys.exit('enough')"), "run", "SystemExit: enough"),
    "raises-keyboard-interrupt": (rogue("load", "raise KeyboardInterrupt"), "load", "KeyboardInterrupt"),
    "misspells": (
        rogue("import", "@hookimpl\ndef kdbench_complie():\n    pass"),
        "import",
        "kdbench_complie",
    ),
    "answers-nothing": (rogue("load", "return None"), "load", "answered nothing"),
    "closes-its-pipe": (rogue("load", "os.closerange(3, 256)"), "load", "It closed, or put"),
    "writes-into-its-pipe": (
        rogue(
            "load",
            """
            for fd in range(3, 256):
                try:
                    if stat.S_ISSOCK(os.fstat(fd).st_mode):
                        os.write(fd, bytes([255]) * 1000)
                except OSError:
                    pass
            """,
        ),
        "load",
        "answer is not one",
    ),
    "changes-its-placement": (
        rogue(
            "load",
            """
            answers = [healthy.kdbench_load(artifact).placement, object()]
            class Opened:
                placement = property(lambda self: answers.pop(0))
                close = print
            return Opened()
            """,
        ),
        "load",
        "does not travel",
    ),
    "leaves-its-pipe-to-a-child": (
        rogue("load", "if os.fork() == 0:\n    time.sleep(600)\nos._exit(4)"),
        "load",
        "exit code 4",
    ),
    "says-too-much": (
        rogue("run", r"raise RuntimeError('\x1b[31m' + 5_000_000 * 'much ' + '\udcff')"),
        "run",
        "RuntimeError: much much",
    ),
}


@pytest.fixture(scope="module")
def ran(run_beside):
    rogues = {f"crashes-in-{phase}": rogue(phase, SEGFAULT) for phase in PHASES}
    rogues |= {f"raises-in-{place}": rogue(place, RAISE) for place in HOOKS}
    rogues |= {name: source for name, (source, _, _) in ENDINGS.items()}
    rogues["cannot"] = rogue(
        "compile",
        """
        class TooSmall(Unsupported):
            pass
        raise TooSmall('Not this student.', hint='Another one.')
        """,
    )
    return run_beside(rogues, blocks=1)


@pytest.mark.parametrize("phase", PHASES)
def test_a_segmentation_fault_is_a_row_with_its_phase_and_log(ran, phase):
    row = ran.rogue(f"crashes-in-{phase}")
    assert (row.status, row.phase) == ("failed", phase)
    assert row.reason.startswith("The process was killed by SIGSEGV")
    assert "Segmentation fault" in Path(row.log).read_text()


@pytest.mark.parametrize(("place", "phase"), HOOKS.items())
def test_an_exception_is_a_row_with_its_phase_and_traceback(ran, place, phase):
    row = ran.rogue(f"raises-in-{place}")
    assert (row.status, row.phase) == ("failed", phase)
    assert "ValueError: a fault on purpose" in row.reason
    assert "Traceback" in Path(row.log).read_text()


@pytest.mark.parametrize("name", ENDINGS)
def test_however_a_worker_ends_its_row_says_in_which_phase_and_how(ran, name):
    _, phase, reason = ENDINGS[name]
    row = ran.rogue(name)
    assert (row.status, row.phase) == ("failed", phase)
    assert reason in row.reason
    assert f"kdbench: failed in {phase}: " in Path(row.log).read_text()


def test_a_reason_is_one_line_that_fits_a_table(ran):
    reason = ran.rogue("says-too-much").reason
    assert reason.isprintable()
    assert len(reason) <= 400


def test_what_a_plugin_cannot_do_is_no_fault(ran):
    row = ran.rogue("cannot")
    assert (row.status, row.phase, row.reason, row.fix) == (
        "unsupported",
        "compile",
        "Not this student.",
        "Another one.",
    )


def test_the_healthy_backend_is_measured_and_the_result_is_whole(ran):
    assert ran.row(HEALTHY).status == "measured"
    assert ran.slices(HEALTHY)
    assert bench.exit_code(ran.result) == 1
    assert results.read(ran.output) == ran.result
    assert not ran.journal.exists()


def test_nothing_that_was_started_lives_on(ran):
    assert ran.left == ()


def test_a_broken_backend_that_was_named_is_refused_and_its_log_is_there(
    tmp_path, kept_artifacts, monkeypatch
):
    install(tmp_path / "plugins", "broken", rogue("import", SEGFAULT))
    mark = environment(monkeypatch, tmp_path / "plugins", kept_artifacts)
    request = bench.Request(
        student=open_student(STUDENT), profile=tiny(), output=tmp_path / "result.json", backends=("broken",)
    )
    with pytest.raises(BackendUnavailable, match=r"is broken \(import\).*SIGSEGV") as refused:
        bench.run(request)
    log = refused.value.hint.removeprefix("Its log is ").removesuffix(".")
    assert "Segmentation fault" in Path(log).read_text()
    assert not request.output.exists()
    assert living(mark) == ()
