from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, replace as on_device
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace
from rich.console import Console

from kdbench import render
from kdbench.errors import ResultError
from kdbench.progress import Progress
from kdbench.render import figures
from kdbench.summary import summarise
from tests import synthetic

GOLDEN = Path(__file__).parent / "golden"
FILE = Path("results/2026-03-02T10-15-00Z-quick.json")


@pytest.fixture(scope="module")
def measured():
    """A run with leaders, ties, rows that may not be ranked, and things that went wrong."""
    return summarise(synthetic.measured())


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Keep the colour wishes of whoever runs the tests out of them."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def shown(draw, *what, width: int = 120) -> str:
    """What a function of `render` shows at a width, without the blanks at the ends of lines."""
    console = render.console(width=width)
    with console.capture() as capture:
        draw(console, *what)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def golden(name: str, text: str) -> None:
    """Compare with the file; with KDBENCH_UPDATE_GOLDEN=1 in the environment, rewrite it instead."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("KDBENCH_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Planned:
    cells = tuple(one.cell for one in synthetic.measured().cells)
    blocks = 3
    seconds = 71.4
    stages = (("compile", 9.0), ("latency blocks", 41.2), ("throughput blocks", 21.2))
    notes = ("Three blocks fit the budget of 75 s.",)


@pytest.mark.parametrize("width", [80, 160])
def test_a_result_is_shown_as_agreed(measured, width):
    golden(f"result-{width}", shown(render.result, measured, FILE, width=width))


@pytest.fixture(scope="module")
def on_the_device(measured):
    """The same at the boundary `device`, where two backends tell device time, a third of their latency."""
    cells = [replace(one, cell=on_device(one.cell, boundary="device")) for one in measured.cells]
    telling = {index for index, one in enumerate(cells) if one.cell.backend.startswith("o")}
    slices = [
        replace(one, device_ns=one.median_ns / 3) if one.cell in telling else one for one in measured.slices
    ]
    return summarise(replace(measured, cells=tuple(cells), slices=tuple(slices)))


@pytest.mark.parametrize("width", [80, 160])
def test_device_time_and_another_boundary_are_shown_as_agreed(on_the_device, width):
    golden(f"result-device-{width}", shown(render.result, on_the_device, FILE, width=width))


def test_device_time_ranks_nobody(measured, on_the_device):
    assert [one.leader for one in on_the_device.leads] == [one.leader for one in measured.leads]
    assert [one.summary.median_ns for one in on_the_device.cells if one.summary] == [
        one.summary.median_ns for one in measured.cells if one.summary
    ]


@pytest.mark.parametrize("width", [80, 160])
def test_backends_are_shown_as_agreed(width):
    golden(f"backends-{width}", shown(render.backends, synthetic.BACKENDS, width=width))


def test_a_backend_that_was_not_tried_is_not_said_to_work():
    untried = replace(synthetic.BACKENDS[0], devices=(), runtime_version="1.31.1")
    text = shown(render.backends, [untried])
    assert re.search(r"onnxruntime +not tried +ONNX Runtime +1\.31\.1", text)


def test_a_plan_is_shown_as_agreed():
    golden("plan-80", shown(render.plan, Planned(), width=80))


@pytest.mark.parametrize("width", range(60, 200, 7))
def test_no_line_is_longer_than_the_terminal_and_no_number_is_broken(measured, width):
    text = shown(render.result, measured, width=width)
    assert all(len(line) <= width for line in text.splitlines())
    wide = shown(render.result, measured, width=300)
    for backend in ("onnxruntime", "numpy"):
        rows = [line.split() for line in wide.splitlines() if re.match(rf"{backend} +cpu", line)]
        narrow = [line.split() for line in text.splitlines() if re.match(rf"{backend} ", line)]
        assert len(rows) == len(narrow) == 2
        assert all(set(few) <= set(many) for few, many in zip(narrow, rows, strict=True))


def test_columns_that_find_no_room_are_named_with_the_width_that_shows_them(measured):
    text = shown(render.result, measured, width=80)
    room = int(re.search(r"a terminal of (\d+) columns has\s+room", text)[1])
    assert "not shown" not in shown(render.result, measured, width=room)
    assert "not shown" in shown(render.result, measured, width=70)


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ({"warm_ns": None}, "cold start: time to the first output, with compiling\n"),
        ({"cold_ns": None}, "warm start: time to the first output, without compiling\n"),
        ({}, "cold start, warm start: time to the first output, with compiling and without\n"),
    ],
)
def test_only_the_starts_that_have_a_column_are_explained(measured, lacking, told):
    cells = tuple(
        replace(one, first_output=replace(one.first_output, **lacking)) if one.first_output else one
        for one in measured.cells
    )
    assert f"\n{told}" in shown(render.result, replace(measured, cells=cells), width=160)


def without_accuracy(reason: str, **subject):
    cells = [synthetic.record(synthetic.cell("a"), accuracy=synthetic.accuracy(reason=reason))]
    facts = {"slices": synthetic.slices({0: 1e6}), "subject": replace(synthetic.SUBJECT, **subject)}
    return summarise(synthetic.result(cells, **facts))


def test_columns_without_any_value_are_dropped():
    # As version 1.0 of the file has it: no accuracy, and no reason beside it.
    older = without_accuracy("untrained", trained=False)
    record = replace(older.cells[0], accuracy=replace(older.cells[0].accuracy, reason=""))
    lines = shown(render.result, replace(older, cells=(record,)), width=160).splitlines()
    header = next(line for line in lines if "median" in line).split()
    assert header == ["median", "p90"]


@pytest.mark.parametrize(
    ("reason", "subject", "heading"),
    [
        ("untrained", {"trained": False}, "untrained: its labels mean nothing, only flips count · beside"),
        ("no labels", {"labelled": False}, "no labels: nobody knows how often it is right, only flips count"),
    ],
)
def test_where_accuracy_cannot_be_told_the_reason_stands_in_its_place(reason, subject, heading):
    result = without_accuracy(reason, **subject)
    text = shown(render.result, result, width=160)
    assert heading in text
    assert re.search(rf"^a +cpu .* {reason} +0", text, re.MULTILINE)
    assert "fastest with no label flipped" in text
    lenient = replace(result, run=replace(result.run, profile={"accuracy": {"max_drop": 1.5}}))
    assert "fastest with at most 1.5 % of its labels flipped" in shown(render.result, lenient)
    told = replace(result.cells[0], accuracy=replace(result.cells[0].accuracy, correct=800))
    assert shown(render.result, replace(result, cells=(told,)), width=160) == text


def test_a_lead_a_tie_and_a_single_row_are_told_apart():
    cells = [synthetic.record(synthetic.cell(name, batch=size)) for size in (1, 8) for name in ("a", "b")]
    cells.append(synthetic.record(synthetic.cell("a", batch=32)))
    truth = {0: 1.0e6, 1: 1.5e6, 2: 2.0e6, 3: 2.0e6, 4: 9.0e6}
    result = summarise(synthetic.result(cells, slices=synthetic.slices(truth)))
    text = shown(render.result, result, width=200)
    assert re.search(
        r"a fp32 is 1\.\d\d times as fast as b fp32 \(95 % interval 1\.\d\d to 1\.\d\d, 3 blocks\)", text
    )
    assert re.search(r"tie: 1\.\d+ times \(95 % interval .*\); a lead above \d+\.\d % would have shown", text)
    assert "a fp32 is the only row to rank." in text
    assert text.count("▸ ") == 3  # a leader, the single row and the legend
    assert text.count("≈ ") == 3


def test_one_block_is_said_to_prove_nothing():
    cells = [synthetic.record(synthetic.cell(name)) for name in ("a", "b")]
    result = summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6, 1: 3e6}, blocks=1)))
    assert "perhaps by chance: one block cannot tell." in shown(render.result, result)


def test_where_no_row_may_be_ranked_none_is_called_faster():
    cells = [synthetic.record(synthetic.cell("a"), status="invalid", reason="It answers NaN.")]
    result = summarise(synthetic.result(cells, slices=synthetic.slices({0: 1e6})))
    text = shown(render.result, result)
    assert "Latency: no row may be ranked." in text
    assert "Not ranked: a fp32 has figures, but it is invalid." in text


def test_a_faster_row_that_lost_accuracy_is_not_marked_and_the_reason_is_told(measured):
    text = shown(render.result, measured)
    assert re.search(r"Not ranked: openvino bf16 is faster, but it loses 2\.0 points of accuracy", text)
    assert not re.search(r"openvino +cpu +bf16 +▸", text)


def test_a_withheld_percentile_says_what_it_needs_and_has(measured):
    few = tuple(replace(one, calls=10, values_ns=one.values_ns[:10]) for one in measured.samples)
    text = shown(render.result, summarise(replace(measured, samples=few)))
    assert "withheld: p90 needs 64 samples and these rows have 30" in text


def test_tails_have_columns_of_their_own_where_they_were_measured(measured):
    tails = synthetic.samples(0, 70_000.0, blocks=1, calls=700, kind="tail")
    long = replace(measured, samples=(*measured.samples, *tails), stretches=(synthetic.stretch(0),))
    text = shown(render.result, summarise(long), width=200)
    header = next(line for line in text.splitlines() if "p90" in line)
    assert "p99" in header
    assert "p99.9" not in header


def test_a_partial_run_says_so_and_how_to_go_on(measured):
    partial = replace(measured, run=replace(measured.run, status="partial"))
    text = shown(render.result, partial, Path("results/quick.json.journal"))
    assert "Partial: the run did not end. What follows rests on 3 finished blocks." in text
    assert "kdbench run --resume results/quick.json.journal" in text


def test_cells_that_a_run_did_not_come_to_are_named(measured):
    early = [one for one in measured.slices if measured.cells[one.cell].cell.batch == 1]
    partial = replace(measured, slices=tuple(early), windows=(), run=replace(measured.run, status="partial"))
    text = shown(render.result, summarise(partial))
    assert re.search(r"openvino fp32, batch 1 and 32, .* +not reached +the run did not come to it\.", text)


def test_a_run_that_measured_nothing_says_so_and_why():
    text = shown(render.result, summarise(synthetic.result([], backends=synthetic.BACKENDS)))
    assert "Nothing was measured." in text
    assert "No NVIDIA driver was found on this machine." in text


def test_a_failed_cell_tells_phase_reason_fix_and_log(measured):
    text = shown(render.result, measured)
    for part in (
        "in run: The worker died of signal 11",
        "fix: Report it with the log.",
        "log: results/quick.logs",
    ):
        assert part in text


def test_the_doubts_of_all_rows_are_one_sentence(measured):
    environment = {**measured.environment, "power": {"on_battery": True}}
    text = shown(render.result, summarise(replace(measured, environment=environment)))
    assert text.count("the machine runs on its battery") == 1
    assert "All rows: the machine runs on its battery." in text


def test_hostile_text_is_shown_as_it_is_and_changes_nothing_else():
    evil = "[red]x[/red]\x1b[31m\x07\n‮forged row"
    record = synthetic.record(
        synthetic.cell(evil, variant=evil), status="failed", reason=evil, fix=evil, log=evil
    )
    lost = [replace(one, name=evil, reason=evil, fix=evil) for one in synthetic.BACKENDS]
    result = synthetic.result(
        [record, synthetic.record(synthetic.cell(evil, device=evil))],
        slices=synthetic.slices({1: 1e6}),
        backends=tuple(lost),
        subject=replace(synthetic.SUBJECT, student=evil, teacher=evil),
        environment={"cpu": {"model": evil, "physical": evil, "governor": evil}},
    )
    result = replace(summarise(result), run=replace(result.run, notes=(evil,), profile={"name": evil}))
    for text in (shown(render.result, result, Path(evil)), shown(render.backends, lost)):
        assert "[red]x[/red]" in text
        assert not set(text) & set("\x1b\x07\u202e")
        assert not any(line.strip().startswith("forged") for line in text.splitlines())


def test_an_endless_reason_is_cut_short():
    cells = [synthetic.record(synthetic.cell("a"), status="failed", reason="x" * 100_000)]
    assert len(shown(render.result, synthetic.result(cells))) < 2000


def test_without_a_terminal_nothing_is_coloured(measured, capsys):
    render.result(render.console(width=100), measured)
    assert "\x1b" not in capsys.readouterr().out


def test_colours_appear_on_a_terminal_unless_no_color_is_set(measured, monkeypatch):
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with (console := render.console(width=100)).capture() as coloured:
        render.result(console, measured)
    assert colour.search(coloured.get())
    monkeypatch.setenv("NO_COLOR", "1")
    with (console := render.console(width=100)).capture() as colourless:
        render.result(console, measured)
    assert not colour.search(colourless.get())


def test_a_stream_that_cannot_write_a_sign_gets_a_substitute_instead_of_a_traceback():
    code = "from kdbench import render; c = render.console(width=40); c.print('1 µs ▸ ≈')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "1 ?s ? ?"


def test_progress_is_silent_without_a_terminal(capsys):
    with render.progress(render.console(stderr=True)) as report:
        report(Progress("blocks", "openvino", 0.5, 12.0))
    assert capsys.readouterr() == ("", "")


def test_progress_is_one_line_that_is_drawn_only_when_reported_and_vanishes():
    written = StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    with render.progress(console) as report:
        threads = threading.active_count()
        report(Progress("latency blocks", "openvino [bold]", 0.25, 72.0))
        first = written.getvalue()
        report(Progress("latency blocks", "numpy", 1.5))
    assert threads == threading.active_count()
    assert all(part in first for part in ("latency blocks", "openvino [bold]", "25%", "72 s left"))
    assert "100%" in written.getvalue()
    assert written.getvalue().endswith("\x1b[2K")


def test_a_picture_is_one_well_formed_file_with_the_whole_table(measured, tmp_path):
    picture = tmp_path / "table.svg"
    render.export_svg(measured, picture)
    text = "".join(ElementTree.parse(picture).getroot().itertext()).replace("\xa0", " ")
    assert "onnxruntime" in text
    assert "times as fast as" in text
    render.export_svg(measured, tmp_path / "again.svg")
    assert picture.read_bytes() == (tmp_path / "again.svg").read_bytes()


def test_a_picture_that_cannot_be_written_is_one_sentence(measured, tmp_path):
    with pytest.raises(ResultError, match="cannot be written"):
        render.export_svg(measured, tmp_path / "nowhere" / "table.svg")


def test_showing_imports_neither_numpy_nor_a_vendor_library():
    heavy = "{'numpy', 'scipy', 'torch', 'onnx', 'onnxruntime', 'openvino', 'pluggy', 'click'}"
    code = f"import sys, kdbench.render; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@given(st.floats(1e-3, 1e12), st.floats(1e-6, 1.0))
def test_a_number_is_written_as_exactly_as_it_is_known(value, relative):
    text = figures.significant(value, relative)
    written = float(text.replace(",", ""))
    digits = text.replace(",", "").replace(".", "").strip("0")
    assert 1 <= len(digits) <= 5  # a carry as in 9.9996 -> 10.000 has one more
    assert abs(written - value) <= max(0.051, relative) * value
    assert abs(written - value) <= 0.5 * max(10 ** (math.floor(math.log10(value)) - 1), relative * value)


@pytest.mark.parametrize(
    ("value", "relative", "text"),
    [
        (123.456, 0.01, "123"),
        (123.456, 0.3, "120"),
        (1.23456, 1e-9, "1.235"),
        (61_234.0, 0.02, "61,000"),
        (0.0, 1, "0"),
    ],
)
def test_digits_follow_the_uncertainty(value, relative, text):
    assert figures.significant(value, relative) == text


def test_numbers_stand_with_their_points_below_each_other():
    assert figures.aligned(["1.25", "12", "withheld", ""]) == ["1.25", "12   ", "withheld", ""]


@pytest.mark.parametrize(
    ("values", "unit"),
    [([900.0, 2e9], "ns"), ([2e3], "µs"), ([1.5e6, 3e6], "ms"), ([4e9], "s"), ([], "ms"), ([0.5], "ns")],
)
def test_the_unit_suits_the_smallest_value(values, unit):
    assert figures.time_unit(values)[0] == unit


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.6, "60 s"), (200, "3 min 20 s"), (7300, "2 h 1 min")]
)
def test_durations_are_told_as_people_say_them(seconds, text):
    assert figures.duration(seconds) == text


def test_blocks_that_disagree_wildly_are_not_called_a_tie(measured):
    lead = measured.leads[0]
    wild = replace(
        lead, verdict="tie", runner_up=lead.runner_up, ratio=107.4, low=1e-4, high=1e7, detectable=9e4
    )
    text = shown(render.result, replace(measured, leads=(wild, *measured.leads[1:])), width=200)
    assert "cannot be told apart: their blocks disagree so much that less than 1,000 times" in text


def test_many_backends_that_are_not_here_are_told_by_name_and_few_with_their_reason(measured):
    lacking = replace(synthetic.BACKENDS[0], status="unavailable", reason="No driver.", devices=())
    few, many = (
        replace(measured, backends=tuple(replace(lacking, name=f"gpu-{index}") for index in range(count)))
        for count in (2, 3)
    )
    assert shown(render.result, few).count("No driver.") == 2
    text = shown(render.result, many)
    assert "gpu-0, gpu-1 and gpu-2  unavailable" in text
    assert "No driver." not in text
