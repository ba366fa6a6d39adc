"""A session that runs elsewhere than it was asked to: a failure, or where that is allowed a marked row."""

from __future__ import annotations

import pytest

from tests.faulty import HEALTHY, rogue

ELSEWHERE = """
session = healthy.kdbench_load(artifact)
class Opened:
    placement = Placement(device="npu", precision="fp32")
    runner, close = session.runner, session.close
return Opened()
"""
"""The body of a load that answers a session on a device that nobody asked for."""


@pytest.fixture(scope="module")
def failed(run_beside):
    return run_beside({"elsewhere": rogue("load", ELSEWHERE)}, blocks=1)


@pytest.fixture(scope="module")
def allowed(run_beside):
    return run_beside({"elsewhere": rogue("load", ELSEWHERE)}, blocks=1, allow_fallback=True)


def test_a_fall_back_fails_and_says_how_to_measure_it_all_the_same(failed):
    row = failed.rogue("elsewhere")
    assert (row.status, row.phase) == ("failed", "load")
    assert "Asked for fp32 on cpu, it runs fp32 on npu." in row.reason
    assert "--allow-fallback" in row.reason + row.fix


def test_an_allowed_fall_back_is_measured_marked_and_never_ranked(allowed):
    row = allowed.rogue("elsewhere")
    assert (row.status, row.placement.fallback, row.eligible) == ("measured", True, False)
    [check] = [check for check in row.checks if check.id == "fallback"]
    assert check.message == "it runs fp32 on npu instead of fp32 on cpu"
    assert {allowed.result.cells[lead.leader].cell.backend for lead in allowed.result.leads} == {HEALTHY}
