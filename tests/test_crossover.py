"""From slices and windows to who overtakes whom, and the sentences that say so."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from msgspec import structs
from rich.console import Console

from kdbench import results
from kdbench.compare.across import across
from kdbench.errors import ResultError
from kdbench.findings.crossover import sentences
from kdbench.render.report import export_svg, result as show
from kdbench.summary import summarise
from tests import synthetic

SIZES = (1, 2, 4, 8, 16)
PROFILE = {"name": "crossover", "crossover": {"largest": 16}, "plan": {"batches": list(SIZES)}}


def searched(truth, sizes=SIZES, *, scenario="latency", blocks=5, profile=PROFILE, **key):
    """Give the summarised result of a search; `truth` has microseconds a call, by backend and batch size."""
    cells, times = [], {}
    for batch in sizes:
        for name, cost in truth.items():
            times[len(cells)] = 1e3 * cost(batch)
            cells.append(
                synthetic.record(synthetic.cell(name, batch=batch, scenario=scenario, **key.get(name, {})))
            )
    if scenario == "latency":
        homes = [[k for k, one in enumerate(cells) if one.cell.device == home] for home in ("cpu", "cuda:0")]
        apart = [home for home in homes if home]
        timed = {"slices": synthetic.slices(times, blocks=blocks, jump=0.0, cohorts=apart)}
    else:
        rates = {index: 1e9 * cells[index].cell.batch / ns for index, ns in times.items()}
        timed = {"windows": synthetic.windows(rates, blocks=blocks, rounds=2)}
    whole = synthetic.result(cells, **timed)
    return summarise(structs.replace(whole, run=structs.replace(whole.run, profile=profile)))


FLAT, STEEP = (lambda batch: 1000.0), (lambda batch: 95.0 * batch)


def told(result):
    return list(sentences(result))


@pytest.mark.parametrize("scenario", ["latency", "throughput"])
def test_a_change_of_places_is_told_with_who_leads_below_and_above_it(scenario):
    result = searched({"flat": FLAT, "steep": STEEP}, (*SIZES, 10, 11), scenario=scenario)
    (one,) = result.crossings
    assert (one.verdict, one.scenario, one.low.batch, one.high.batch) == ("crosses", scenario, 10, 11)
    first, second = (result.cells[index].cell for index in (one.low.first, one.low.second))
    assert (first.backend, first.batch) == ("steep", 10)
    assert (second.backend, second.batch) == ("flat", 10)
    assert result.cells[one.high.first].cell.batch == 11
    assert one.low.low > 1 > one.high.high
    assert one.low.ratio == pytest.approx(1000 / 950, rel=0.03)
    assert one.high.ratio == pytest.approx(1000 / 1045, rel=0.03)
    assert (one.batches, one.untold, one.low.blocks) == ((1, 2, 4, 8, 10, 11, 16), (), 5)
    (sentence,) = told(result)
    number = r"\d+(\.\d)? %"
    assert re.fullmatch(
        rf"flat overtakes steep in {scenario} at batch 11 "
        rf"\(it is {number} slower at 10, {number} faster at 11\)\.",
        sentence,
    )


def test_who_leads_everywhere_is_told_with_the_ends():
    result = searched(
        {"slow": lambda batch: 3000.0 + 140 * batch, "fast": lambda batch: 1000.0 + 100 * batch}
    )
    (one,) = result.crossings
    assert (one.verdict, one.low.batch, one.high.batch) == ("never", 1, 16)
    assert result.cells[one.low.first].cell.backend == "fast"
    (sentence,) = told(result)
    assert re.fullmatch(
        r"fast leads slow in latency at every batch size tried, 1 to 16 "
        r"\(2\.[89] times as fast at 1, 2\.\d times as fast at 16\)\.",
        sentence,
    )


def test_a_wide_bracket_says_where_nobody_can_tell():
    def level(batch):
        return 1000.0 if batch in (4, 8) else 500.0 if batch < 4 else 2000.0

    result = searched({"a": level, "b": FLAT})
    (one,) = result.crossings
    assert (one.verdict, one.low.batch, one.high.batch, one.untold) == ("crosses", 2, 16, (4, 8))
    assert told(result) == [
        "b overtakes a in latency between batch 2 and 16 "
        f"(it is {told(result)[0].split('it is ')[1].split(' at 2')[0]} at 2, "
        f"{told(result)[0].split(' at 2, ')[1].split(' at 16')[0]} at 16; nobody can tell at 4 and 8)."
    ]


def test_two_that_are_alike_cannot_be_told_apart():
    result = searched({"a": FLAT, "b": FLAT})
    (one,) = result.crossings
    assert (one.verdict, one.untold) == ("undecided", SIZES)
    assert told(result) == ["a and b cannot be told apart in latency at any batch size tried, 1 to 16."]


def test_a_lead_that_is_lost_without_a_change_of_places_is_undecided():
    result = searched({"a": lambda batch: 500.0 if batch < 8 else 1000.0, "b": FLAT})
    (one,) = result.crossings
    assert (one.verdict, one.untold) == ("undecided", (8, 16))
    assert told(result) == ["a leads b in latency at batch 1 to 4; nobody can tell at 8 and 16."]


def test_one_block_decides_nothing():
    result = searched({"flat": FLAT, "steep": STEEP}, blocks=1)
    assert {one.verdict for one in result.crossings} == {"undecided"}
    assert result.crossings[0].low.low is None


def test_several_changes_of_places_of_one_pair_are_all_told():
    result = searched({"a": lambda batch: 2000.0 if batch in (4, 8) else 500.0, "b": FLAT})
    assert [(one.low.batch, one.high.batch) for one in result.crossings] == [(2, 4), (8, 16)]
    assert [one.batches for one in result.crossings] == [(1, 2, 4), (4, 8, 16)]
    assert [sentence.split(" in ")[0] for sentence in told(result)] == ["b overtakes a", "a overtakes b"]


def test_every_pair_is_told_and_each_by_no_more_than_tells_it_from_the_others():
    pairs = {"a": FLAT, "b": STEEP, "c": lambda batch: 4000.0}
    assert len(told(searched(pairs))) == 3
    assert all(" cpu " not in sentence and "fp32" not in sentence for sentence in told(searched(pairs)))


def test_two_on_unlike_devices_are_compared_and_it_is_told_that_they_did_not_take_turns():
    result = searched({"a": FLAT, "b": STEEP}, b={"device": "cuda:0"})
    (sentence,) = told(result)
    assert sentence.startswith("a cpu overtakes b cuda:0 in latency between batch 8 and 16")
    assert sentence.endswith("They did not take turns.")
    assert not result.crossings[0].low.alternated


def test_what_may_not_be_ranked_overtakes_nobody():
    result = searched({"a": FLAT, "b": STEEP})
    lost = structs.replace(result.cells[0], accuracy=synthetic.accuracy(lost=300))
    wrong = summarise(structs.replace(result, cells=(lost, *result.cells[1:])))
    assert wrong.crossings[0].batches == (2, 4, 8, 16)


def test_a_run_that_was_no_search_has_no_crossings():
    plain = {"name": "quick", "plan": {"batches": list(SIZES)}}
    assert searched({"a": FLAT, "b": STEEP}, profile=plain).crossings == ()
    strange = {"crossover": {"largest": "many"}, "plan": {"batches": 3}}
    assert searched({"a": FLAT, "b": STEEP}, profile=strange).crossings == ()


def test_crossings_are_written_read_and_derived_again(tmp_path):
    result = searched({"a": FLAT, "b": STEEP})
    results.write(result, tmp_path / "r.json")
    read = results.read(tmp_path / "r.json")
    assert read == result
    assert summarise(structs.replace(read, crossings=())).crossings == result.crossings


def test_a_crossing_of_a_cell_that_is_not_there_is_refused(tmp_path):
    result = searched({"a": FLAT, "b": STEEP})
    (one,) = result.crossings
    broken = structs.replace(one, high=structs.replace(one.high, second=99))
    with pytest.raises(ResultError, match=r"crossings\[0\]\.high\.second is 99"):
        results.write(structs.replace(result, crossings=(broken,)), tmp_path / "r.json")


def test_the_report_has_a_line_for_each_pair_the_sentences_and_every_batch_size(tmp_path):
    result = searched({"a": FLAT, "b": STEEP, "c": lambda batch: 4000.0 + batch})
    console = Console(file=StringIO(), width=100, color_system=None)
    show(console, result)
    text = console.file.getvalue()
    assert "Who overtakes whom" in text
    assert re.search(r"b, a\s+b, then a \(between 8 and 16\)", text)
    assert re.search(r"a, c\s+a throughout", text)
    for sentence in told(result):
        assert " ".join(sentence.split()) in " ".join(text.split())
    assert all(f"batch {batch} " in text for batch in SIZES)
    export_svg(result, tmp_path / "r.svg")
    assert "overtakes" in (tmp_path / "r.svg").read_text()


def test_a_comparison_within_the_file_says_the_same():
    result = searched({"a": FLAT, "b": STEEP})
    comparison = across(result, "backend")
    assert set(told(result)) <= set(comparison.notes)
    assert comparison.overtakings == ()
    assert not set(told(result)) & set(across(result, "threads").notes)
