"""Which changes decide the exit code, and what it is."""

from __future__ import annotations

import pytest

from kdbench.compare import gates, report
from kdbench.comparison import Change, Comparison, Row, Source
from kdbench.errors import UsageError
from tests import synthetic

CELL = synthetic.cell("any")


def comparison(*verdicts: tuple[str, str], **more) -> Comparison:
    """Give a comparison of one row with these (metric, verdict)."""
    changes = tuple(
        Change(metric=metric, unit="ns", scale="ratio", margin=0.03, verdict=verdict)
        for metric, verdict in verdicts
    )
    rows = (Row(base=CELL, new=CELL, changes=changes),) if changes else ()
    return Comparison(base=Source(label="base"), new=Source(label="new"), rows=rows, **more)


def code(*verdicts: tuple[str, str], fail_on: str | None = None, strict: bool = False, **more) -> int:
    return report([comparison(*verdicts, **more)], gates(fail_on), strict=strict).exit_code


@pytest.mark.parametrize(
    ("verdict", "plain", "strict"),
    [("same", 0, 0), ("better", 0, 0), ("worse", 1, 1), ("inconclusive", 0, 5), ("not comparable", 4, 4)],
)
def test_each_verdict_has_its_exit_code(verdict, plain, strict):
    assert code(("latency.p50", verdict)) == plain
    assert code(("latency.p50", verdict), strict=True) == strict


def test_without_a_gate_every_judged_metric_counts():
    assert code(("latency.p50", "same"), ("memory.peak", "worse")) == 1
    assert code(("latency.p50", "same"), ("compile.time", "inconclusive"), strict=True) == 0


def test_with_a_gate_only_what_it_names_counts():
    found = ("latency.p50", "same"), ("memory.peak", "worse")
    assert code(*found, fail_on="latency.p50:5%") == 0
    assert code(*found, fail_on="memory.peak:5%") == 1


def test_a_row_that_no_longer_works_counts_whatever_was_named():
    assert code(("status", "worse"), ("latency.p50", "same"), fail_on="latency.p50") == 1


def test_what_was_asked_for_and_could_not_be_compared_is_not_passed():
    found = ("latency.p50", "same"), ("accuracy.top1", "not comparable")
    assert code(*found) == 0
    assert code(*found, fail_on="latency.p50,accuracy.top1") == 4
    assert code(("latency.p50", "same"), fail_on="accuracy.top1:0.5pp") == 4


def test_a_mismatch_is_not_comparable_unless_allowed():
    assert code(("latency.p50", "same"), mismatches=("Another student.",)) == 4
    assert code(("latency.p50", "same"), mismatches=("Another student.",), allowed=True) == 0


def test_nothing_at_all_is_not_comparable():
    assert code() == 4
    assert report([]).exit_code == 4


def test_the_worst_of_several_files_decides():
    same, worse = comparison(("latency.p50", "same")), comparison(("latency.p50", "worse"))
    assert report([same, worse]).exit_code == 1
    assert report([same, comparison()]).exit_code == 4


def test_which_backend_is_slower_is_no_failure():
    assert code(("latency.p50", "worse"), across="backend") == 0
    assert code(("latency.p50", "inconclusive"), across="backend", strict=True) == 5


def test_limits_are_read_with_their_units_and_signs():
    options = gates("latency.p50:5%, accuracy.top1:-0.5pp,memory.peak:+10 %,accuracy.flips:3,throughput:-4%")
    assert options.gates == {
        "latency.p50": 0.05,
        "accuracy.top1": 0.5,
        "memory.peak": 0.1,
        "accuracy.flips": 3.0,
        "throughput": 0.04,
    }
    assert report([], options).gates == options.gates


def test_a_name_alone_keeps_its_margin():
    assert gates("latency.p50,latency.p99").gates == {"latency.p50": 0.03, "latency.p99": 0.10}
    assert gates("latency.p50", 0.02).gates == {"latency.p50": 0.02}


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("latency.p5:5%", "no metric 'latency.p5'", "latency.p50"),
        ("bananas", "no metric", "There are latency.p50"),
        ("", "no metric", "There are"),
        ("latency.p50:5%,", "no metric", "There are"),
        ("latency.p50:5", "as a percentage", "latency.p50:5%"),
        ("latency.p50:", "as a percentage", "latency.p50:5%"),
        ("latency.p50:nan%", "as a percentage", "5%"),
        ("accuracy.top1:5%", "in percentage points", "accuracy.top1:0.5pp"),
        ("latency.p50:5pp", "as a percentage", "latency.p50:5%"),
        ("accuracy.top1:200pp", "more points", "100"),
        ("accuracy.flips:3%", "as a number", "accuracy.flips:3"),
        ("latency.p50:-5%", "becomes better", "latency.p50:+5%"),
        ("throughput:+5%", "becomes better", "throughput:-5%"),
        ("accuracy.top1:+0.5pp", "becomes better", "accuracy.top1:-0.5pp"),
        ("latency.p50:5%,latency.p50:6%", "twice", ""),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_in_a_sentence(text, words, hint):
    with pytest.raises(UsageError) as caught:
        gates(text)
    assert words in caught.value.message
    assert hint in caught.value.hint
