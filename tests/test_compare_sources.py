"""Which files a command line means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from kdbench import results
from kdbench.compare import Options, compare_named, named
from kdbench.errors import ResultError, UsageError
from tests import synthetic


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Give an empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, name: str, day: int = 2, **parts) -> Path:
    path.parent.mkdir(exist_ok=True)
    results.write(synthetic.run_of(synthetic.trial(blocks=3, **parts), name, day, trial=None), path)
    return path


def names(*words: str) -> list[str]:
    return [str(path) for path in named(words)]


def test_files_stay_in_the_order_given(folder):
    write(folder / "b.json", "b")
    write(folder / "a.json", "a")
    assert names("b.json", "a.json") == ["b.json", "a.json"]


def test_a_folder_stands_for_its_results_oldest_first(folder):
    write(folder / "all/a.json", "a", day=9)
    write(folder / "all/b.json", "b", day=3)
    (folder / "all/other.json").write_text('{"schema": {"name": "kdbench.comparison", "major": 1}}')
    (folder / "all/notes.txt").write_text("none")
    assert names("all") == ["all/b.json", "all/a.json"]


def test_what_is_no_result_is_passed_over_in_folders_and_patterns_alone(folder):
    write(folder / "all/a.json", "a")
    for name, text in (("list", "[1]"), ("old", '{"schema": 1}'), ("broken", "{"), ("empty", "")):
        (folder / f"all/{name}.json").write_text(text)
    (folder / "all/nowhere.json").symlink_to("gone.json")
    (folder / "all/folder.json").mkdir()
    assert names("all") == names("all/*.json") == ["all/a.json"]
    for name in ("list", "old", "broken", "empty", "nowhere"):
        with pytest.raises(ResultError, match=name):
            compare_named(("all/a.json", f"all/{name}.json"), Options())


def test_trials_are_passed_over_where_runs_are_meant(folder):
    for day, name in ((4, "a"), (6, "b")):
        write(folder / f"results/{name}.json", name, day)
    for day, name in ((5, "t"), (7, "u")):
        results.write(synthetic.run_of(synthetic.trial(blocks=3), name, day), folder / f"results/{name}.json")
    assert names("previous", "latest") == ["results/a.json", "results/b.json"]
    assert names("results") == names("results/*.json") == ["results/a.json", "results/b.json"]
    assert names("latest") == ["results/u.json"]
    assert compare_named(("latest",), Options()).comparisons[0].base.side == "a"
    for name in "ab":
        (folder / f"results/{name}.json").unlink()
    for word in ("results", "results/*.json"):
        with pytest.raises(UsageError, match="only trials"):
            named((word, "other.json"))


def test_links_that_lead_nowhere_do_not_hide_the_latest(folder):
    write(folder / "results/a.json", "a")
    (folder / "results/nowhere.json").symlink_to("gone.json")
    assert names("latest") == ["results/a.json"]


def test_a_quoted_pattern_is_expanded(folder):
    for name in ("run-2", "run-1", "other"):
        write(folder / f"{name}.json", name)
    (folder / "run-3.json.journal").touch()
    assert names("run-*.json") == ["run-1.json", "run-2.json"]
    assert names("run-?.json*") == ["run-1.json", "run-2.json", "run-3.json.journal"]


def test_latest_and_previous_are_the_newest_finished_results(folder):
    for day, name in ((4, "a"), (6, "b"), (5, "c")):
        write(folder / f"results/{name}.json", name, day)
    (folder / "results/broken.json").write_text("{")
    assert names("previous", "latest") == ["results/c.json", "results/b.json"]


def test_latest_is_looked_for_here_where_there_is_no_folder_of_results(folder):
    write(folder / "a.json", "a")
    assert names("latest") == ["a.json"]
    with pytest.raises(UsageError, match="no previous result"):
        named(("previous", "latest"))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_is_refused(folder, link):
    write(folder / "a.json", "a")
    link("a.json", "b.json")
    for words in (("a.json", "a.json"), ("a.json", "./a.json"), ("a.json", "b.json")):
        with pytest.raises(UsageError, match="one file"):
            named(words)


def test_one_run_in_two_files_is_refused(folder):
    write(folder / "a.json", "same")
    write(folder / "b.json", "same")
    write(folder / "c.json", "other")
    with pytest.raises(UsageError, match="same run"):
        compare_named(("a.json", "b.json"), Options())
    with pytest.raises(UsageError, match="same run"):
        compare_named(("c.json", "a.json", "b.json"), Options())


def test_ten_thousand_files_are_refused_before_any_is_read(folder):
    for number in range(10_000):
        (folder / f"{number}.json").touch()
    with pytest.raises(UsageError, match="10,000 files"):
        named(("*.json",))
    with pytest.raises(UsageError, match="10,000 files"):
        named((str(folder),))


def test_what_is_not_there_says_so(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="no result in empty"):
        named(("empty",))
    with pytest.raises(UsageError, match="No file matches"):
        named(("none*.json",))
    with pytest.raises(ResultError, match=r"no file none\.json"):
        compare_named(("none.json", "other.json"), Options())


def test_more_than_two_files_are_each_compared_with_the_first(folder):
    words = [str(write(folder / f"{name}.json", name)) for name in "abc"]
    told = compare_named(words, Options())
    assert [(one.base.run, one.new.run) for one in told.comparisons] == [("a", "b"), ("a", "c")]


def test_means_of_more_than_two_files_are_over_rows_that_are_valid_in_all(folder):
    cells = [synthetic.record(synthetic.cell(name)) for name in ("one", "two", "three")]
    for name, broken in (("a", None), ("b", None), ("c", 2)):
        own = [replace(one, status="failed") if k == broken else one for k, one in enumerate(cells)]
        slices = synthetic.slices({0: 1e5, 1: 2e5, 2: 3e5})
        results.write(synthetic.run_of(synthetic.result(own, slices=slices), name), folder / f"{name}.json")
    told = compare_named(("a.json", "b.json", "c.json"), Options())
    assert [one.means[0].rows for one in told.comparisons] == [2, 2]
    assert compare_named(("a.json", "b.json"), Options()).comparisons[0].means[0].rows == 3


def test_one_file_alone_is_a_trial_or_lacks_another(folder):
    results.write(synthetic.trial(b_ns=2e5), folder / "trial.json")
    assert compare_named(("trial.json",), Options()).exit_code == 1
    write(folder / "run.json", "run")
    with pytest.raises(UsageError, match="second result is missing") as caught:
        compare_named(("run.json",), Options())
    assert "--across" in caught.value.hint


def test_a_trial_is_not_compared_with_another_file(folder):
    results.write(synthetic.run_of(synthetic.trial(), "trial"), folder / "trial.json")
    write(folder / "run.json", "run")
    with pytest.raises(UsageError, match=r"trial\.json is a trial"):
        compare_named(("run.json", "trial.json"), Options())


def test_across_takes_one_file(folder):
    words = [str(write(folder / f"{name}.json", name)) for name in "ab"]
    with pytest.raises(UsageError, match="one file, and 2 are named"):
        compare_named(words, Options(), key="backend")
