"""What a comparison looks like: every kind as agreed, nothing broken at any width, nothing obeyed."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from kdbench import render
from kdbench.comparison import Change, Report
from kdbench.findings import effect
from kdbench.findings.outcome import overall
from kdbench.findings.sentences import findings
from kdbench.spec import Cell
from tests import comparisons, synthetic
from tests.test_render import golden, plain_terminal, shown

__all__ = ["plain_terminal"]

KINDS = {
    "separate": comparisons.separate,
    "trial": comparisons.trial,
    "across": comparisons.across,
    "mismatched": comparisons.mismatched,
    "several": comparisons.several,
}


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("kind", KINDS)
def test_a_comparison_is_shown_as_agreed(kind, width):
    golden(f"comparison-{kind}-{width}", shown(render.comparison, KINDS[kind](), width=width))


@pytest.mark.parametrize("width", range(60, 200, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_no_line_is_longer_than_the_terminal_but_for_commands(kind, width):
    for line in shown(render.comparison, KINDS[kind](), width=width).splitlines():
        assert len(line) <= width or line.strip().startswith("kdbench ab ")


def test_a_command_stands_alone_on_one_unbroken_line():
    lines = shown(render.comparison, comparisons.separate(), width=60).splitlines()
    assert (
        "    kdbench ab digits-2x5 -b torch-cpu -o mode=compile --batch 1 --threads 1 --budget 41s" in lines
    )


def test_differences_of_the_environment_stand_above_the_table():
    text = shown(render.comparison, comparisons.separate())
    assert text.index("2026.4.0 → 2026.4.1") < text.index("Batch 1")


def test_speed_comes_first_and_what_is_the_same_beside_it_is_one_line():
    text = shown(render.comparison, comparisons.separate(), width=120)
    rows = [
        line for line in text.splitlines() if re.search(r" (same|worse|inconclusive|not comparable)$", line)
    ]
    assert [re.search(r" (\w+) (?:µs|ms|s) ", row)[1] for row in rows[:4]] == [
        "median",
        "median",
        "median",
        "median",
    ]
    assert "Also the same: load of onnxruntime, accuracy, flips, artifact, memory." in text


def test_a_scenario_is_named_where_both_have_a_metric_and_differ_in_it():
    key = {"threads": 1}
    rows = (
        comparisons.row(
            synthetic.cell("a", **key),
            comparisons.change("latency.p50", 1e6, 1e6),
            comparisons.change("memory.peak", 70e6, 80e6, "worse"),
            comparisons.change("artifact.bytes", 100, 200, "worse"),
        ),
        comparisons.row(
            synthetic.cell("a", scenario="throughput", **key),
            comparisons.change("throughput", 900.0, 905.0),
            comparisons.change("memory.peak", 90e6, 95e6, "worse"),
            comparisons.change("artifact.bytes", 100, 200, "worse"),
        ),
    )
    report = with_rows(rows)
    text = shown(render.comparison, report, width=140)
    assert text.count("artifact B ") == 1
    assert "memory, latency MB" in text
    assert "memory, throughput MB" in text
    assert text.index("images/s") < text.index("memory, latency")


def told_of(report):
    return findings(report.comparisons[0], report)


def with_rows(rows, **facts) -> Report:
    first = comparisons.separate().comparisons[0]
    facts = {"rows": rows, "unmatched": (), "differences": (), "means": (), "notes": (), **facts}
    return Report(comparisons=(replace(first, **facts),), exit_code=1)


def test_the_sides_of_a_trial_are_a_and_b_and_their_labels_stand_above():
    text = shown(render.comparison, comparisons.trial())
    assert re.search(r"^A  openvino num_streams=1$", text, re.MULTILINE)
    assert re.search(r"^backend +metric +A +B +change", text, re.MULTILINE)
    assert re.search(r"^openvino +median µs", text, re.MULTILINE)


def test_within_one_file_the_leader_is_named_and_nobody_is_called_worse():
    text = shown(render.comparison, comparisons.across(), width=120)
    assert "worse" not in text.lower()
    assert "onnxruntime, batch 1, leads; openvino +9.2 %" in text
    assert "openvino, batch 32 cannot be told from onnxruntime; less than 2.1 % would not have shown" in text
    assert "openvino overtakes onnxruntime in latency between batch 1 and 32, at about 17." in text
    assert text.splitlines()[-1] == "3 of 4 differences between leaders and others are real (exit code 0)"


def test_what_is_not_comparable_says_why_and_has_no_table():
    text = shown(render.comparison, comparisons.mismatched())
    assert "The students differ" in text
    assert "change" not in text
    assert text.splitlines()[-1] == "Not comparable (exit code 4)"
    allowed = shown(render.comparison, comparisons.mismatched(allowed=True))
    assert "Compared all the same" in allowed
    assert "+5.1 %" in allowed


def test_several_comparisons_follow_one_another_and_the_last_line_sums_up():
    lines = shown(render.comparison, comparisons.several()).splitlines()
    assert "Worse: 1 of 32 judged figures" in lines
    assert "No change beyond 3 %" in lines
    assert lines[-1] == "Worse in 1 of 2 comparisons (exit code 1)"


@pytest.mark.parametrize(
    ("verdict", "code", "told"),
    [
        ("worse", 1, "Worse: 1 of 1 judged figure (exit code 1)"),
        ("better", 0, "Better: 1 of 1 judged figure (exit code 0)"),
        ("same", 0, "No change beyond 3 % (exit code 0)"),
        ("inconclusive", 5, "Inconclusive: 1 of 1 judged figure (exit code 5)"),
        ("inconclusive", 0, "Inconclusive: 1 of 1 judged figure (exit code 0; 5 with --strict)"),
        ("not comparable", 4, "Not comparable: 1 of 1 judged figure (exit code 4)"),
    ],
)
def test_the_last_line_says_what_the_exit_code_says(verdict, code, told):
    rows = (comparisons.row(synthetic.cell("a"), comparisons.change("latency.p50", 1e6, 1.1e6, verdict)),)
    report = replace(with_rows(rows, verdict=verdict), exit_code=code)
    assert overall(report) == (verdict, told)
    assert shown(render.comparison, report).splitlines()[-1] == told


def test_only_what_was_asked_for_is_counted():
    report = replace(comparisons.separate(), gates={"latency.p50": 0.05})
    assert overall(report)[1] == "Worse: 1 of 6 judged figures (exit code 1)"


def test_what_is_worse_and_in_no_gate_is_told_beside_the_verdict():
    report = replace(comparisons.separate(), gates={"memory.peak": 0.05}, exit_code=0)
    assert overall(report) == ("same", "No change beyond 3 %; 1 figure beside worse (exit code 0)")


def test_a_gate_without_figures_is_not_passed():
    report = replace(comparisons.trial(), gates={"latency.p99": 0.1}, exit_code=4)
    told = "Not comparable: no figures on both sides for latency.p99 (exit code 4)"
    assert overall(report) == ("not comparable", told)


def test_figures_of_sides_that_must_not_be_compared_are_not_shown():
    first = comparisons.separate().comparisons[0]
    refused = replace(first, mismatches=("The students differ.",), verdict="not comparable")
    text = shown(render.comparison, Report(comparisons=(refused,), exit_code=4))
    assert "+5.1 %" not in text
    assert text.splitlines()[-1] == "Not comparable (exit code 4)"


def test_a_row_that_failed_on_one_side_is_told_by_its_reason():
    lost = Change(
        metric="status",
        unit="",
        scale="count",
        margin=0.0,
        verdict="worse",
        reason="It was measured in base and failed in new.",
    )
    text = shown(render.comparison, with_rows((comparisons.row(synthetic.cell("a"), lost),)), width=120)
    assert "Worse: a: status It was measured in base and failed in new." in text


def test_of_many_figures_that_are_the_same_only_the_news_is_shown():
    rows = [
        comparisons.row(synthetic.cell(f"b{k}"), comparisons.change("latency.p50", 1e6, 1.001e6))
        for k in range(300)
    ]
    rows.append(
        comparisons.row(synthetic.cell("odd"), comparisons.change("latency.p50", 1e6, 1.2e6, "worse"))
    )
    text = shown(render.comparison, with_rows(tuple(rows)))
    assert len(text.splitlines()) < 30
    assert "Not shown: 300 figures that are the same; --format csv has all." in text


def test_few_sentences_are_told_of_many_changes_of_a_kind():
    rows = tuple(
        comparisons.row(
            synthetic.cell(f"b{k}"),
            comparisons.change("latency.p50", 1e6, 1.2e6, "worse"),
            comparisons.change("latency.p90", 1e6, 1.2e6, "inconclusive", command=f"kdbench ab -b b{k}"),
        )
        for k in range(40)
    )
    told = [one.subject for one in told_of(with_rows(rows))]
    assert told.count("Worse") == 7
    assert told.count("Inconclusive") == 4


def test_hostile_text_is_shown_as_it_is_and_changes_nothing_else():
    text = shown(render.comparison, comparisons.hostile(), width=300)
    assert "[red]x[/red]" in text
    assert not set(text) & set("\x1b\x07\u202e")
    assert not any(line.strip().startswith("|") for line in text.splitlines())


def test_the_rows_of_a_trial_show_their_side():
    cells = [synthetic.record(synthetic.cell("openvino", side=side)) for side in ("a", "b")]
    result = render_summary(cells)
    text = shown(render.result, result)
    assert re.search(r"^A · openvino +", text, re.MULTILINE)
    assert re.search(r"^B · openvino +", text, re.MULTILINE)
    assert "A · openvino fp32 is" in text


def render_summary(cells):
    from kdbench.summary import summarise

    return summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6, 1: 1.5e6})))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"base": 62_100.0, "new": 65_300.0}, ("µs", "62.1", "65.3")),
        ({"base": 62_100.0, "new": 62_200.0}, ("µs", "62.10", "62.20")),
        ({"base": 1_310_000.0, "new": 19_600_000.0}, ("ms", "1.31", "19.60")),
        ({"base": 16_123.0, "new": 15_300.0, "unit": "per_s"}, ("/s", "16,100", "15,300")),
        ({"base": None, "new": 2.0, "unit": "s", "effect": None}, ("s", "", "2.00")),
        ({"base": 96_412.0, "new": 96_412.0, "unit": "bytes"}, ("kB", "96.41", "96.41")),
        ({"base": 0.0, "new": 3.0, "unit": "images", "scale": "count", "effect": 3.0}, ("", "0", "3")),
        ({"base": 97.2, "new": 96.1, "unit": "%", "scale": "points", "effect": -1.1}, ("%", "97.2", "96.1")),
        ({"base": 0.0, "new": 0.0, "effect": 1.0}, ("ms", "0", "0")),
    ],
)
def test_base_and_new_share_a_unit_and_show_the_change(facts, told):
    base, new = facts["base"], facts["new"]
    facts = {"effect": new / base if base and new else None, **facts}
    change = Change(
        **{"metric": "x", "unit": "ns", "scale": "ratio", "margin": 0.03, "verdict": "same", **facts}
    )
    assert effect.values(change) == told


@pytest.mark.parametrize(
    ("facts", "size", "interval"),
    [
        ({"effect": 1.051, "low": 1.042, "high": 1.06}, "+5.1 %", "[+4.2, +6.0]"),
        ({"effect": 0.9996, "low": 0.9993, "high": 1.0002}, "-0.04 %", "[-0.07, +0.02]"),
        ({"effect": 14.54, "low": 14.4, "high": 14.7}, "*14.5", "[*14.4, *14.7]"),
        ({"effect": 1.0}, "0.0 %", ""),
        ({"effect": -0.22, "scale": "points"}, "-0.22 pp", ""),
        ({"effect": 3.0, "scale": "count"}, "+3", ""),
        ({"effect": None}, "", ""),
    ],
)
def test_a_change_is_written_with_its_direction_and_no_more_digits_than_it_has(facts, size, interval):
    change = Change(
        **{"metric": "x", "unit": "ns", "scale": "ratio", "margin": 0.03, "verdict": "same", **facts}
    )
    assert effect.size(change) == size.replace("*", effect.TIMES)
    assert effect.interval(change) == interval.replace("*", effect.TIMES)


def test_a_name_has_no_more_than_tells_cells_apart():
    rows = tuple(
        comparisons.row(
            Cell(backend="a", device=device, precision="fp32", batch=1, scenario="latency"),
            comparisons.change("latency.p50", 1e6, 2e6, "worse"),
        )
        for device in ("cpu", "gpu.0")
    )
    told = [one.text for one in told_of(with_rows(rows))]
    assert [text.split(":")[0] for text in told] == ["a cpu", "a gpu.0"]
