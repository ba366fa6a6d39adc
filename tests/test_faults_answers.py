"""Plugins whose answers are wrong: the latency of a wrong answer is no latency."""

from __future__ import annotations

import pytest

from kdbench import bench, results
from tests.faulty import HEALTHY, checked, rogue

CHECKED = checked()

REFUSED = {
    "wrong-shape": ("return (runner(inputs)[0][:, :-1],)", "the student declares float32 [1, 2]"),
    "wrong-rank": ("return (runner(inputs)[0].ravel(),)", "'logits' is float32 [2]"),
    "wrong-dtype": ("return (runner(inputs)[0].astype('float64'),)", "'logits' is float64 [1, 2]"),
    "list": ("return list(runner(inputs))", "answered list, not a tuple"),
    "nothing": ("return None", "answered NoneType, not a tuple"),
    "two-outputs": ("return runner(inputs) * 2", "answered 2 outputs, not 1"),
    "no-array": ("return (runner(inputs)[0].tolist(),)", "is list, not a NumPy array"),
    "writes-to-its-input": (
        "inputs[0].setflags(write=True)\ninputs[0].fill(0)",
        "wrote to its input",
    ),
    "remembers-its-inputs": (
        """
        memory = call.__dict__
        if id(inputs) not in memory:
            memory[id(inputs)] = inputs, tuple(array.copy() for array in runner(inputs))
        return memory[id(inputs)][1]
        """,
        "a stale buffer, or an answer from a cache",
    ),
    "stale-when-timed": (
        f"return runner(calls[0] if len(calls) > {CHECKED} else inputs)",
        "a stale buffer, or an answer from a cache",
    ),
    "wrong-shape-when-timed": (
        f"return (runner(inputs)[0][:, :1],) if len(calls) > {CHECKED} else runner(inputs)",
        "'logits' is float32 [1, 1]",
    ),
}
"""By name: what a call of the runner does, and what the row says."""

INVALID = {
    "nan": ("return (runner(inputs)[0] * numpy.float32('nan'),)", "hold NaN or infinity"),
    "infinite": ("return (runner(inputs)[0] + numpy.float32('inf'),)", "hold NaN or infinity"),
    "constant": ("return (runner(inputs)[0] * 0,)", "the very same answer"),
    "first-input-for-all": ("return runner(calls[0])", "the very same answer"),
    "inaccurate": ("return (runner(inputs)[0] * numpy.float32(1.01),)", "beyond the tolerance"),
    "beyond-float": ("return (runner(inputs)[0] * numpy.float32(1e37),)", "beyond the tolerance"),
}


@pytest.fixture(scope="module")
def ran(run_beside):
    rogues = {name: rogue("run", body) for name, (body, _) in (REFUSED | INVALID).items()}
    return run_beside(rogues, blocks=1)


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_breaks_the_contract_fails_the_cell(ran, name):
    row = ran.rogue(name)
    assert (row.status, row.phase) == ("failed", "run")
    assert REFUSED[name][1] in row.reason


@pytest.mark.parametrize("name", INVALID)
def test_a_wrong_answer_is_invalid_and_says_why(ran, name):
    row = ran.rogue(name)
    assert (row.status, row.phase) == ("invalid", "check")
    assert INVALID[name][1] in row.reason


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_cell_keeps_its_latency_and_is_never_ranked(ran, name):
    row = ran.rogue(name)
    assert row.summary.median_ns > 0
    assert row.eligible is False
    (lead,) = ran.result.leads
    assert ran.result.cells[lead.leader].cell.backend == HEALTHY


def test_the_healthy_backend_is_measured_and_nothing_lives_on(ran):
    assert ran.row(HEALTHY).status == "measured"
    assert bench.exit_code(ran.result) == 1
    assert results.read(ran.output) == ran.result
    assert not ran.journal.exists()
    assert ran.left == ()
