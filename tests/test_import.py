"""`kdbench import` as a user types it: what it prints, what it refuses, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from kdbench.cli.import_ import command
from kdbench.errors import StudentError
from kdbench.student import open_student, read_card
from tests.graphs import classifier, save


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a model in it."""
    monkeypatch.chdir(tmp_path)
    save(classifier(), tmp_path)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def printed(*words: str) -> dict[str, str]:
    """Give what a successful import prints, by label, lines of one label joined."""
    result = call(*words)
    assert result.exception is None, result.exception
    found: dict[str, str] = {}
    label = ""
    for line in result.stdout.split("\n\n")[0].splitlines():
        label = line[:12].strip() or label
        found[label] = f"{found.get(label, '')} {line[12:].strip()}".strip()
    return found


def test_importing_the_command_imports_no_library():
    code = (
        "import sys, kdbench.cli.import_; print({'onnx', 'numpy', 'torch', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_help_names_every_option_and_shows_examples():
    told = call("--help").output
    for option in command.params:
        if isinstance(option, click.Option):
            assert max(option.opts, key=len) in told
    assert "\n  kdbench import model.onnx --eval test.npz\n" in told
    assert max(map(len, told.splitlines())) <= 100


def test_an_import_tells_what_was_found_and_what_to_type_next(work):
    result = call("model.onnx")
    assert result.exit_code == 0
    found = printed("model.onnx", "--overwrite")
    assert found["input"] == "images float32 (N, 3, 8, 8), layout NCHW"
    assert found["output"] == "gemm_4 float32 (N, 3), logits"
    assert found["operators"] == "1 Conv, 1 Flatten, 1 Gemm, 1 GlobalAveragePool, 1 Relu"
    assert found["parameters"] == "127"
    assert found["MACs"] == "1,740 an image"
    assert found["a pixel"].startswith("input = value / 255, as float32")
    assert found["accuracy"] == "none: no labels"
    assert result.stdout.endswith("\nNext:   kdbench run model\n")
    assert open_student(work / "model").sha256[:12] in result.stdout


def test_accuracy_is_told_where_there_are_labels(work):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    np.savez(work / "test.npz", images=images, labels=np.zeros(20, int))
    assert printed("model.onnx", "--eval", "test.npz")["accuracy"].endswith("of 20 right (the reference)")


def test_changes_and_notes_are_told(work):
    save(classifier(batch=8), work)
    found = printed("model.onnx", "--mean", "0.5", "--std", "0.25,0.25,0.25")
    assert found["changed"] == "its batch size of 8 is any now"
    assert found["a pixel"].startswith("input = (value / 255 - 0.5) / 0.25")
    card = read_card(open_student(work / "model"))
    assert card.encoding.std == (0.25,) * 3
    assert card.recipe["import"]["changes"] == ("its batch size of 8 is any now",)


def test_quietly_only_the_path_is_printed(work):
    result = call("model.onnx", "--quiet", "--output", "there", "--name", "small")
    assert result.stdout == f"{work / 'there'}\n"
    assert result.stderr == ""
    assert open_student(work / "there").name == "small"


def test_classes_come_from_the_command_line_or_a_file(work):
    call("model.onnx", "--classes", "ant,bee,cat", "--licence", "MIT")
    student = open_student(work / "model")
    assert student.classes == ("ant", "bee", "cat")
    assert read_card(student).licence == "MIT"
    (work / "names.txt").write_text("ant\nbee, the honey one\ncat\n")
    call("model.onnx", "--classes", "names.txt", "--overwrite")
    assert open_student(work / "model").classes == ("ant", "bee, the honey one", "cat")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shape", "3x0x8"], "no shape such as 3x224x224"),
        (["--mean", "0.5,"], "nothing before, after or between commas"),
        (["--std", "nan"], "is no number"),
        (["--divisor", "many"], "is no number"),
        (["--argument", "classes"], "is not KEY=VALUE"),
        (["--argument", "a={}"], "no truth value, number or text"),
        (["--classes", "ant,ant,bee"], "all different"),
        (["--images", "0"], "--images"),
        (["--layout", "CHW"], "--layout"),
    ],
)
def test_words_that_make_no_sense_are_refused_by_the_option(work, words, says):
    result = call("model.onnx", *words)
    assert result.exit_code == 2
    assert says in result.output
    assert not (work / "model").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--divisor", "0"], "--divisor"), (["--divisor", "-1"], "--divisor"), (["--name", "A B"], "--name")],
)
def test_wishes_that_cannot_be_are_refused_in_a_sentence(work, words, says):
    fault = call("model.onnx", *words).exception
    assert says in str(fault)
    assert not (work / "model").exists()


