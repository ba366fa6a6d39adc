"""Plugins that never come back, in every phase; no limit is waited for but theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench import bench, results
from tests.faulty import HEALTHY, rogue

LIMIT_S = 3.0
SLEEP = "time.sleep(3600)"
SPIN = "while True: pass"

EARLY = {"imports": ("import", SLEEP), "probes": ("probe", SPIN)}
LATE = {
    "compiles": ("compile", SPIN),
    "loads": ("load", SLEEP),
    "runs": ("run", SPIN),
    "closes": ("close", SLEEP),
}


def rogues(faults):
    return {f"{name}-forever": rogue(place, body) for name, (place, body) in faults.items()}


@pytest.fixture(scope="module")
def surveyed(run_beside):
    return run_beside(rogues(EARLY), limits=dict.fromkeys(("describe", "probe"), LIMIT_S))


@pytest.fixture(scope="module")
def ran(run_beside):
    return run_beside(rogues(LATE), limits=dict.fromkeys(("compile", "load", "run"), LIMIT_S))


@pytest.mark.parametrize("name", EARLY)
def test_a_backend_that_hangs_before_the_plan_is_broken_and_says_in_which_phase(surveyed, name):
    phase, _ = EARLY[name]
    row = surveyed.rogue(f"{name}-forever")
    assert (row.status, row.phase) == ("failed", phase)
    assert f"No answer within {LIMIT_S:g} s" in row.reason


@pytest.mark.parametrize("name", LATE)
def test_a_hook_that_hangs_is_timed_out_in_its_phase(ran, name):
    phase, _ = LATE[name]
    row = ran.rogue(f"{name}-forever")
    assert (row.status, row.phase) == ("timed out", phase)
    assert row.reason == f"No answer within {LIMIT_S:g} s; the process was killed."


@pytest.mark.parametrize(
    ("name", "limit"), [("compiles", "compile"), ("loads", "load"), ("runs", "run"), ("closes", "run")]
)
def test_the_hint_names_a_limit_that_can_be_given(ran, name, limit):
    assert ran.rogue(f"{name}-forever").fix == f"--timeout {limit}={4 * LIMIT_S:g}s allows it more."


@pytest.mark.parametrize("name", [*EARLY, *LATE])
def test_the_log_shows_where_it_hung(request, name):
    run = request.getfixturevalue("surveyed" if name in EARLY else "ran")
    log = Path(run.rogue(f"{name}-forever").log).read_text()
    assert f"kdbench_rogue_{name}_forever.py" in log
    assert "Current thread" in log


@pytest.mark.parametrize("which", ["surveyed", "ran"])
def test_the_healthy_backend_is_measured_and_nothing_lives_on(request, which):
    run = request.getfixturevalue(which)
    assert run.row(HEALTHY).status == "measured"
    assert bench.exit_code(run.result) == 1
    assert results.read(run.output) == run.result
    assert not run.journal.exists()
    assert run.left == ()
