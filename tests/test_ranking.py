from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from kdbench import ranking
from kdbench.summary import summarise
from tests import synthetic

RUNS = 400
FALSE_CLAIMS_ALLOWED = 33
"""Of 400 runs: 5 % plus three standard errors of a count with that rate."""


def field(truth_ns: list[float], **noise):
    """A summarised result of one group of latency cells with these true medians."""
    cells = [synthetic.record(synthetic.cell(f"b{index}")) for index in range(len(truth_ns))]
    slices = synthetic.slices(dict(enumerate(truth_ns)), **noise)
    return summarise(synthetic.result(cells, slices=slices))


@pytest.mark.parametrize("blocks", [3, 10])
def test_equal_cells_seldom_have_a_leader_declared(blocks):
    leads = [field([1e6] * 4, blocks=blocks, rounds=4, seed=seed).leads[0] for seed in range(RUNS)]
    assert sum(lead.verdict == "ahead" for lead in leads) <= FALSE_CLAIMS_ALLOWED


@pytest.mark.parametrize("blocks", [3, 10])
def test_two_equal_cells_seldom_have_a_leader_declared(blocks):
    leads = [field([1e6] * 2, blocks=blocks, rounds=4, seed=seed).leads[0] for seed in range(RUNS)]
    assert sum(lead.verdict == "ahead" for lead in leads) <= FALSE_CLAIMS_ALLOWED


def test_a_lead_of_ten_percent_is_found_in_ten_blocks():
    leads = [field([1.1e6, 1.0e6, 1.3e6, 2e6], blocks=10, rounds=8, seed=seed).leads[0] for seed in range(40)]
    assert all((lead.verdict, lead.leader, lead.runner_up) == ("ahead", 1, 0) for lead in leads)
    truth_held = sum(lead.low <= 1.1 <= lead.high for lead in leads)
    assert truth_held >= 36


def test_a_lead_of_ten_percent_of_one_cell_over_another_is_found_in_three_blocks():
    leads = [field([1.1e6, 1.0e6], blocks=3, rounds=8, seed=seed).leads[0] for seed in range(40)]
    assert sum(lead.verdict == "ahead" and lead.leader == 1 for lead in leads) >= 36


def test_alternation_cancels_a_machine_that_wanders():
    result = field([1.03e6, 1.0e6], blocks=10, rounds=8, block_sd=0.002, jump=0.3)
    gap = ranking.pair(ranking.latency_costs(result.slices, {0, 1}), 0, 1)
    assert gap.estimate == pytest.approx(math.log(1.03), abs=0.004)
    assert gap.half < 0.01


def test_a_tie_tells_the_smallest_lead_that_would_have_shown():
    lead = field([1.0e6, 1.0e6], blocks=4).leads[0]
    assert lead.verdict == "tie"
    assert lead.ratio >= 1 > lead.low
    assert lead.detectable == pytest.approx(math.sqrt(lead.high / lead.low) - 1)


def test_one_block_gives_a_ratio_but_never_a_claim():
    lead = field([1.5e6, 1.0e6], blocks=1).leads[0]
    assert (lead.leader, lead.verdict, lead.blocks) == (1, "tie", 1)
    assert lead.ratio == pytest.approx(1.5, rel=0.05)
    assert (lead.low, lead.high, lead.detectable) == (None, None, None)


def test_the_interval_of_a_larger_field_is_wider():
    four = field([1e6, 1.2e6, 3e6, 4e6])
    fewer = [replace(one, status="failed") if index > 1 else one for index, one in enumerate(four.cells)]
    two = summarise(replace(four, cells=tuple(fewer)))
    assert four.leads[0].ratio == two.leads[0].ratio
    assert four.leads[0].detectable > 1.2 * two.leads[0].detectable


