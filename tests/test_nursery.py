"""Students that are made on first use: once, in a process of their own, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from kdbench import cli, nursery, results
from kdbench.cli.maker import ROOM, answer
from kdbench.errors import Interrupted, RecipeError, StudentError, UsageError
from kdbench.request import _opened_again
from kdbench.student import embedded, load_evaluation, open_student
from tests import odd_students

pytest.importorskip("onnx")

NAME = "mobilenet64"
STUB = """
import json, os, shutil, signal, sys
from pathlib import Path
request = json.loads(sys.argv[1])
with open(os.environ["CALLS"], "a") as calls:
    calls.write(sys.argv[1] + "\\n")
print("Working.", file=sys.stderr)
{}
"""
MAKES = """
shutil.copytree(os.environ["BUNDLE"], request["output"])
print(json.dumps({"path": request["output"]}))
"""
LEAVES_HALF = """
Path(request["output"]).mkdir()
Path(request["output"] + ".partial").mkdir()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Give the folder of some bundle, for the makers of these tests to copy."""
    return odd_students.odd(tmp_path_factory.mktemp("some") / "bundle", "vector").root


@pytest.fixture
def maker(tmp_path, monkeypatch, bundle):
    """Put a maker in the place of the real one: the statements, after it has noted its request."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("BUNDLE", str(bundle))

    def installed(statements: str) -> Path:
        stub = tmp_path / "maker.py"
        stub.write_text(STUB.format(textwrap.dedent(statements)))
        monkeypatch.setattr(nursery, "MAKER", (sys.executable, str(stub)))
        return stub

    return installed


def calls(tmp_path) -> list[dict]:
    """Give the requests that makers were started with."""
    path = tmp_path / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def shelf(cache_folder) -> list[str]:
    return sorted(path.name for path in (cache_folder / "students").glob("*"))


def test_what_can_be_made_is_every_embedded_recipe_whose_student_is_not_embedded():
    assert NAME in nursery.makeable()
    assert not set(embedded()) & set(nursery.makeable())
    assert {"digits-2x5", NAME} <= nursery.recipes().keys()


def test_a_recipe_that_is_based_on_another_inherits_what_it_does_not_say():
    for name in nursery.makeable():
        assert nursery.title(name)
        assert nursery.about_s(name) is None or nursery.about_s(name) > 0
    assert nursery.about_s(NAME)


def test_a_student_is_made_once_and_then_taken_from_the_cache(maker, tmp_path, cache_folder, capfd):
    maker(MAKES)
    told = []
    first = nursery.find(NAME, tell=told.append)
    again = nursery.find(NAME, tell=told.append)
    assert first == again == open_student(first.root)
    assert first.root.parent == cache_folder / "students"
    assert shelf(cache_folder) == [first.root.name]
    assert first.root.name.startswith(f"{NAME}-")
    [asked] = calls(tmp_path)
    assert (asked["type"], asked["recipe"], asked["weights"]) == ("recipe", NAME, "trained")
    [sentence] = told
    assert f"{NAME} (trained weights) is made on first use, in about" in sentence
    assert str(first.root) in sentence
    assert capfd.readouterr().err == "Working.\n"


def test_a_folder_of_the_same_name_is_told_how_it_is_opened(maker, tmp_path, monkeypatch, bundle):
    maker(MAKES)
    monkeypatch.chdir(tmp_path)
    Path(NAME).symlink_to(bundle)
    told = []
    assert nursery.find(NAME, tell=told.append).root.name != NAME
    assert told[0] == f"{NAME} is the student of that name; the folder is opened as ./{NAME}."
    assert nursery.find(f"./{NAME}").root == tmp_path / NAME


def test_random_weights_are_another_student_and_need_no_time_to_be_told(maker, tmp_path, cache_folder):
    maker(MAKES)
    told = []
    trained = nursery.find(NAME)
    random = nursery.find(NAME, weights="random", tell=told.append)
    assert trained.root != random.root
    assert [asked["weights"] for asked in calls(tmp_path)] == ["trained", "random"]
    assert "in about" not in told[0]


def test_a_maker_is_silent_where_nothing_is_to_be_told(maker, capfd):
    maker(MAKES)
    nursery.find(NAME)
    assert capfd.readouterr() == ("", "")


def test_a_student_that_was_altered_since_is_made_again(maker, tmp_path):
    maker(MAKES)
    made = nursery.find(NAME)
    made.files["onnx"].write_bytes(b"another network")
    assert nursery.find(NAME).sha256 == made.sha256
    assert len(calls(tmp_path)) == 2


