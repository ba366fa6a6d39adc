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
from kdbench.findings.standing import word
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
    rows = [line for line in text.splitlines() if re.search(r" (same|worse|inconclusive|not judged)$", line)]
    told = [re.search(r" (\w+) (?:µs|ms|s) ", row)[1] for row in rows[:5]]
    assert told == ["median", "median", "median", "load", "compile"]
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
    assert text.splitlines()[-1] == (
        "4 of 5 differences between leaders and others are real (exit code 0; 5 with --strict)"
    )


def test_a_lead_within_the_margin_is_a_lead_and_no_tie():
    text = " ".join(shown(render.comparison, comparisons.across(), width=200).split())
    assert "torch-cpu median µs onnxruntime 62.1 63.2 +1.8 % [+0.9, +2.7] ±2.1 % 3 just behind" in text
    assert "onnxruntime, batch 1, is ahead of torch-cpu +1.8 %" in text
    assert "3 blocks), by less than the margin of 3 %." in text
    assert "cannot be told from torch-cpu" not in text
    assert "just: a real difference, but not beyond the margin" in text
    by_chance = comparisons.change("latency.p50", 1e6, 1.01e6, p_holm=0.3)
    assert word(by_chance, comparisons.across().comparisons[0], judged=True) == "tied"


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
    assert "Worse: 1 of 30 judged figures" in lines
    assert "No change beyond 3 %" in lines
    assert lines[-1] == "Worse in 1 of 2 comparisons, no change in 1 (exit code 1)"


def test_of_several_comparisons_each_verdict_is_counted_as_it_is():
    first = replace(comparisons.separate().comparisons[0], unmatched=())
    verdicts = ("same", "not comparable", "better", "inconclusive", "same")
    report = Report(comparisons=tuple(replace(first, verdict=one) for one in verdicts), exit_code=4)
    told = (
        "Not comparable in 1 of 5 comparisons, inconclusive in 1, better in 1, no change in 2 (exit code 4)"
    )
    assert overall(report) == ("not comparable", told)
    quiet = Report(comparisons=(replace(first, verdict="same"),) * 3)
    assert overall(quiet) == ("same", "No change in 3 comparisons (exit code 0)")


def test_rows_that_are_missing_in_new_are_told_where_strict_fails_for_them():
    one = replace(comparisons.separate().comparisons[0], verdict="same")
    assert overall(Report(comparisons=(one,)))[1].endswith("(exit code 0; 5 with --strict)")
    strict = Report(comparisons=(one,), strict=True, exit_code=5)
    assert overall(strict)[1].endswith("(exit code 5: rows of base are missing in new)")


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


def test_what_is_only_measured_beside_is_shown_and_counts_where_it_was_asked_for():
    report = comparisons.separate()
    text = shown(render.comparison, report, width=140)
    assert re.search(r"^ +load s +1.90 +2.40 .* inconclusive$", text, re.MULTILINE)
    assert re.search(r"^ +compile s +8.1\d* +8.4\d* .* not judged$", text, re.MULTILINE)
    assert "Shown beside, counted only where asked for: load, compile." in text
    assert "load +26" not in text
    asked = replace(report, metrics=("load.time", "latency.p50"))
    text = " ".join(shown(render.comparison, asked, width=140).split())
    assert "Shown beside, counted only where asked for: compile." in text
    assert "load +26.3 %" in text
    assert overall(asked)[1] == "Worse: 1 of 34 judged figures (exit code 1)"


def test_what_is_worse_and_in_no_gate_is_told_beside_the_verdict():
    one = replace(comparisons.separate().comparisons[0], unmatched=(), verdict="same")
    report = Report(comparisons=(one,), gates={"memory.peak": 0.05})
    assert overall(report) == ("same", "No change beyond 3 %; 1 figure beside worse (exit code 0)")


def test_a_gate_without_figures_is_not_passed():
    one = replace(comparisons.trial().comparisons[0], verdict="not comparable")
    report = Report(comparisons=(one,), gates={"latency.p99": 0.1}, exit_code=4)
    told = "Not comparable: no figures on both sides for latency.p99 (exit code 4)"
    assert overall(report) == ("not comparable", told)


def test_figures_of_sides_that_must_not_be_compared_are_not_shown():
    first = comparisons.separate().comparisons[0]
    refused = replace(first, mismatches=("The students differ.",), verdict="not comparable")
    text = shown(render.comparison, Report(comparisons=(refused,), exit_code=4))
    assert "+5.1 %" not in text
    assert text.splitlines()[-1] == "Not comparable (exit code 4)"


def lost(reason="measured in base, failed in new") -> Change:
    return Change(metric="status", unit="", scale="count", margin=0.0, verdict="worse", reason=reason)


def test_a_row_that_failed_on_one_side_is_told_by_its_reason_and_stands_in_the_table():
    rows = tuple(comparisons.row(synthetic.cell(name), lost()) for name in ("a", "b"))
    text = shown(render.comparison, with_rows(rows), width=120)
    assert "Worse: a and b: measured in base, failed in new." in text
    assert re.search(r"^a +status +worse$", text, re.MULTILINE)


