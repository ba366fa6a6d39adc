"""The store of self-tests: what it derives, and that nothing in it can stop a run."""

from __future__ import annotations

import json
import math
import os
from random import Random

import pytest

from kdbench import environment, floors
from kdbench.errors import ResultError
from kdbench.floors import Sitting
from kdbench.records import Floor


def sitting(**changes) -> Sitting:
    facts = {
        "utc": "2026-03-02T10:00:00Z",
        "backend": "a",
        "device": "cpu",
        "scenario": "latency",
        "batch": 1,
        "threads": 1,
        "student": "5" * 16,
        "runtime_version": "1.0",
        "kdbench": "0.1.0",
        "ratios": (0.01, -0.01, 0.02),
        "block_s": 2.5,
        "levels": (13.8, 13.8),
    }
    return Sitting(**{**facts, **changes})


def a_floor(**changes) -> Floor:
    facts = {"backend": "a", "device": "cpu", "scenario": "latency", "batch": 1, "threads": 1}
    return Floor(**{**facts, "block_sd": 0.01, "blocks": 12, "block_s": 2.5, **changes})


def stored(folder):
    return folder / "floors" / f"{environment.host_hash()}.json"


def test_what_was_kept_comes_back_and_adds_up(cache_folder):
    path = floors.add([sitting()])
    floors.add([sitting(utc="2026-03-02T12:00:00Z"), sitting(backend="b")])
    assert path == stored(cache_folder)
    one, other = floors.load()
    assert floors.load(environment.host_hash()) == (one, other)
    by_backend = {floor.backend: floor for floor in (one, other)}
    assert (by_backend["a"].blocks, by_backend["a"].runs) == (6, 2)
    assert (by_backend["a"].since_utc, by_backend["a"].until_utc) == (
        "2026-03-02T10:00:00Z",
        "2026-03-02T12:00:00Z",
    )


def test_the_scatter_within_a_run_is_about_zero_for_nothing_differs():
    (floor,) = floors.derive([sitting(ratios=(0.03, 0.03, 0.03))])
    assert floor.block_sd == pytest.approx(0.03)


def test_the_scatter_between_runs_needs_three_of_them():
    levels = [(13.7, 13.7), (13.8, 13.8), (13.9, 13.9)]
    assert floors.derive([sitting(levels=one) for one in levels[:2]])[0].run_sd is None
    (floor,) = floors.derive([sitting(levels=one) for one in levels])
    assert floor.run_sd == pytest.approx(0.1)
    assert floor.runs == 3


def test_students_of_unlike_speed_do_not_count_as_scatter_between_runs():
    random = Random(7)
    many = [
        sitting(student=name, levels=(level + random.gauss(0, 0.05), level + random.gauss(0, 0.05)))
        for name, level in (("x", 11.0), ("y", 15.0))
        for _ in range(100)
    ]
    (floor,) = floors.derive(many)
    assert floor.run_sd == pytest.approx(0.05, rel=0.15)
    assert floor.runs == 199
    alone = [sitting(student=str(number), levels=(number, number)) for number in range(5)]
    assert floors.derive(alone)[0].run_sd is None


def test_versions_of_a_runtime_are_kept_apart_and_the_last_kdbench_counts():
    found = floors.derive(
        [
            sitting(kdbench="0.2.0", utc="2026-05-01T00:00:00Z"),
            sitting(kdbench="0.1.0", ratios=(0.5, 0.5)),
            sitting(runtime_version="2.0"),
            sitting(threads=2),
            sitting(batch=8),
        ]
    )
    assert len(found) == 4
    newest = next(one for one in found if one.until_utc == "2026-05-01T00:00:00Z")
    assert (newest.blocks, newest.block_sd < 0.1) == (3, True)


def test_one_block_is_no_floor():
    assert floors.derive([sitting(ratios=(0.01,))]) == ()
    assert floors.derive([]) == ()


