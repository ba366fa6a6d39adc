"""Results and comparisons for other tools: complete, exact, and harmless wherever they are opened."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from kdbench import cli, export, results
from kdbench.comparison import Report
from kdbench.export.markdown import code, text
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
    assert written.startswith("### ❌ Worse: 1 of 32 judged figures (exit code 1)\n")
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


def test_every_row_of_a_table_has_as_many_cells_as_its_head_whatever_the_names():
    for report in (comparisons.hostile(), comparisons.separate(), comparisons.across()):
        for line in export.markdown(report).splitlines():
            if line.startswith("|"):
                assert len(re.findall(r"(?<!\\)\|", line)) == 9, line


def outside_of_code(written: str) -> str:
    """What a browser would obey: code spans and blocks, and escaped signs, are taken out."""
    written = re.sub(r"```sh\n.*?```", "", written, flags=re.DOTALL)
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


def test_an_empty_result_is_an_empty_table():
    assert export.result_csv(synthetic.result([])) == ""
    assert export.csv(Report()) == ""
    assert json.loads(export.bmf([synthetic.result([])])) == {}


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
