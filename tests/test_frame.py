"""Results in Python: opened whole or half finished, and as data frames where pandas is there."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest
from msgspec.structs import replace

import kdbench
from kdbench import journal, results
from kdbench.errors import KdbenchError, ResultError
from kdbench.spec import Cell
from kdbench.summary import summarise
from tests import synthetic


@pytest.fixture(scope="module")
def measured():
    return summarise(synthetic.measured())


def test_a_result_file_is_opened_by_its_name(measured, tmp_path):
    path = tmp_path / "result.json"
    results.write(measured, path)
    assert kdbench.load_result(str(path)) == measured
    assert kdbench.load_result(path) == measured


def test_a_journal_is_opened_as_a_partial_result_with_its_summaries(measured, tmp_path):
    path = tmp_path / "result.json.journal"
    planned = replace(
        measured, run=replace(measured.run, status="partial"), slices=(), windows=(), samples=()
    )
    with journal.create(path, planned) as open_journal:
        open_journal.append(journal.Entry(kind="block", slices=measured.slices, block=0))
    loaded = kdbench.load_result(path)
    assert loaded.run.status == "partial"
    assert loaded.cells[0].summary.median_ns == measured.cells[0].summary.median_ns


def test_what_is_no_result_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ResultError, match="There is no file"):
        kdbench.load_result(tmp_path / "nowhere.json")


def test_without_pandas_the_sentence_says_what_to_install(measured, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(KdbenchError, match="needs pandas") as caught:
        kdbench.to_dataframe(measured)
    assert caught.value.hint == "Install it: pip install pandas"


def test_rows_that_do_not_exist_are_refused(measured):
    with pytest.raises(KdbenchError, match="no rows of 'blocks'"):
        kdbench.to_dataframe(measured, "blocks")


def test_loading_imports_neither_pandas_nor_a_vendor_library():
    heavy = "{'pandas', 'numpy', 'rich', 'click', 'torch', 'onnxruntime', 'openvino', 'pluggy'}"
    code = (
        f"import sys, kdbench; kdbench.load_result, kdbench.to_dataframe; print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_cells_are_one_row_each_with_numbers_as_numbers(measured):
    pytest.importorskip("pandas")
    frame = kdbench.to_dataframe(measured)
    assert len(frame) == len(measured.cells)
    assert set(Cell.__dataclass_fields__) <= set(frame.columns)
    fastest = frame[(frame.scenario == "latency") & (frame.batch == 1) & frame.eligible].nsmallest(
        1, "median_ns"
    )
    assert fastest.backend.item() == "onnxruntime"
    assert frame.median_ns.dtype == frame.p99_ns.dtype == float


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        ("slices", {"cell", "block", "median_ns", "started_ns", "backend", "run"}),
        ("windows", {"in_flight", "images", "duration_ns", "depth", "run"}),
        ("samples", {"value_ns", "weight", "kind", "block", "run"}),
    ],
)
def test_raw_rows_bear_the_key_of_their_cell(measured, what, columns):
    pytest.importorskip("pandas")
    frame = kdbench.to_dataframe(measured, what)
    assert columns <= set(frame.columns)
    own = getattr(measured, what)
    assert len(frame) == (sum(one.calls for one in own) if what == "samples" else len(own))


def test_a_histogram_has_a_row_per_bin_with_its_weight():
    pytest.importorskip("pandas")
    own = synthetic.samples(0, 1e6, blocks=1, calls=6)[0]
    binned = replace(own, values_ns=(), growth=1.002, bins=(6914, 6915), counts=(2, 4))
    result = synthetic.result([synthetic.record(synthetic.cell("a"))], samples=(binned,))
    frame = kdbench.to_dataframe(result, "samples")
    assert frame.weight.tolist() == [2, 4]
    assert frame.value_ns.between(0.98e6, 1.02e6).all()


def test_several_results_follow_one_another_and_a_column_tells_them_apart(measured):
    pytest.importorskip("pandas")
    later = replace(measured, run=replace(measured.run, id="81d0"))
    frame = kdbench.to_dataframe([measured, later], "slices")
    assert frame.run.unique().tolist() == ["7f3c", "81d0"]
    assert len(frame) == 2 * len(measured.slices)


@pytest.mark.parametrize("what", ["cells", "slices", "windows", "samples"])
def test_a_frame_without_a_row_has_its_columns(what):
    pytest.importorskip("pandas")
    frame = kdbench.to_dataframe(synthetic.result([]), what)
    assert frame.empty
    assert {"run", "backend", "batch"} <= set(frame.columns)
