"""Results and comparisons for other tools: complete, exact, and harmless wherever they are opened."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from typing import get_args

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from kdbench import cli, export, results
from kdbench.comparison import Change, Report
from kdbench.export import tidy
from kdbench.export.markdown import code, text
from kdbench.records import SideRecord, Trial
from kdbench.strict import decode
from kdbench.summary import summarise
from tests import comparisons, synthetic
from tests.test_render import golden


@pytest.fixture(scope="module")
def measured():
    return summarise(synthetic.measured())


def table(written: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written)))


@pytest.mark.parametrize("kind", ["separate", "trial", "across"])
def test_a_comparison_for_a_pull_request_is_as_agreed(kind):
    golden(f"comparison-{kind}-markdown", export.markdown(getattr(comparisons, kind)()))


def test_in_a_pull_request_the_verdict_comes_first_and_what_is_the_same_is_folded():
    written = export.markdown(comparisons.separate())
    assert written.startswith("### ❌ Worse: 1 of 30 judged figures (exit code 1)\n")
    before, _, folded = written.partition("<details>")
    assert "| same |" not in before
    assert "| same |" in folded
    assert "\n  kdbench ab digits-2x5 -b torch-cpu -o mode=compile --batch 1" in before


def test_sides_that_must_not_be_compared_have_no_table_in_a_pull_request():
    written = export.markdown(comparisons.mismatched())
    assert "Not comparable (exit code 4)" in written
    assert "| cell |" not in written


def test_a_comment_keeps_within_the_length_that_it_may_have():
    news = [comparisons.change("latency.p50", 1e6, 1.2e6, "worse"), *comparisons.exact()]
    rows = tuple(comparisons.row(synthetic.cell(f"b{k}", variant="x=" * 40), *news) for k in range(1000))
    comparison = replace(comparisons.separate().comparisons[0], rows=rows)
    written = export.markdown(Report(comparisons=(comparison,), exit_code=1))
    assert len(written) < 65_536
    assert "| 800 more |" in written


def test_of_many_long_comparisons_the_worst_stay_and_the_others_are_counted():
    rows = tuple(
        comparisons.row(
            synthetic.cell(f"b{k}", variant="x=" * 190),
            comparisons.change("latency.p50", 1e6, 1.2e6, "worse", contended=f"{'why ' * 90}{k}"),
        )
        for k in range(200)
    )
    first = replace(comparisons.separate().comparisons[0], rows=rows, unmatched=())
    several = [replace(first, verdict="worse" if k == 70 else "inconclusive") for k in range(99)]
    several[70] = replace(several[70], new=replace(first.new, file="culprit.json"))
    written = export.markdown(Report(comparisons=tuple(several), exit_code=1))
    assert len(written) < 65_536
    assert written.startswith("### ❌ Worse in 1 of 99 comparisons, inconclusive in 98 (exit code 1)\n")
    assert "#### `culprit.json" in written
    shown = written.count("\n#### ")
    assert 1 <= shown < 99
    assert f"{99 - shown} comparisons more than a comment has room for" in written


def test_why_a_row_failed_stands_in_a_pull_request():
    lost = Change(
        metric="status",
        unit="",
        scale="count",
        margin=0.0,
        verdict="worse",
        reason="measured in base, failed in new: out of memory",
    )
    rows = (comparisons.row(synthetic.cell("a"), lost), comparisons.row(synthetic.cell("b"), lost))
    comparison = replace(comparisons.separate().comparisons[0], rows=rows, unmatched=())
    written = export.markdown(Report(comparisons=(comparison,), exit_code=1))
    assert "- **Worse:** a and b: measured in base, failed in new: out of memory.\n" in written
    assert "| `a, batch 1, all cores` | status |  |  |  |  |  | **worse** |" in written


def test_within_one_file_a_pull_request_names_the_leader_and_calls_nobody_worse():
    written = export.markdown(comparisons.across())
    assert "worse" not in written
    assert "| cell | metric | leader | leader's | own | change |" in written
    assert re.search(r"^\| `torch-cpu, .* \| `onnxruntime` \| .* \| just behind \|$", written, re.MULTILINE)


@pytest.mark.parametrize(
    "student",
    ["x`; touch /tmp/owned; `", "a'b$(reboot)", "``` ```` ```", "-rf", "a b|c", "<b>@all", '"; exit 1; "'],
)
def test_a_command_of_a_hostile_name_is_copied_from_a_pull_request_as_it_was(student):
    words = ["kdbench", "ab", student, "-b", "onnxruntime"]
    change = comparisons.change(
        "latency.p50", 1e6, 1.1e6, "inconclusive", command=shlex.join(words), settle_s=9.0
    )
    comparison = replace(
        comparisons.separate().comparisons[0], rows=(comparisons.row(synthetic.cell("a"), change),)
    )
    written = export.markdown(Report(comparisons=(comparison,)))
    block = re.search(r"^  (`{3,})sh\n  (.*)\n  \1\n", written, re.MULTILINE)
    assert shlex.split(block[2]) == words
    assert block[1] not in block[2]


def test_every_row_of_a_table_has_as_many_cells_as_its_head_whatever_the_names():
    for report, bars in ((comparisons.hostile(), 9), (comparisons.separate(), 9), (comparisons.across(), 10)):
        for line in export.markdown(report).splitlines():
            if line.startswith("|"):
                assert len(re.findall(r"(?<!\\)\|", line)) == bars, line


def outside_of_code(written: str) -> str:
    """What a browser would obey: code spans and blocks, and escaped signs, are taken out."""
    written = re.sub(r"(`{3,})sh\n.*?\1", "", written, flags=re.DOTALL)
    written = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", written)
    return re.sub(r"\\.", "", written)


def test_hostile_names_are_no_markup_no_html_no_link_and_call_nobody():
    written = outside_of_code(export.markdown(comparisons.hostile()))
    assert not re.search(r"<(?!/?details>|/?summary>)", written)
    assert not re.search(r"\]\(|https?://|www\.|@\w|(?<!&)#\d", written)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", written)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("``a```", "```` ``a``` ````"),
        ("a|b", "`a¦b`"),
        ("", ""),
        ("a\nb", "`a b`"),
    ],
)
def test_a_code_span_holds_any_text(source, written):
    assert code(source) == written


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("plain words, 5 %", "plain words, 5 %"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("<b> & *c*", r"&lt;b&gt; &amp; \*c\*"),
        ("@all", "@&#8203;all"),
        ("https://a.b", "https:/&#8203;/a.b"),
        ("WWW.a", "www&#8203;.a"),
        ("owner/x#1", r"owner/x\#&#8203;1"),
    ],
)
def test_a_text_reads_as_it_is(source, written):
    assert text(source) == written


def test_a_comparison_as_csv_has_a_row_per_change_and_every_field():
    report = comparisons.separate()
    rows = table(export.csv(report))
    assert len(rows) == sum(len(row.changes) for row in report.comparisons[0].rows)
    worse = next(row for row in rows if row["verdict"] == "worse")
    assert (worse["backend"], worse["base_backend"], worse["metric"]) == (
        "openvino",
        "openvino",
        "latency.p50",
    )
    assert float(worse["effect"]) == pytest.approx(1.051)
    assert (worse["base_blocks"], worse["new_blocks"], worse["paired"]) == ("8", "8", "false")
    assert worse["p_holm"] == "0.0004"


def test_a_text_that_a_spreadsheet_would_compute_is_quoted_and_numbers_are_not():
    evil = [synthetic.record(synthetic.cell(name)) for name in ("=1+1", "+a", "-a", "@a", " =b", "a=b")]
    names = [row["backend"] for row in table(export.result_csv(synthetic.result(evil)))]
    assert names == ["'=1+1", "'+a", "'-a", "'@a", "' =b", "a=b"]
    changes = table(export.csv(comparisons.across()))
    assert all(float(row["effect"]) > 0 for row in changes)


def test_a_result_as_csv_has_a_row_per_cell_with_its_key_and_figures(measured):
    rows = table(export.result_csv(measured))
    assert len(rows) == len(measured.cells)
    first, record = rows[0], measured.cells[0]
    for name in ("backend", "device", "precision", "scenario", "variant", "network", "side"):
        assert first[name] == getattr(record.cell, name)
    assert float(first["median_ns"]) == record.summary.median_ns
    assert first["eligible"] == "true"
    assert first["artifact_bytes"] == ""
    lost = next(row for row in rows if row["status"] == "failed")
    assert lost["median_ns"] == ""
    assert lost["reason"].startswith("The worker died")


def test_the_slices_as_csv_bear_the_key_of_their_cell_and_every_field(measured):
    rows = table(export.slices_csv(measured))
    assert len(rows) == len(measured.slices)
    assert set(measured.slices[0].__struct_fields__) <= rows[0].keys()
    assert rows[0]["backend"] == measured.cells[measured.slices[0].cell].cell.backend


def test_an_empty_result_is_a_table_of_columns_without_rows(measured):
    def head(written: str) -> str:
        return written.partition("\n")[0] + "\n"

    nothing = synthetic.result([])
    assert export.result_csv(nothing) == head(export.result_csv(measured))
    assert export.slices_csv(nothing) == head(export.slices_csv(measured))
    assert export.csv(Report()) == head(export.csv(comparisons.separate()))
    assert json.loads(export.bmf([nothing])) == {}


@pytest.mark.parametrize("what", get_args(tidy.What))
def test_the_columns_of_a_kind_of_row_are_those_of_its_rows(measured, what):
    assert tidy.columns(what) == tuple(next(tidy.select(measured, what)))


def test_a_report_as_json_is_read_back_as_it_was():
    report = comparisons.separate()
    written = export.report_json(report)
    assert json.loads(written)["schema"] == {"name": "kdbench.comparison", "major": 1, "minor": 0}
    assert decode(written, Report, "the report") == report


def test_the_figures_for_bencher_are_named_by_slugs_and_have_their_intervals(measured):
    told = json.loads(export.bmf([measured]))
    own = told["digits-2x5 / onnxruntime / cpu / fp32 / batch 1 / threads cores"]
    assert own["latency"]["lower_value"] < own["latency"]["value"] < own["latency"]["upper_value"]
    assert own["throughput"]["value"] == measured.cells[6].summary.throughput_per_s
    assert own["accuracy"]["value"] == pytest.approx(100 * 874 / 899)
    for measures in told.values():
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= 64 for name in measures)
    assert not any("mode=script" in name for name in told)


def test_cells_that_differ_in_their_depth_alone_have_names_of_their_own():
    cells = [
        synthetic.record(synthetic.cell("a", scenario="throughput", depth=depth)) for depth in ("auto", 4)
    ]
    result = summarise(synthetic.result(cells, windows=synthetic.windows({0: 900.0, 1: 500.0})))
    told = json.loads(export.bmf([result]))
    assert list(told) == [
        "digits-2x5 / a / cpu / fp32 / batch 1 / threads cores",
        "digits-2x5 / a / cpu / fp32 / batch 1 / depth 4 / threads cores",
    ]


def test_each_side_of_a_trial_of_two_students_bears_the_name_of_its_own():
    cells = [synthetic.record(synthetic.cell("a", side=side)) for side in ("a", "b")]
    result = summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6, 1: 2e6})))
    other = replace(result.subject, student="smaller")
    sides = (SideRecord(side="a", label="A"), SideRecord(side="b", label="B", subject=other))
    result = replace(result, trial=Trial(sides=sides))
    assert [row["student"] for row in tidy.rows(result)] == ["digits-2x5", "smaller"]
    assert [name.split(" / ")[0] for name in json.loads(export.bmf([result]))] == ["digits-2x5", "smaller"]


def test_one_block_has_a_value_and_no_interval():
    cells = [synthetic.record(synthetic.cell("a"))]
    result = summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6}, blocks=1)))
    (measures,) = json.loads(export.bmf([result])).values()
    assert measures["latency"].keys() == {"value"}


def test_of_several_results_the_last_one_counts(measured):
    other = replace(measured, cells=measured.cells[:1])
    told = json.loads(export.bmf([measured, other]))
    assert len(told) == len(json.loads(export.bmf([measured])))


def test_figures_for_github_are_divided_by_which_way_is_better(measured):
    bigger, smaller = (
        json.loads(export.github_action_benchmark([measured], bigger=which)) for which in (True, False)
    )
    assert {entry["unit"] for entry in bigger} == {"images/s", "%"}
    assert {entry["unit"] for entry in smaller} == {"ns", "images", "bytes"}
    latency = next(entry for entry in smaller if entry["name"].endswith("/ latency"))
    assert latency.keys() == {"name", "unit", "value", "range", "extra"}
    assert latency["range"].startswith("± ")


def test_exporting_draws_nothing_and_imports_no_vendor_library():
    heavy = "{'rich', 'click', 'numpy', 'pandas', 'torch', 'onnx', 'onnxruntime', 'openvino', 'pluggy'}"
    code = f"import sys, kdbench.export; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def show(measured, tmp_path):
    path = tmp_path / "result.json"
    results.write(measured, path)
    return lambda *words: CliRunner().invoke(cli.main, ["show", str(path), *words])


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["--format", "csv"], "run,started_utc,"),
        (["--format", "slices-csv"], "run,backend,"),
        (["--format", "bmf"], "{"),
        (["--format", "github-action-benchmark"], "["),
        (["--format", "github-action-benchmark-bigger"], "["),
        (["--format", "json"], '{"'),
        (["--json"], '{"'),
        (["--json", "--format", "json"], '{"'),
        (["--format", "table"], "digits-2x5"),
    ],
)
def test_show_writes_a_result_in_every_format(show, words, begins):
    done = show(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(begins)
    assert done.stdout.endswith("\n")
    assert not done.stdout.endswith("\n\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--json", "--format", "csv"], "--json asks for another format than csv."),
        (["--format", "csv", "--svg", "a.svg"], "A picture shows the table and nothing else."),
        (["--format", "xml"], "xml"),
    ],
)
def test_show_refuses_formats_that_contradict_each_other(show, words, told):
    done = show(*words)
    assert done.exit_code == 2
    assert told in done.stderr