@pytest.mark.parametrize(
    ("statements", "kind", "told", "hint"),
    [
        (
            'print(json.dumps({"error": "No such thing.", "kind": "RecipeError", "hint": "Mend it."}))',
            RecipeError,
            "No such thing",
            "Mend it.",
        ),
        (
            'print(json.dumps({"error": "Oh.", "kind": "Interrupted"}))',
            Interrupted,
            "nothing of it is kept",
            "",
        ),
        ('print(json.dumps({"error": "Oh.", "kind": "SystemExit"}))', RuntimeError, "Oh", ""),
        ("sys.exit(3)", StudentError, "ended with exit code 3", "printed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", StudentError, "ended with signal 9", "memory"),
        ('print("no JSON")', StudentError, "ended with exit code 0 and no answer", ""),
    ],
)
def test_a_maker_that_fails_is_a_sentence_and_leaves_nothing(
    maker, cache_folder, statements, kind, told, hint
):
    maker(LEAVES_HALF + statements)
    with pytest.raises(kind, match=told) as caught:
        nursery.find(NAME)
    assert hint in getattr(caught.value, "hint", "")
    assert shelf(cache_folder) == []


WAITS = """
with open(os.environ["SIGN"], "w") as sign:
    sign.write(str(os.getpid()))
signal.pause()
"""
PARENT = """
import sys
from kdbench import nursery
nursery.MAKER = (sys.executable, sys.argv[1])
nursery.find(sys.argv[2])
"""


def test_an_interruption_ends_the_maker_and_leaves_nothing(maker, tmp_path, cache_folder, monkeypatch):
    stub = maker(LEAVES_HALF + WAITS)
    sign = tmp_path / "sign"
    os.mkfifo(sign)
    monkeypatch.setenv("SIGN", str(sign))
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(stub), NAME], stderr=subprocess.DEVNULL
    ) as parent:
        child = psutil.Process(int(sign.read_text()))
        assert len(shelf(cache_folder)) == 1
        parent.send_signal(signal.SIGINT)
        parent.wait(30)
    assert not child.is_running()
    assert shelf(cache_folder) == []


def test_another_process_that_was_quicker_is_as_good(maker, tmp_path, cache_folder):
    rival = MAKES + 'shutil.copytree(request["output"], os.environ["RIVAL"])'
    maker(rival)
    os.environ["RIVAL"] = str(nursery._place(NAME, "trained"))
    try:
        made = nursery.find(NAME)
    finally:
        del os.environ["RIVAL"]
    assert shelf(cache_folder) == [made.root.name]


@pytest.mark.parametrize(
    ("where", "settings", "kind", "told"),
    [
        ("digits-2x5", {"weights": "random"}, UsageError, "digits-2x5 comes with its own"),
        ("model.onnx", {"weights": "random"}, UsageError, "model.onnx comes with its own"),
        ("digits-2x5", {"evaluation": Path("e.npz")}, UsageError, "brings its own evaluation split"),
        (NAME, {"evaluation": Path("e.npz")}, UsageError, "brings its own evaluation split"),
        ("model.onnx", {"evaluation": Path("e.npz")}, StudentError, "no 'e.npz' to evaluate with"),
        ("absent.onnx", {}, StudentError, "no model file 'absent.onnx'"),
        ("mobilenet63", {"weights": "random"}, StudentError, "neither an embedded student nor a bundle"),
    ],
)
def test_what_cannot_matter_or_is_not_there_is_refused_before_anything_is_made(
    maker, tmp_path, monkeypatch, where, settings, kind, told
):
    maker(MAKES)
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(b"model")
    with pytest.raises(kind, match=told):
        nursery.find(where, **settings)
    assert calls(tmp_path) == []


def test_a_name_that_is_nearly_right_is_offered():
    with pytest.raises(StudentError) as caught:
        nursery.find("mobilnet64")
    assert caught.value.hint.startswith(f"Did you mean {NAME}?")


@pytest.mark.parametrize(
    ("asked", "kind", "told"),
    [
        ({"recipe": "no-such", "weights": "trained"}, "RecipeError", "'no-such'"),
        ({"recipe": "digits-2x5", "weights": "half"}, "UsageError", "'half'"),
        ({"recipe": "digits-2x5", "weights": "trained", "output": "/proc/x"}, "StudentError", "/proc/x"),
    ],
)
def test_the_real_maker_answers_what_cannot_be_made_in_words(asked, kind, told, tmp_path):
    pytest.importorskip("torch")
    made = answer(nursery.FromRecipe(**{"output": str(tmp_path / "b"), **asked}))
    assert (made.path, made.kind) == ("", kind)
    assert told in made.error


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command line in an empty folder, with ONNX Runtime alone."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KDBENCH_PLUGINS", "onnxruntime")

    def called(*words: object):
        return CliRunner().invoke(cli.main, [str(word) for word in words])

    return called


