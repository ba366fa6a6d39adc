"""The journal: what was acknowledged survives any kill; nothing else is taken for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec import structs

from kdbench import journal, results
from kdbench.errors import ResultError
from kdbench.journal import Entry
from kdbench.records import (
    BackendRecord,
    CellRecord,
    MemoryRecord,
    Result,
    Run,
    Samples,
    Slice,
    Stretch,
    Subject,
    Window,
)
from kdbench.spec import Cell

KEY = Cell(backend="numpy", device="cpu", precision="fp32", batch=1, scenario="latency")
PLANNED = Result(
    run=Run(id="a", started_utc="2026-01-02T03:04:05Z", kdbench="0.1.0"),
    subject=Subject(student="s", student_sha256="0" * 64, task="classification", classes=("a", "b")),
    environment={"cpu": {"model": "M"}},
    backends=(BackendRecord(name="numpy", status="available"),),
    cells=(
        CellRecord(cell=KEY, status="failed", reason="not reached"),
        CellRecord(cell=replace(KEY, batch=8), status="failed", reason="not reached"),
    ),
)


def a_block(number: int, calls: int = 5) -> Entry:
    statistics = dict.fromkeys(("median_ns", "p10_ns", "p25_ns", "p75_ns", "mean_ns"), 10.0)
    times = {"started_ns": number, "duration_ns": 100, "min_ns": 9, "max_ns": 12}
    return Entry(
        kind="block",
        scenario="latency",
        block=number,
        slices=(Slice(cell=0, block=number, calls=calls, **times, **statistics),),
        samples=(Samples(cell=0, block=number, calls=calls, values_ns=tuple(range(calls))),),
    )


def a_journal(path: Path, blocks: int = 3) -> Path:
    with journal.create(path, PLANNED) as opened:
        for number in range(blocks):
            opened.append(a_block(number))
    return path


@pytest.fixture
def path(tmp_path) -> Path:
    return journal.journal_path(tmp_path / "r.json")


def refusal(path: Path) -> ResultError:
    with pytest.raises(ResultError) as caught:
        journal.open_result(path)
    assert str(caught.value).isprintable()
    return caught.value


def outcome(path: Path) -> Result | ResultError:
    try:
        return journal.open_result(path)
    except ResultError as error:
        return error


def test_the_journal_lies_beside_its_result():
    assert journal.journal_path(Path("a/r.json")) == Path("a/r.json.journal")


def test_a_journal_without_an_entry_is_the_plan_as_a_partial_result(path):
    assert journal.fold(a_journal(path, 0)) == PLANNED


def test_entries_are_folded_in_order_and_the_last_record_of_a_cell_holds(path):
    measured = CellRecord(cell=KEY, status="measured")
    times = {"started_ns": 1, "duration_ns": 2}
    entries = [
        Entry(kind="stage", stages=(("probe", 0.5),)),
        Entry(
            kind="cells", cells={0: measured}, backends=(BackendRecord(name="torch-cpu", status="failed"),)
        ),
        a_block(0),
        Entry(
            kind="windows",
            scenario="throughput",
            block=0,
            windows=(Window(cell=1, block=0, depth=2, images=7, **times),),
            backends=(BackendRecord(name="numpy", status="available", version="2"),),
        ),
        Entry(
            kind="stretch", stretches=(Stretch(cell=0, calls=1, step_s=1.0, medians_ns=(None, 2.5), **times),)
        ),
        Entry(kind="cells", cells={0: structs.replace(measured, memory=MemoryRecord(reason="none"))}),
    ]
    with journal.create(path, PLANNED) as opened:
        for entry in entries:
            opened.append(entry)
    result = journal.fold(path)
    assert result.cells == (
        CellRecord(cell=KEY, status="measured", memory=MemoryRecord(reason="none")),
        PLANNED.cells[1],
    )
    assert [(record.name, record.version) for record in result.backends] == [
        ("numpy", "2"),
        ("torch-cpu", ""),
    ]
    assert (result.slices, result.samples) == (a_block(0).slices, a_block(0).samples)
    assert (result.windows, result.stretches) == (entries[3].windows, entries[4].stretches)
    assert result.stages == (("probe", 0.5),)
    assert result.run == PLANNED.run


def test_finished_names_the_blocks_that_need_not_be_measured_again(path):
    entries = [
        a_block(0),
        structs.replace(a_block(0), cohort=1),
        Entry(kind="windows", scenario="throughput", block=2),
        Entry(kind="cells", scenario="latency", block=7),
    ]
    expected = {("latency", 0, 0), ("latency", 0, 1), ("throughput", 2, 0)}
    assert journal.finished(entries) == expected
    with journal.create(path, PLANNED) as opened:
        for entry in entries:
            opened.append(entry)
    assert journal.finished(path) == expected


def test_a_journal_is_not_begun_where_there_is_one(path):
    before = a_journal(path).read_bytes()
    with pytest.raises(ResultError, match="already") as caught:
        journal.create(path, PLANNED)
    assert "--resume" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["absent/r.journal", "n" * 300])
def test_a_journal_that_cannot_be_begun_is_a_sentence(tmp_path, name):
    with pytest.raises(ResultError, match="cannot be written"):
        journal.create(tmp_path / name, PLANNED)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_cut_anywhere_holds_every_whole_line_before_the_cut(path):
    whole = a_journal(path).read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < header:
            refusal(path)
        else:
            assert len(journal.fold(path).slices) == whole[header:length].count(b"\n")


def test_a_journal_torn_in_its_first_line_says_that_nothing_was_measured(path):
    path.write_bytes(a_journal(path).read_bytes()[:40])
    assert "nothing was measured" in refusal(path).message


def test_a_broken_line_in_the_middle_is_refused_by_its_number(path):
    lines = a_journal(path).read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1], lines[2][:30] + b"\n", lines[3]]))
    assert "Line 3 of" in refusal(path).message


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (Entry(kind="cells", cells={2: PLANNED.cells[0]}), "Line 6 of"),
        (Entry(kind="cells", cells={-1: PLANNED.cells[0]}), "Line 6 of"),
        (
            Entry(
                kind="windows",
                windows=(Window(cell=9, block=0, depth=1, started_ns=0, duration_ns=1, images=1),),
            ),
            "windows[0].cell is 9",
        ),
    ],
)
def test_an_entry_about_a_cell_that_was_not_planned_is_refused(path, entry, told):
    a_journal(path)
    with journal.reopen(path)[1] as opened:
        opened.append(entry)
    message = refusal(path).message
    assert told in message
    assert "inconsistent" in message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"name":"kdbench.journal","major":1', '"name":"kdbench.journal","major":2', "newer"),
        ('"name":"kdbench.result","major":1', '"name":"kdbench.result","major":2', "newer"),
        ('"name":"kdbench.journal","major":1', '"name":"kdbench.journal","major":0', "Finish the run with"),
        ('"name":"kdbench.result","major":1', '"name":"kdbench.result","major":0', "Finish the run with"),
        ('"name":"kdbench.journal"', '"name":"diary"', "says that it is 'diary'"),
    ],
)
def test_a_journal_of_another_version_is_refused(path, old, new, told):
    text = a_journal(path).read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert told in str(refusal(path))


def test_a_number_that_json_does_not_have_is_refused_and_leaves_the_journal_whole(path):
    with journal.create(path, PLANNED) as opened:
        with pytest.raises(ResultError, match="nan"):
            opened.append(Entry(kind="stage", stages=(("probe", float("nan")),)))
        opened.append(a_block(0))
    assert len(journal.fold(path).slices) == 1


def test_a_full_disk_costs_only_the_entry_that_did_not_fit(path):
    # A limit on the size of files stands for the full disk: write() fails half-way in the same manner.
    a_journal(path, 1)
    program = f"""
