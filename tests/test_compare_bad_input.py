"""Files that are damaged, hostile, or hold nothing: a sentence or a verdict, never a fault of arithmetic."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from kdbench import journal, results, strict
from kdbench.compare import Loaded, Options, across, compare, compare_named, compare_trial
from kdbench.errors import ResultError
from kdbench.journal import Entry
from kdbench.records import ArtifactRecord, Floor, Samples, Window, Yardstick
from tests import synthetic


def pair(spoil, **parts):
    """Compare a sound run of one latency and one throughput cell with a spoiled one."""
    cells = [
        synthetic.record(synthetic.cell("any", threads=1, scenario=scenario))
        for scenario in ("latency", "throughput")
    ]
    timed = {
        "slices": synthetic.slices({0: 1e5}),
        "windows": synthetic.windows({1: 1_000.0}),
        "samples": synthetic.samples(0, 1e5),
        **parts,
    }
    base = synthetic.run_of(synthetic.result(cells, **timed), "a")
    return compare(Loaded(base, "a.json"), Loaded(spoil(synthetic.run_of(base, "b")), "b.json"))


def verdicts(comparison) -> dict[str, str]:
    return {one.metric: one.verdict for row in comparison.rows for one in row.changes}


def test_a_cell_without_slices_is_not_comparable():
    told = pair(lambda result: replace(result, slices=()))
    assert verdicts(told)["latency.p50"] == "not comparable"
    assert "no measurements of it in new" in told.rows[0].changes[0].reason
    assert verdicts(told)["throughput"] == "inconclusive"


@pytest.mark.parametrize("median_ns", [0.0, -5.0, 1e-320, 1e308])
def test_a_median_that_no_call_takes_is_no_fault_of_arithmetic(median_ns):
    told = pair(
        lambda result: replace(
            result, slices=tuple(replace(one, median_ns=median_ns) for one in result.slices)
        )
    )
    found = told.rows[0].changes[0]
    if not 0 < median_ns < 1e300:
        assert found.verdict == "not comparable"
        assert "which no call takes" in found.reason
    strict.encode(told)  # refuses what is not finite


def test_samples_of_zero_or_less_are_not_comparable():
    def spoil(result):
        return replace(
            result, samples=tuple(replace(one, values_ns=(0,) * one.calls) for one in result.samples)
        )

    assert verdicts(pair(spoil))["latency.p90"] == "not comparable"
    empty = (Samples(cell=0, block=0, calls=0),)
    assert "latency.p90" not in verdicts(pair(lambda result: replace(result, samples=empty)))


def test_windows_that_completed_nothing_are_not_comparable():
    stuck = (Window(cell=1, block=0, depth=1, started_ns=0, duration_ns=0, images=0),)
    assert verdicts(pair(lambda result: replace(result, windows=stuck)))["throughput"] == "not comparable"


def test_a_trial_with_impossible_medians_is_not_comparable():
    result = synthetic.trial()
    spoiled = tuple(replace(one, median_ns=-1.0) if one.cell else one for one in result.slices)
    assert compare_trial(replace(result, slices=spoiled)).verdict == "not comparable"


def test_one_block_gives_figures_and_no_interval():
    told = pair(lambda result: result, slices=synthetic.slices({0: 1e5}, blocks=1))
    found = told.rows[0].changes[0]
    assert (found.verdict, found.low, found.effect) == ("inconclusive", None, 1.0)


def test_a_file_of_failures_only_is_not_comparable():
    def spoil(result):
        failed = (replace(one, status="failed", reason="No.") for one in result.cells)
        return replace(result, cells=tuple(failed), slices=(), windows=())

    base = spoil(synthetic.run_of(synthetic.measured(), "a"))
    told = compare(Loaded(base), Loaded(replace(base, run=replace(base.run, id="b"))))
    assert told.verdict == "not comparable"


def test_no_cell_at_all_is_not_comparable():
    empty = synthetic.result([])
    told = compare(Loaded(synthetic.run_of(empty, "a")), Loaded(synthetic.run_of(empty, "b")))
    assert told.verdict == "not comparable"
    assert across(empty, "backend").verdict == "not comparable"


def test_an_environment_of_nonsense_is_shown_as_it_is():
    deep: dict = {}
    for _ in range(50):
        deep = {"cpu": deep}
    facts = {"cpu": {"model": ["x", ["y"]], "usable": "many", "features": {"a": deep}}, "clock": 7}
    told = pair(lambda result: replace(result, environment={**facts, "host_hash": 5, "python": "3"}))
    assert told.differences


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (Floor, {"block_sd": -1.0}),
        (Floor, {"block_sd": 1e300}),
        (Floor, {"run_sd": -0.1}),
        (Floor, {"run_sd": 1e300}),
        (Floor, {"block_s": -2.0}),
        (Floor, {"block_s": 1e300}),
        (Yardstick, {"median_ns": -1.0}),
        (Yardstick, {"p10_ns": 1e300}),
        (ArtifactRecord, {"compile_s": -1.0}),
        (ArtifactRecord, {"compile_s": 1e300}),
    ],
)
def test_a_number_that_cannot_be_is_refused_where_it_is_read(kind, facts):
    sound = {
        Floor: {"block_sd": 0.01, "blocks": 9, "block_s": 2.0, "batch": 1, "threads": 1}
        | {"backend": "any", "device": "cpu", "scenario": "latency"},
        Yardstick: {"block": 0, "started_ns": 0, "calls": 9, "median_ns": 1.0, "p10_ns": 1.0},
        ArtifactRecord: {"key": "k", "bytes": 1, "compile_s": 1.0, "cached": True},
    }[kind]
    assert strict.decode(json.dumps(sound).encode(), kind, "it")
    with pytest.raises(ResultError, match=next(iter(facts))):
        strict.decode(json.dumps(sound | facts).encode(), kind, "it")


@pytest.mark.parametrize("block_s", [0.0, 1e-320, 1e9])
def test_a_trial_whose_blocks_take_no_time_is_judged(block_s):
    result = synthetic.trial(b_ns=102_500.0, blocks=3)
    told = compare_trial(replace(result, trial=replace(result.trial, block_s=block_s)))
    strict.encode(told)


def test_numbers_at_the_ends_of_what_is_allowed_are_no_fault_of_arithmetic():
    def extreme(result):
        artifact = ArtifactRecord(key="k", bytes=2**63 - 1, compile_s=5e-324, cached=True)
        gauge = Yardstick(block=0, started_ns=0, calls=1, median_ns=5e-324, p10_ns=0.0)
        floor = Floor(
            **{"backend": "any", "device": "cpu", "scenario": "latency", "batch": 1, "threads": 1},
            **{"block_sd": 100.0, "blocks": 1, "block_s": 5e-324, "run_sd": 100.0, "runs": 2**62},
        )
        cells = tuple(replace(one, artifact=artifact) for one in result.cells)
        return replace(result, cells=cells, yardsticks=(gauge,), floors=(floor,))

    gauge = Yardstick(block=0, started_ns=0, calls=1, median_ns=1e18, p10_ns=0.0)
    told = pair(extreme, yardsticks=(gauge,))
    strict.encode(told)  # refuses what is not finite


@pytest.fixture
def files(tmp_path):
    """Give two sound files of two runs."""
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        results.write(synthetic.run_of(synthetic.trial(), path.stem, trial=None), path)
    return paths


def compared(files):
    return compare_named([str(path) for path in files], Options())


def test_a_file_that_is_being_written_is_refused_in_a_sentence(files):
    text = files[1].read_bytes()
    files[1].write_bytes(text[: len(text) // 2])
    with pytest.raises(ResultError, match="ends too early"):
        compared(files)
    files[1].write_bytes(b"")
    with pytest.raises(ResultError, match="is empty"):
        compared(files)


def test_json_of_something_else_is_refused(files):
    files[1].write_text('{"schema": {"name": "kdbench.comparison", "major": 1}}')
    with pytest.raises(ResultError, match=r"no kdbench\.result file"):
        compared(files)
    files[1].write_text("[]")
    with pytest.raises(ResultError):
        compared(files)


@pytest.mark.parametrize("order", [1, -1])
def test_a_newer_version_is_refused_on_either_side(files, order):
    tree = json.loads(files[1].read_text())
    tree["schema"]["major"] = 2
    files[1].write_text(json.dumps(tree))
    with pytest.raises(ResultError, match="newer than"):
        compared(files[::order])


@pytest.mark.parametrize("order", [1, -1])
def test_files_of_two_minor_versions_are_compared_either_way_round(files, order):
    tree = json.loads(files[1].read_text())
    tree["schema"]["minor"] = 0
    files[1].write_text(json.dumps(tree))
    assert compared(files[::order]).exit_code == 0


def test_a_journal_with_a_torn_last_line_counts_as_partial(files, tmp_path):
    whole = synthetic.run_of(synthetic.trial(blocks=3), "c", trial=None)
    planned = replace(whole, slices=(), run=replace(whole.run, status="partial", finished_utc=None))
    path = tmp_path / "c.json.journal"
    with journal.create(path, planned) as log:
        for block in range(3):
            own = tuple(one for one in whole.slices if one.block == block)
            log.append(Entry(kind="block", block=block, cohort=0, scenario="latency", slices=own))
    path.write_bytes(path.read_bytes() + b'{"kind":"block","sli')
    (told,) = compared([files[0], path]).comparisons
    assert any("did not end" in note for note in told.notes)
    assert told.rows[0].changes[0].blocks == (10, 3)
