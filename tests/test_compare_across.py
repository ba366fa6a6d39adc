"""Which cell of one result wins, whether that is real, and where one overtakes another."""

from __future__ import annotations

import pytest

from kdbench.compare import Options, across, compare_named, gates
from kdbench.errors import UsageError
from kdbench.summary import summarise
from tests import synthetic


def ladder(truth_ns: dict[tuple[str, int], float], **noise):
    """Give a result of these medians, by backend and batch size."""
    cells = [synthetic.record(synthetic.cell(name, batch=batch, threads=1)) for name, batch in truth_ns]
    slices = synthetic.slices(dict(enumerate(truth_ns.values())), blocks=8, **noise)
    return synthetic.result(cells, slices=slices)


def test_the_fastest_is_the_base_of_every_row():
    told = across(ladder({("slow", 1): 2e5, ("fast", 1): 1e5, ("middle", 1): 1.2e5}), "backend")
    assert told.across == "backend"
    assert [(row.base.backend, row.new.backend) for row in told.rows] == [
        ("fast", "middle"),
        ("fast", "slow"),
    ]
    assert {row.changes[0].verdict for row in told.rows} == {"worse"}
    assert told.rows[1].changes[0].effect == pytest.approx(2.0, rel=0.03)


def test_a_lead_that_is_chance_is_told_as_such():
    told = across(ladder({("one", 1): 1e5, ("two", 1): 1e5}), "backend", Options(margin=0.0))
    assert told.rows[0].changes[0].verdict == "inconclusive"


def test_the_winner_by_throughput_completes_more():
    cells = [synthetic.record(synthetic.cell(name, scenario="throughput")) for name in ("slow", "fast")]
    result = synthetic.result(cells, windows=synthetic.windows({0: 1_000.0, 1: 2_000.0}))
    (row,) = across(result, "backend").rows
    assert row.base.backend == "fast"
    assert row.changes[0].effect == pytest.approx(0.5, rel=0.1)
    assert row.changes[0].verdict == "worse"


def test_chance_wins_among_equals_in_at_most_one_of_twenty():
    found = [
        across(
            ladder(dict.fromkeys((("a", 1), ("b", 1), ("c", 1), ("d", 1)), 1e5), seed=seed),
            "backend",
            Options(margin=0.0),
        )
        for seed in range(80)
    ]
    assert sum(any(row.changes[0].verdict == "worse" for row in one.rows) for one in found) <= 9


def test_overtaking_is_found_between_the_batch_sizes():
    result = ladder(
        {("a", 1): 1e5, ("b", 1): 2e5, ("a", 4): 4e5, ("b", 4): 2e5, ("a", 16): 9e5, ("b", 16): 3e5}
    )
    (found,) = across(result, "backend").overtakings
    assert (found.first.backend, found.second.backend) == ("a", "b")
    assert (found.below, found.above) == (1, 4)
    assert found.about == pytest.approx(2.0, rel=0.1)
    assert found.real


def test_overtaking_by_chance_is_not_real():
    truth = {("a", 1): 1e5, ("b", 1): 1.001e5, ("a", 4): 4.004e5, ("b", 4): 4e5}
    found = [one for seed in range(12) for one in across(ladder(truth, seed=seed), "backend").overtakings]
    assert found
    assert not any(one.real for one in found)


def test_a_lead_within_the_margin_is_a_lead():
    truth = {("a", 1): 1e5, ("b", 1): 1.02e5, ("a", 4): 4.08e5, ("b", 4): 4e5}
    told = across(ladder(truth, block_sd=0.001, jump=0.0), "backend")
    assert {row.changes[0].verdict for row in told.rows} == {"same"}
    assert {row.changes[0].p_holm < 0.05 for row in told.rows} == {True}
    (found,) = told.overtakings
    assert found.real


def test_only_cells_that_are_alike_otherwise_meet():
    cells = [
        synthetic.record(synthetic.cell("a", threads=1)),
        synthetic.record(synthetic.cell("b", threads=2)),
        synthetic.record(synthetic.cell("a", threads=2)),
    ]
    result = synthetic.result(cells, slices=synthetic.slices({0: 1e5, 1: 3e5, 2: 2e5}))
    assert len(across(result, "backend").rows) == 1
    (row,) = across(result, "threads").rows
    assert (row.base.threads, row.new.threads) == (1, 2)


def test_cells_of_two_cohorts_are_linked_by_an_anchor():
    cells = [synthetic.record(synthetic.cell(name)) for name in ("anchor", "one", "two")]
    slices = synthetic.slices({0: 1e5, 1: 2e5, 2: 2.2e5}, blocks=6, cohorts=[(0, 1), (0, 2)])
    told = across(synthetic.result(cells, slices=slices), "backend")
    assert [row.new.backend for row in told.rows] == ["one", "two"]
    assert told.rows[1].changes[0].effect == pytest.approx(2.2, rel=0.05)


def test_cells_that_never_met_prove_nothing():
    cells = [synthetic.record(synthetic.cell(name)) for name in ("one", "two")]
    slices = synthetic.slices({0: 1e5, 1: 2e5}, cohorts=[(0,), (1,)])
    (row,) = across(synthetic.result(cells, slices=slices), "backend").rows
    assert row.changes[0].verdict == "inconclusive"
    assert "never measured side by side" in row.changes[0].reason


def test_what_is_less_accurate_than_allowed_is_left_out():
    told = across(summarise(synthetic.measured()), "precision")
    assert not told.rows
    assert any("Left out" in note for note in told.notes)


def test_a_key_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        across(synthetic.measured(), "backends")
    assert caught.value.hint == "Did you mean backend?"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (gates("latency.p50:5%"), "--fail-on"),
        (Options(metrics=("latency.p50", "memory.peak")), "not memory.peak"),
    ],
)
def test_what_an_order_knows_nothing_of_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        compare_named(["none.json"], options, key="backend")


def test_a_slower_backend_is_no_failure(tmp_path):
    from kdbench import results

    results.write(ladder({("a", 1): 1e5, ("b", 1): 2e5}), tmp_path / "a.json")
    assert compare_named([str(tmp_path / "a.json")], Options(), key="backend").exit_code == 0