def test_of_many_rows_that_failed_each_reason_is_told_and_every_row_counted():
    rows = tuple(
        comparisons.row(synthetic.cell(f"b{k:02}"), lost(f"failed in new: signal {k % 9}")) for k in range(40)
    )
    told = [one.text for one in told_of(with_rows(rows)) if one.subject == "Worse"]
    assert told[0] == "b00, b09, b18 and 2 more: failed in new: signal 0."
    assert told[-1] == "b06, b15, b24 and 9 more, for other reasons; the JSON has them."
    assert len(told) == 7


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
    assert "Not shown: 300 figures that are no news; --format csv has all." in text


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


def test_the_largest_changes_are_told_first_by_how_many_margins_they_are():
    rows = tuple(
        comparisons.row(synthetic.cell(f"b{k}"), comparisons.change("latency.p50", 1e6, ns, "worse"))
        for k, ns in enumerate((1.1e6, 9e6, 1.2e6, 0.02e6))
    )
    told = [one.text.split(":")[0] for one in told_of(with_rows(rows)) if one.subject == "Worse"]
    assert told == ["b3", "b1", "b2", "b0"]


def test_what_grew_from_nothing_is_told_by_its_figures_first():
    why = "there is no ratio to 0 bytes"
    grown = comparisons.once("artifact.bytes", 0.0, 53_600.0, "worse", effect=None, reason=why)
    late = comparisons.change("latency.p50", 1e6, 9e6, "worse")
    rows = tuple(comparisons.row(synthetic.cell(name), late, grown) for name in ("a", "b"))
    told = [one.text for one in told_of(with_rows(rows))]
    assert told[0] == f"a: artifact 0.0 kB to 53.6 kB, margin 3 %; {why}."


def test_reasons_why_nothing_was_compared_are_few_and_the_others_counted():
    rows = tuple(
        comparisons.row(
            synthetic.cell(f"b{k}"),
            comparisons.change("latency.p50", 1e6, 1e6, "not comparable", reason=f"reason {k % 20}"),
        )
        for k in range(40)
    )
    told = [one.text for one in told_of(with_rows(rows)) if one.subject == "Not comparable"]
    assert told[0] == "b0: median latency and 1 more: reason 0."
    assert told[-1] == "28 figures more, for other reasons; the JSON has them."
    assert len(told) == 7


def test_weak_evidence_that_differs_in_numbers_only_is_told_once_by_the_worst_of_it():
    why = "under heavy contention, and counted as half: {} of 8 blocks of base"
    rows = tuple(
        comparisons.row(
            synthetic.cell(f"b{k}"), comparisons.change("latency.p50", 1e6, 1e6, contended=why.format(blocks))
        )
        for k, blocks in enumerate((1, 5, 2))
    )
    told = [one.text for one in told_of(with_rows(rows)) if one.subject == "Weaker evidence"]
    assert told == [f"b1: {why.format(5)}; 2 more to a lesser degree."]
    alike = [one.text for one in told_of(with_rows(rows[1:2] * 2)) if one.subject == "Weaker evidence"]
    assert alike == [f"{why.format(5)}."]


def test_a_name_that_is_the_only_one_is_left_out_of_sentences():
    told = [one.text for one in told_of(comparisons.trial())]
    assert told == ["median latency -8.7 % (95 %: -9.6 to -7.9 %, 10 blocks), margin 3 %."]


@pytest.mark.parametrize("command", ["kdbench ab " + "x" * 400, "kdbench ab 'a\nb'", "kdbench ab \u202e"])
def test_a_command_that_cannot_be_told_whole_is_not_told(command):
    change = comparisons.change("latency.p50", 1e6, 1.1e6, "inconclusive", command=command, settle_s=9.0)
    (told,) = told_of(with_rows((comparisons.row(synthetic.cell("a"), change),)))
    assert told.command == ""
    assert told.text.endswith("would not have shown.")


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
        ({"effect": 1e300, "low": 2.0, "high": 1e304}, "over 1,000,000 times", "[*2.00, >*1,000,000]"),
        ({"effect": 1e-9, "low": 1e-304, "high": 0.5}, "under a millionth", "[-100, -50.0]"),
        ({"effect": 1.04, "low": 1e-304, "high": 1e304}, "+4.0 %", "[<*0.000001, >*1,000,000]"),
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


def test_a_name_has_the_depth_where_nothing_else_tells_cells_apart():
    cells = [synthetic.cell("a", scenario="throughput", depth=depth) for depth in ("auto", 4)]
    cells.append(synthetic.cell("a"))
    worse = [comparisons.change("throughput", 900.0, 700.0, "worse") for _ in cells[:2]]
    worse.append(comparisons.change("latency.p50", 1e6, 2e6, "worse"))
    report = with_rows(tuple(map(comparisons.row, cells, worse)))
    told = {one.text.split(":")[0] for one in told_of(report)}
    assert told == {"a depth auto", "a depth 4", "a"}
    text = shown(render.comparison, report, width=120)
    assert re.search(r"^a depth 4 +images/s", text, re.MULTILINE)