SHORT = ("--profile", "ci", "--blocks", 1, "--batch", 1, "--scenario", "latency")


def test_the_command_line_makes_a_student_and_its_result_opens_it_again(maker, call):
    maker(MAKES)
    done = call("run", NAME, *SHORT, "--output", "r.json", "-q")
    assert (done.exit_code, done.stdout) == (0, "r.json\n"), done.output
    kept = results.read(Path("r.json")).run.profile["plan"]["student"]
    assert open_student(Path(kept).expanduser()) == nursery.kept(NAME, "trained")


def test_making_is_told_on_standard_error_and_never_on_standard_output(maker, call):
    maker(MAKES)
    done = call("run", NAME, *SHORT, "--dry-run", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["cells"]
    assert "is made on first use" in done.stderr
    assert call("run", NAME, *SHORT, "--dry-run", "--json").stderr == ""


def test_whatever_can_be_refused_is_refused_before_a_student_is_made(maker, call, tmp_path):
    maker(MAKES)
    for words in (["--profile", "quik"], ["--output", "."], ["--blocks", "1", "--budget", "9s"]):
        assert call("run", NAME, *words).exit_code == 2
    assert calls(tmp_path) == []


def test_the_list_of_students_says_what_can_be_made_and_what_is_there(maker, call):
    maker(MAKES)
    before = call("students").stdout
    assert f"{NAME} " in before
    assert "not yet" in before
    assert call("students", "show", NAME).exit_code == 2
    nursery.find(NAME, weights="random")
    [line] = [line for line in call("students", "list").stdout.splitlines() if line.startswith(NAME)]
    assert line.endswith("in the cache: random)")
    assert call("students", "show", NAME).exit_code == 0
    assert "are whole" in call("students", "verify", NAME).stdout


def test_a_model_file_is_imported_once_and_measured_without_an_accuracy(call, cache_folder):
    Path("mine.onnx").write_bytes(odd_students.model("vector"))
    done = call("run", "mine.onnx", *SHORT, "--output", "r.json")
    assert done.exit_code == 0, done.output
    assert "Importing mine.onnx" in done.stderr
    result = results.read(Path("r.json"))
    (row,) = result.cells
    assert (row.status, row.accuracy.correct, row.accuracy.reason) == ("measured", None, "no labels")
    assert "no labels" in done.stdout
    assert open_student(Path(result.run.profile["plan"]["student"]).expanduser()).factory is None
    [name] = shelf(cache_folder)
    assert call("run", "mine.onnx", *SHORT, "--dry-run").exit_code == 0
    assert shelf(cache_folder) == [name]


def test_a_model_file_with_images_to_evaluate_it_has_an_accuracy(call, tmp_path):
    student = odd_students.odd(tmp_path / "odd", "vector")
    evaluation = load_evaluation(student)
    Path("mine.onnx").write_bytes(odd_students.model("vector"))
    np.savez("e.npz", images=evaluation.inputs[0], labels=evaluation.labels)
    done = call("run", "mine.onnx", "--eval", "e.npz", *SHORT, "--output", "r.json")
    assert done.exit_code == 0, done.output
    (row,) = results.read(Path("r.json")).cells
    assert row.accuracy.correct == row.accuracy.images == odd_students.IMAGES


def test_a_model_file_that_is_none_is_refused_in_a_sentence(call, cache_folder):
    Path("mine.onnx").write_bytes(b"not a model")
    done = call("run", "mine.onnx", *SHORT)
    assert done.exit_code == 2
    assert "mine.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert shelf(cache_folder) == []


def test_a_full_disk_is_told_as_the_caches_and_nothing_half_written_stays(call, cache_folder, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise StudentError(
            "The bundle cannot be written to x: No space left.", hint="Choose another --output."
        )

    monkeypatch.setattr("kdbench.intake.on_the_fly", full)
    made = answer(nursery.FromModel(model="m.onnx", evaluation=None, cache=str(cache_folder)))
    assert (made.kind, made.hint) == ("StudentError", ROOM)


def test_the_students_command_offers_the_names_of_those_that_can_be_made(call):
    done = call("students", "show", "mobilnet64")
    assert done.exit_code == 2
    assert f"Did you mean {NAME}?" in done.stderr


def test_a_run_whose_student_is_gone_is_not_resumed_and_the_reason_is_told(tmp_path):
    with pytest.raises(StudentError, match="The student of this run is gone"):
        _opened_again(str(tmp_path / "none"))
