from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdbench import meter as meters
from kdbench.meter import Meter

STAGES = SimpleNamespace(stages=(("compile", 10.0), ("latency blocks", 80.0), ("tail", 10.0)))


@pytest.fixture
def told(monkeypatch, clock):
    """Give the list of what a meter tells, and a meter whose clock goes by `clock.now_ns` alone."""
    monkeypatch.setattr(meters, "time", SimpleNamespace(monotonic=lambda: clock.now_ns / 1e9))
    reports = []
    return reports, Meter(STAGES, reports.append)


def test_finished_stages_count_by_their_planned_seconds(told):
    reports, meter = told
    meter.enter("compile", "numpy")
    meter.enter("latency blocks", "block 1 of 2")
    meter.enter("latency blocks", "block 2 of 2", 0.5)
    meter.enter("tail", "")
    assert [one.done for one in reports] == [0.0, 0.1, 0.5, 0.9]
    assert [one.stage for one in reports] == ["compile", "latency blocks", "latency blocks", "tail"]
    assert reports[1].detail == "block 1 of 2"


def test_details_within_a_stage_do_not_move_it_on(told):
    reports, meter = told
    meter.enter("latency blocks", "starting", 0.25)
    meter.tell("numpy")
    assert (reports[1].stage, reports[1].detail, reports[1].done) == ("latency blocks", "numpy", 0.3)


def test_the_time_left_is_the_plan_at_first_and_then_the_pace_so_far(told, clock):
    reports, meter = told
    meter.enter("compile", "")
    clock.now_ns = 15_000_000_000
    meter.enter("latency blocks", "")
    clock.now_ns = 60_000_000_000
    meter.enter("latency blocks", "", 0.25)
    assert [one.left_s for one in reports] == pytest.approx([100.0, 90.0, 140.0])


def test_the_end_is_told(told):
    reports, meter = told
    meter.finish()
    assert (reports[-1].stage, reports[-1].done, reports[-1].left_s) == ("done", 1.0, 0.0)


def test_nobody_has_to_listen():
    meter = Meter(STAGES, None)
    meter.enter("compile", "")
    meter.tell("numpy")
    meter.finish()


def test_a_plan_in_which_nothing_takes_time_divides_by_nothing():
    reports = []
    Meter(SimpleNamespace(stages=()), reports.append).enter("compile", "")
    assert 0.0 <= reports[0].done <= 1.0