def test_the_smallest_change_shrinks_with_the_time_and_a_trial_has_three_blocks():
    floor = a_floor()
    short, blocks = floors.in_one_run(floor, 1.0)
    assert blocks == 3
    assert short == pytest.approx(math.expm1(4.302653 * 0.01 / math.sqrt(3)), rel=1e-5)
    long, blocks = floors.in_one_run(floor, 30.0)
    assert blocks == 12
    assert long < short / 3


def test_between_two_runs_both_errors_count():
    assert floors.between_runs(a_floor()) is None
    known = floors.between_runs(a_floor(run_sd=0.1, runs=3))
    assert known == pytest.approx(math.expm1(4.302653 * math.sqrt(2) * 0.1), rel=1e-5)


def test_false_alarms_are_counted_without_a_margin_and_beyond_one():
    tested = [
        sitting(ratios=(0.01, -0.01, 0.005)),
        sitting(ratios=(0.02, 0.021, 0.019)),
        sitting(ratios=(0.2, 0.21, 0.19)),
        sitting(ratios=(0.5,)),
    ]
    assert floors.alarms(tested) == (2, 3)
    assert floors.alarms(tested, 0.03) == (1, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"format": 1, "sittings": [{"utc": 7}]}',
        b'{"format": "x"}',
        json.dumps({"sittings": [{**dict.fromkeys(("utc", "backend"), "x"), "ratios": [1e300]}]}).encode(),
        b'{"sittings": [' + b"[" * 5000,
    ],
    ids=range(9),
)
def test_a_damaged_file_is_told_of_and_set_aside_and_never_in_the_way(cache_folder, content):
    path = stored(cache_folder)
    path.parent.mkdir()
    path.write_bytes(content)
    assert floors.load() == ()
    fault = floors.opened().fault
    assert fault.endswith(".")
    assert "\n" not in fault
    floors.add([sitting()])
    assert len(floors.load()) == 1
    assert path.with_suffix(".damaged").read_bytes() == content


@pytest.mark.parametrize(
    "change", [{"ratios": [11.0]}, {"threads": 0}, {"block_s": 0}, {"levels": [1, 2, 3]}]
)
def test_a_file_with_figures_that_cannot_be_is_not_used(cache_folder, change):
    path = floors.add([sitting()])
    tree = json.loads(path.read_text())
    tree["sittings"][0].update(change)
    path.write_text(json.dumps(tree))
    assert floors.load() == ()
    assert floors.opened().fault


def test_a_file_of_a_newer_kdbench_is_left_alone_until_something_is_added(cache_folder):
    path = floors.add([sitting()])
    path.write_text(path.read_text().replace('"format":1', '"format":9'))
    assert floors.load() == ()
    assert "newer kdbench" in floors.opened().fault


def test_a_folder_in_the_place_of_the_file_is_no_crash(cache_folder):
    stored(cache_folder).mkdir(parents=True)
    assert floors.load() == ()
    assert floors.opened().fault


def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence_and_read_as_nothing(cache_folder):
    (cache_folder / "floors").write_text("in the way")
    assert floors.load() == ()
    with pytest.raises(ResultError, match="cannot be kept"):
        floors.add([sitting()])


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(cache_folder):
    (cache_folder / "floors").mkdir(mode=0o500)
    with pytest.raises(ResultError, match="Permission denied"):
        floors.add([sitting()])


@pytest.mark.parametrize(
    "claimed", ["", "../../etc/passwd", "x", "0" * 65, "ABCDEF0123456789", "12\n34567890"]
)
def test_a_hash_that_is_none_names_no_file(claimed):
    floors.add([sitting()])
    assert floors.load(claimed) == ()
    assert floors.load("0" * 16) == ()


def test_a_cache_folder_that_cannot_be_had_gives_no_floors(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert floors.load() == ()
    assert "cannot be used" in floors.opened().fault


def test_of_one_kind_the_latest_are_kept():
    many = [sitting(utc=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z") for number in range(250)]
    floors.add([*reversed(many), sitting(backend="b")])
    kept = floors.opened().sittings
    assert len(kept) == floors.KEPT + 1
    assert min(one.utc for one in kept if one.backend == "a") == many[50].utc