def test_a_leader_is_not_declared_ahead_while_any_cell_may_be_as_fast():
    slices = (
        *synthetic.slices({0: 1.0e6, 1: 1.1e6}, blocks=5, block_sd=0.001),
        *(replace(one, cohort=1, cell=2, median_ns=one.median_ns * (1.0, 9.0)[one.block % 2])
          for one in synthetic.slices({0: 1.2e6}, blocks=5)),
        *(replace(one, cohort=1, position=1) for one in synthetic.slices({0: 1.0e6}, blocks=5)),
    )  # fmt: skip
    cells = [synthetic.record(synthetic.cell(name)) for name in ("fast", "next", "erratic")]
    lead = summarise(synthetic.result(cells, slices=slices)).leads[0]
    assert (lead.leader, lead.runner_up, lead.verdict) == (0, 2, "tie")


def test_cells_that_never_met_are_linked_by_an_anchor():
    result = field([1.0e6, 1.2e6, 1.5e6], cohorts=[(0, 1), (0, 2)], blocks=10)
    costs = ranking.latency_costs(result.slices, {0, 1, 2})
    assert costs.direct(2, 1) == {}
    gap = ranking.pair(costs, 2, 1)
    assert gap.blocks == 10
    assert gap.low < math.log(1.25) < gap.high
    assert gap.half < 0.05


def test_blocks_in_which_two_cells_met_are_not_linked_by_an_anchor():
    slices = synthetic.slices({0: 1.0e6, 1: 1.2e6, 2: 1.5e6}, cohorts=[(0, 1), (0, 2), (1, 2)])
    costs = ranking.latency_costs(slices, {0, 1, 2})
    assert costs.estimates(2, 1) == costs.direct(2, 1)


def test_cells_without_a_common_block_are_ranked_by_their_medians_and_tie():
    first = synthetic.slices({0: 1.0e6}, blocks=1)
    second = (replace(one, block=1) for one in synthetic.slices({1: 3.0e6}, blocks=1))
    cells = [synthetic.record(synthetic.cell(name)) for name in ("a", "b")]
    lead = summarise(synthetic.result(cells, slices=(*first, *second))).leads[0]
    assert (lead.leader, lead.verdict, lead.blocks, lead.low) == (0, "tie", 0, None)
    assert lead.ratio > 2


def test_only_shared_blocks_count():
    slices = [one for one in synthetic.slices({0: 1e6, 1: 2e6}, blocks=5) if one.cell == 0 or one.block < 3]
    assert ranking.pair(ranking.latency_costs(slices, {0, 1}), 1, 0).blocks == 3


def test_throughput_is_ranked_by_windows_of_the_same_round():
    cells = [
        synthetic.record(synthetic.cell(name, scenario="throughput")) for name in ("slow", "fast", "middle")
    ]
    windows = synthetic.windows({0: 1000.0, 1: 4000.0, 2: 3000.0}, blocks=5, rounds=2)
    lead = summarise(synthetic.result(cells, windows=windows)).leads[0]
    assert (lead.scenario, lead.leader, lead.runner_up, lead.verdict) == ("throughput", 1, 2, "ahead")
    assert lead.low < 4 / 3 < lead.high


def test_windows_spent_on_finding_the_depth_are_not_ranked():
    windows = (
        *synthetic.windows({0: 9000.0}, blocks=1, depth=64),
        *synthetic.windows({0: 1000.0}, blocks=3, depth=2),
    )
    assert {one.depth for one in ranking.at_settled_depth(windows)} == {2}


def test_groups_are_ranked_apart_and_a_single_cell_is_alone():
    cells = [
        synthetic.record(synthetic.cell("a")),
        synthetic.record(synthetic.cell("b")),
        synthetic.record(synthetic.cell("a", batch=32)),
        synthetic.record(synthetic.cell("b", batch=32), status="failed"),
    ]
    slices = synthetic.slices({0: 1e6, 1: 2e6, 2: 9e6, 3: 8e6})
    first, second = summarise(synthetic.result(cells, slices=slices)).leads
    assert (first.batch, first.leader, first.verdict) == (1, 0, "ahead")
    assert (second.batch, second.leader, second.verdict) == (32, 2, "alone")
    assert (second.ratio, second.runner_up) == (None, None)
