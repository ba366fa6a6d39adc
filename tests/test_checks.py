from __future__ import annotations

import pytest
from msgspec.structs import replace

from kdbench.checks import RULES, index, judge
from kdbench.records import PlacementRecord, Stretch
from kdbench.summary import summarise
from tests import synthetic

ALL_SLICES = range(1000)


def judged(change=None, *, where=ALL_SLICES, environment=None, stretches=(), **facts):
    """Checks, by id, of a quiet cell in which the slices `where` are changed."""
    quiet = [
        synthetic.a_slice(0, 1e6, block=number // 8, round=number % 8, started_ns=number * 10**8)
        for number in range(24)
    ]
    slices = [replace(one, **(change or {})) if n in where else one for n, one in enumerate(quiet)]
    result = synthetic.result(
        [synthetic.record(synthetic.cell("a"), **facts)],
        slices=tuple(slices),
        stretches=tuple(stretches),
        environment={**synthetic.ENVIRONMENT, **(environment or {})},
    )
    return {check.id: check for check in summarise(result).cells[0].checks}


def stretch(*medians, seconds=30):
    return Stretch(
        cell=0, started_ns=0, duration_ns=seconds * 10**9, calls=100, step_s=1.0, medians_ns=medians
    )


def test_a_quiet_cell_has_nothing_to_doubt_and_shows_what_was_looked_at():
    found = judged()
    assert {check.outcome for check in found.values()} == {"ok"}
    assert not any(check.message for check in found.values())
    assert found["spread"].value == pytest.approx(1.01 / 0.99)
    assert {"spread", "slices", "blocks", "drift", "run-delay", "steal", "leak", "timer"} <= found.keys()


@pytest.mark.parametrize(
    ("name", "change", "where"),
    [
        ("spread", {"p75_ns": 1.4e6}, ALL_SLICES),
        ("slices", {"median_ns": 1.3e6}, range(0, 1000, 2)),
        ("blocks", {"median_ns": 1.2e6}, range(8)),
        ("drift", {"median_ns": 1.1e6}, range(16, 24)),
        ("run-delay", {"run_delay_ns": 2_000_000}, ALL_SLICES),
        ("steal", {"steal_ns": 2_000_000}, ALL_SLICES),
        ("switches", {"switches": 20}, ALL_SLICES),
        ("first-call", {"first_ns": 1_500_000}, ALL_SLICES),
        ("other", {"other_ns": 8_000_000}, ALL_SLICES),
        ("throttled", {"throttled_ns": 3_000_000}, ALL_SLICES),
        ("temperature", {"temperature_c": 95.0}, range(3, 5)),
        ("leak", {"leaked_ns": 3_000_000}, ALL_SLICES),
        ("timer", {"median_ns": 2_000.0, "p10_ns": 1_950.0}, ALL_SLICES),
    ],
)
def test_each_disturbance_is_told_with_its_value_and_limit(name, change, where):
    check = judged(change, where=where)[name]
    assert check.outcome == "doubtful"
    assert check.value > check.limit
    assert check.message


def test_what_is_far_beyond_the_limit_is_bad():
    assert judged({"run_delay_ns": 20_000_000})["run-delay"].outcome == "bad"
    assert judged({"p75_ns": 2.5e6})["spread"].outcome == "bad"


def test_calls_that_lose_the_cpu_several_times_each_are_told_in_words_that_hold():
    message = judged({"switches": 990})["switches"].message
    assert message == "it lost the CPU to something else 990 times in 100 calls"


def test_a_first_call_is_not_judged_by_a_slice_or_two():
    assert "first-call" not in judged({"first_ns": 9_000_000}, where=range(2))
    assert judged({"first_ns": 1_000_000})["first-call"].outcome == "ok"


def test_a_low_clock_is_told_where_the_highest_is_known_and_an_unsteady_one_anyway():
    known = {"cpu": {"max_mhz": 4000.0}}
    low = judged({"clock_mhz": 2600.0}, environment=known)
    assert low["clock"].message == "its CPUs ran 35 % below their highest clock"
    assert low["clock-steady"].outcome == "ok"
    assert judged({"clock_mhz": 3900.0}, environment=known)["clock"].outcome == "ok"
    assert "clock" not in judged({"clock_mhz": 2600.0})
    assert judged({"clock_mhz": 2600.0})["clock-steady"].value == 0
    assert "clock-steady" not in judged()


def test_a_clock_that_changes_during_the_run_is_told_and_one_odd_reading_is_not():
    steady = [replace(synthetic.a_slice(0, 1e6, round=n), clock_mhz=3000.0) for n in range(24)]
    odd = [replace(steady[0], clock_mhz=1000.0), *steady[1:]]
    slowed = [*steady[:12], *(replace(one, clock_mhz=2500.0) for one in steady[12:])]
    for slices, outcome in ((odd, "ok"), (slowed, "doubtful")):
        cells = [synthetic.record(synthetic.cell("a"))]
        found = summarise(synthetic.result(cells, slices=tuple(slices))).cells[0].checks
        assert next(one.outcome for one in found if one.id == "clock-steady") == outcome


@pytest.mark.parametrize(
    ("where", "outcome", "told"),
    [
        (range(0), "ok", ""),
        (range(8), "doubtful", "33 % of its blocks were under heavy contention: compare counts them as half"),
        (range(16), "bad", "under heavy contention: compare counts its blocks as half"),
    ],
)
def test_contention_is_told_and_bad_from_half_of_the_blocks_on(where, outcome, told):
    check = judged({"steal_ns": 20_000_000}, where=where)["contention"]
    assert (check.outcome, check.message) == (outcome, told)


def test_all_cells_of_a_large_result_are_judged_as_each_of_them_alone():
    cells = [
        synthetic.record(synthetic.cell(f"b{number % 3}", batch=1 + number // 3)) for number in range(30)
    ]
    cohorts = [tuple(range(first, first + 3)) for first in range(0, 30, 3)]
    slices = synthetic.slices({number: 1e6 + 1e4 * number for number in range(30)}, cohorts=cohorts)
    result = summarise(synthetic.result(cells, slices=slices))
    known = index(result)
    assert [judge(cell, result, known) for cell in range(30)] == [judge(cell, result) for cell in range(30)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_limits_are_in_order_and_the_message_can_be_filled_in(rule):
    assert 0 < rule.doubtful < rule.bad
    assert "{" not in rule.message.format(value=1.5, percent=150)


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("load", {"load_average": [1.9, 0.2, 0.1]}),
        ("quota", {"cpu": {"logical": 8, "quota": 1.5, "usable": [0, 1], "governor": None}}),
        ("governor", {"cpu": {"governor": "powersave"}}),
        ("battery", {"power": {"on_battery": True}}),
    ],
)
def test_an_unsuitable_host_is_told(name, environment):
    assert judged(environment=environment)[name].outcome == "doubtful"


def test_facts_that_the_host_does_not_tell_are_no_checks():
    found = judged(environment={"cpu": {}, "clock": {}, "power": {}, "load_average": None})
    assert found.keys().isdisjoint({"load", "quota", "governor", "battery", "timer"})


@pytest.mark.parametrize("nonsense", [[], {}, "many", [["x"]], True, {"usable": 3, "quota": "x"}])
def test_a_host_described_by_nonsense_is_judged_by_the_rest(nonsense):
    found = judged(
        environment={"cpu": nonsense, "load_average": nonsense, "clock": nonsense, "power": nonsense}
    )
    assert found["spread"].outcome == "ok"


def test_a_fallback_and_an_unsettled_warm_up_are_told():
    placement = PlacementRecord(requested="gpu.0", device="cpu", precision="fp32", fallback=True)
    found = judged(placement=placement, warm_up_settled=False)
    assert found["fallback"].message == "it runs fp32 on cpu instead of fp32 on gpu.0"
    assert found["warm-up"].outcome == "doubtful"


def test_a_precision_that_is_not_the_stored_one_is_told_and_any_other_is_no_check():
    for computed, told in (("fp32", []), ("bf16", ["it computes in bf16 what is stored in fp32"])):
        placement = PlacementRecord(requested="cpu", device="cpu", precision=computed)
        found = judged(placement=placement)
        assert [check.message for name, check in found.items() if name == "precision"] == told


def test_a_call_under_a_hundred_microseconds_is_dispatch_bound_but_not_doubtful():
    check = judged({"median_ns": 90_000.0, "p10_ns": 89_000.0})["dispatch"]
    assert check.outcome == "ok"
    assert "ranks runtimes, not hardware" in check.message


def test_a_cell_that_heats_up_in_a_stretch_is_told_and_a_short_stretch_too():
    hot = judged(stretches=[stretch(1e6, 1e6, None, 1.1e6, 1.2e6, 1.2e6)])
    assert hot["throttling"].outcome == "doubtful"
    assert hot["tail"].outcome == "ok"
    cool = judged(stretches=[stretch(1e6, 1e6, 1e6, seconds=2)])
    assert cool["throttling"].outcome == "ok"
    assert cool["tail"].outcome == "doubtful"


def test_throughput_is_judged_by_its_windows():
    cells = [synthetic.record(synthetic.cell("a", scenario="throughput"))]
    steady = synthetic.windows({0: 5000.0}, blocks=3)
    doubled = tuple(replace(one, images=one.images * (1 + one.block)) for one in steady)
    result = summarise(synthetic.result(cells, windows=doubled))
    assert {check.id: check.outcome for check in judge(0, result)}["blocks"] == "bad"


def test_a_lead_that_p10_does_not_see_is_told():
    base = synthetic.slices({0: 1.0e6, 1: 1.3e6}, blocks=6, block_sd=0.002)
    slices = tuple(replace(one, p10_ns=0.9e6) for one in base)
    cells = [synthetic.record(synthetic.cell(name)) for name in ("a", "b")]
    leader = summarise(synthetic.result(cells, slices=slices)).cells[0]
    check = next(check for check in leader.checks if check.id == "p10")
    assert check.outcome == "doubtful"
    assert "by medians but 1.00 by p10" in check.message


def test_a_lead_that_p10_sees_too_is_not_doubted():
    slices = synthetic.slices({0: 1.0e6, 1: 1.3e6}, blocks=6)
    cells = [synthetic.record(synthetic.cell(name)) for name in ("a", "b")]
    leader = summarise(synthetic.result(cells, slices=slices)).cells[0]
    assert next(check for check in leader.checks if check.id == "p10").outcome == "ok"


def test_a_cell_without_measurements_has_no_checks():
    result = summarise(synthetic.result([synthetic.record(synthetic.cell("a"))]))
    assert judge(0, result) == ()