def test_arguments_are_read_as_what_they_are():
    from kdbench.cli.import_ import Argument

    def read(text: str) -> Any:
        return Argument().convert(f"key={text}", None, None)[1]

    assert [read(text) for text in ("7", "0.5", "true", "True", "[1,2]", "relu", '"7"', "a=b", "")] == [
        7,
        0.5,
        True,
        True,
        (1, 2),
        "relu",
        "7",
        "a=b",
        "",
    ]


def test_a_refused_model_leaves_nothing_behind(work):
    (work / "cut.onnx").write_bytes((work / "model.onnx").read_bytes()[:300])
    before = sorted(work.iterdir())
    assert isinstance(call("cut.onnx").exception, StudentError)
    assert isinstance(call("model.onnx", "--meaning", "probabilities").exception, StudentError)
    assert sorted(work.iterdir()) == before


def test_what_a_file_calls_itself_cannot_reach_the_terminal(work):
    model = classifier()
    model.producer_name = "\x1b[31mred\x1b[0m\nsecond line"
    save(model, work)
    result = call("model.onnx", "--classes", "a\x1b[2J,b,c")
    assert "\x1b" not in result.output
    assert "made by red second line" in result.output


@pytest.mark.parametrize(
    ("folder", "typed"), [("mine", "mine"), ("mobilenet64", "./mobilenet64"), ("-x", "./-x")]
)
def test_what_to_type_next_is_no_option_and_no_other_students_name(work, folder, typed):
    result = call("model.onnx", "--output", f"./{folder}")
    assert result.stdout.endswith(f"kdbench run {typed}\n")


ENDLESS = """
import os, signal, sys, threading
from tests.graphs import Net
import numpy as np
from onnx import TensorProto, helper
kinds = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("v", TensorProto.FLOAT, None)]
takes = [helper.make_tensor_value_info(*kind) for kind in kinds]
gives = [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("w", TensorProto.FLOAT, None)]
nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])]
net = Net()
body = helper.make_graph(nodes, "body", takes, gives)
rounds = net.node("Loop", net.tensor("times", np.array(1 << 60)), "", "images", body=body)
model = net.model(net.head(net.node("Flatten", net.features(rounds)), 3))
open("endless.onnx", "wb").write(model.SerializeToString())
from kdbench import cli
from kdbench.intake.session import Session
run = Session._run
def told(*words):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    return run(*words)
Session._run = told
sys.argv = ["kdbench", "import", "endless.onnx"]
cli.main()
"""


def test_a_model_that_never_answers_is_stopped_by_ctrl_c_and_leaves_nothing(work):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 130
    assert done.stderr.endswith("Error: Interrupted.\n")
    assert sorted(path.name for path in work.iterdir()) == ["endless.onnx", "model.onnx"]


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is Linux's")
def test_memory_is_bounded_while_a_model_is_imported_and_no_longer(work, monkeypatch):
    import resource

    seen = []
    monkeypatch.setattr(
        "kdbench.intake.take", lambda *_: seen.append(resource.getrlimit(resource.RLIMIT_DATA))
    )
    before = resource.getrlimit(resource.RLIMIT_DATA)
    call("model.onnx")
    assert 0 < seen[0][0] < 1 << 50
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