import resource
from pathlib import Path
from kdbench import journal
from kdbench.errors import ResultError
_, opened = journal.reopen(Path({str(path)!r}))
size = opened.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, size + 300))
try:
    opened.append(journal.Entry(kind="stage", stages=(("x" * 1000, 1.0),)))
except ResultError as error:
    print(error)
assert opened.path.stat().st_size == size
opened.append(journal.Entry(kind="stage", stages=(("small", 1.0),)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in done.stdout
    result = journal.fold(path)
    assert (len(result.slices), result.stages) == (1, (("small", 1.0),))


def test_a_journal_never_outgrows_what_can_be_read_again(path, monkeypatch):
    with journal.create(path, PLANNED) as opened:
        opened.append(a_block(0))
        monkeypatch.setattr(results, "MAX_BYTES", path.stat().st_size + 10)
        with pytest.raises(ResultError, match="outgrow"):
            opened.append(a_block(1))
    assert len(journal.fold(path).slices) == 1


def test_a_reopened_journal_loses_its_torn_line_goes_on_and_tells_so(path):
    whole = a_journal(path).read_bytes()
    path.write_bytes(whole[:-20])
    result, opened = journal.reopen(path)
    assert (len(result.slices), result.run.resumed) == (2, 1)
    opened.append(a_block(2))
    opened.close()
    opened.close()
    again, last = journal.reopen(path)
    last.close()
    assert [part.block for part in again.slices] == [0, 1, 2]
    assert again.run.resumed == 2
    assert journal.fold(path) == again


def test_two_processes_cannot_write_to_one_journal(path):
    a_journal(path)
    _, opened = journal.reopen(path)
    before = path.read_bytes()
    program = f"""
from pathlib import Path
from kdbench import journal
from kdbench.errors import ResultError
try:
    journal.reopen(Path({str(path)!r}))
except ResultError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Another kdbench is writing" in done.stdout
    assert path.read_bytes() == before
    opened.close()
    journal.reopen(path)[1].close()


def test_a_closed_journal_takes_no_entry(path):
    opened = journal.create(path, PLANNED)
    opened.close()
    with pytest.raises(ResultError, match="closed"):
        opened.append(a_block(0))


def test_what_is_no_journal_is_not_reopened_nor_changed(tmp_path):
    path = tmp_path / "r.json"
    results.write(PLANNED, path)
    before = path.read_bytes()
    with pytest.raises(ResultError):
        journal.reopen(path)
    with pytest.raises(ResultError, match="cannot be written"):
        journal.reopen(tmp_path / "absent")
    assert path.read_bytes() == before


def test_a_result_and_a_journal_open_alike_whatever_their_names(tmp_path):
    results.write(PLANNED, tmp_path / "x.journal")
    a_journal(tmp_path / "y.json", 0)
    assert journal.open_result(tmp_path / "x.journal") == journal.open_result(tmp_path / "y.json") == PLANNED


def test_a_missing_result_whose_journal_exists_leads_to_it(path):
    a_journal(path)
    assert str(path) in refusal(path.with_suffix("")).hint


@pytest.mark.parametrize("path", [Path("/"), Path()])
def test_a_path_without_a_name_is_refused_in_a_sentence(path):
    assert "is not a file" in refusal(path).message


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from kdbench import journal
_, opened = journal.reopen(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    opened.append(journal.Entry(kind="stage", stages=((f"{number}:" + "x" * 200_000, 1.0),)))
    print(number, flush=True)
    number += 1
"""


def test_every_acknowledged_entry_survives_kill_9_in_the_middle_of_appending(path):
    a_journal(path, 0)
    for acknowledged in range(1, 13):
        begun = len(journal.fold(path).stages)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(begun)], stdout=subprocess.PIPE, text=True
        )
        with writer:
            seen = [int(writer.stdout.readline()) for _ in range(acknowledged % 4 + 1)]
            # The writer never waits. Killed now it prepares the next entry; killed when the file grows it
            # is inside write() or fsync().
            size = path.stat().st_size
            while acknowledged % 2 and path.stat().st_size == size:
                pass
            os.kill(writer.pid, signal.SIGKILL)
            seen += [int(line) for line in writer.stdout]
        assert writer.returncode == -signal.SIGKILL
        result = journal.fold(path)
        numbers = [int(name.split(":")[0]) for name, _ in result.stages]
        assert numbers == list(range(len(numbers)))
        assert seen == list(range(begun, begun + len(seen)))
        assert len(numbers) > seen[-1]
        assert result.run.resumed == acknowledged


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_give_a_sentence(tmp_path, content, headed):
    path = tmp_path / "x"
    path.write_bytes(b'{"journal":' * headed + content)
    assert refusal(path).exit_code == 2


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_gives_a_result_or_a_sentence(tmp_path, data):
    path = tmp_path / "x.journal"
    path.unlink(missing_ok=True)
    whole = bytearray(a_journal(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 8)))
        whole[start:end] = data.draw(st.binary(max_size=8))
    path.write_bytes(whole)
    found = outcome(path)
    if isinstance(found, Result):
        results.check(found, "it")
        assert json.dumps(found.environment, allow_nan=False)
    else:
        assert str(found).isprintable()


def test_cells_that_were_planned_on_the_way_follow_the_others_and_may_be_spoken_of_from_then_on(path):
    own = CellRecord(cell=replace(KEY, batch=6), status="measured")
    with journal.create(path, PLANNED) as opened:
        opened.append(Entry(kind="cells", added=(own,)))
        opened.append(Entry(kind="cells", cells={2: structs.replace(own, status="failed", reason="gone")}))
    folded = journal.fold(path)
    assert [one.cell.batch for one in folded.cells] == [1, 8, 6]
    assert folded.cells[2].reason == "gone"
    assert journal.fold(path, through=lambda _: False).cells == PLANNED.cells


def test_a_cell_is_spoken_of_only_after_it_was_planned(path):
    own = CellRecord(cell=replace(KEY, batch=6), status="measured")
    with journal.create(path, PLANNED) as opened:
        opened.append(Entry(kind="cells", cells={2: own}))
        opened.append(Entry(kind="cells", added=(own,)))
    assert "Line 2" in refusal(path).message
    assert "there are 2 cells" in refusal(path).message
