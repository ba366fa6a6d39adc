"""A short real distillation: what it leaves behind, how it goes on, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import kdbench.distill
from kdbench.card import Card
from kdbench.cli.distill import command
from kdbench.distill import Outcome, Wish, distill, partial_folder
from kdbench.distill.export import check_agreement, load_weights
from kdbench.distill.nets import build
from kdbench.distill.recipe import Recipe, parse_recipe, read_recipe
from kdbench.distill.train import Update, predict
from kdbench.errors import Interrupted, RecipeError, StudentError, UsageError
from kdbench.student import (
    check_writable,
    load_calibration,
    load_evaluation,
    open_student,
    read_card,
    teacher_of,
)
from tests.brief import brief, quiet

torch = pytest.importorskip("torch")


def test_a_place_that_takes_no_bundle_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "bundle", Path("/proc/bundle")):
        with pytest.raises(StudentError, match="cannot be written"):
            check_writable(place)
    check_writable(tmp_path / "new" / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("found", [[[3.0, -2.9]], [[3.0, math.nan]]], ids=["far", "not a number"])
def test_an_exported_form_that_answers_otherwise_is_refused(found: list[list[float]]) -> None:
    with pytest.raises(StudentError, match="not the network that was trained"):
        check_agreement("ONNX", np.array(found), np.array([[3.0, -3.0]]))
    check_agreement("ONNX", np.array([[3.002, -3.0]]), np.array([[3.0, -3.0]]))


def test_libraries_that_lack_are_named_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        kdbench.distill, "find_spec", lambda name: None if name in ("torch", "sklearn") else name
    )
    with pytest.raises(UsageError, match=r"scikit-learn, torch\. .*requirements-dev\.txt"):
        distill(read_recipe(), Wish(directory=tmp_path / "never"), quiet)
    assert not (tmp_path / "never").exists()


def test_a_strangers_factory_runs_only_for_those_who_trust_it(tmp_path: Path) -> None:
    table = brief()
    table["student"] = {"network": "os:system", "arguments": {"command": f"touch {tmp_path}/hit"}}
    with pytest.raises(RecipeError, match=r"'os:system'.*--trust-code"):
        distill(parse_recipe(table, "evil.toml"), Wish(directory=tmp_path / "bundle"), quiet)
    assert list(tmp_path.iterdir()) == []


class Run:
    """A short distillation with controls and two seeds that several tests look at."""

    def __init__(self, directory: Path) -> None:
        self.recipe: Recipe = parse_recipe(brief(seeds=2, bundle={"teacher": True}), "brief.toml")
        self.updates: list[Update] = []
        self.announced: list[object] = []
        outcome = distill(
            self.recipe,
            Wish(directory=directory),
            self.updates.append,
            lambda forecast, stages: self.announced.append((forecast, tuple(stages))),
        )
        assert outcome is not None
        self.outcome: Outcome = outcome
        self.card: Card = read_card(outcome.student)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("distill") / "bundle")


def test_a_distillation_leaves_a_bundle_that_opens(run: Run) -> None:
    student = open_student(run.outcome.student.root)
    evaluation = load_evaluation(student)
    assert evaluation.labels is not None
    assert len(evaluation) == len(evaluation.labels) == 50
    assert load_calibration(student)[0].shape == (16, 3, 16, 16)
    assert (student.parameters, student.macs) == (6_186, 186_368)
    assert run.card.teacher is not None
    assert (run.card.teacher.parameters, run.card.teacher.macs) == (315_426, 3_299_712)
    assert run.card.recipe["data.shift"] == msgspec.to_builtins(run.recipe.data.shift)
    assert run.card.recipe["distill.terms.0"] == {"method": "kd", "weight": 1.0}
    assert run.card.recipe["distill.terms.0.settings"] == {"temperature": 4.0}


def test_the_rows_of_the_ladder_say_what_each_network_was_given(run: Run) -> None:
    rows = [(row.row, row.domain, row.labels, row.images, row.seeds) for row in run.card.ladder]
    seeds = (0, 1)
    assert rows == [
        ("teacher-source", "source", 0, 20, seeds),
        ("teacher-zero-shot", "target", 0, 50, seeds),
        ("teacher-adapted-norms", "target", 0, 50, seeds),
        ("teacher-fine-tuned", "target", 120, 50, seeds),
        ("student-scratch", "target", 120, 50, seeds),
        ("student-transfer", "target", 120, 50, seeds),
        ("student-self-trained", "target", 120, 50, seeds),
        ("student-distilled", "target", 120, 50, seeds),
        ("student-oracle", "target", 184, 50, seeds),
    ]


def test_weights_and_onnx_answer_as_the_reference_at_any_batch(run: Run) -> None:
    import onnxruntime

    student = run.outcome.student
    evaluation = load_evaluation(student)
    network = build("tiny-student", student.arguments, seed=5)
    load_weights(network, student.files["weights"].read_bytes())
    stored = np.rint(evaluation.inputs[0] * 255).astype(np.uint8)
    assert np.abs(predict(network, stored) - evaluation.logits).max() <= 1e-3
    session = onnxruntime.InferenceSession(student.files["onnx"], providers=["CPUExecutionProvider"])
    for batch in (1, 3, 50):
        (logits,) = session.run(["logits"], {"images": evaluation.inputs[0][:batch]})
        assert np.abs(logits - evaluation.logits[:batch]).max() <= 1e-3


def test_the_bundle_keeps_the_teacher_with_a_reference_of_its_own(run: Run) -> None:
    import onnxruntime

    teacher = teacher_of(run.outcome.student)
    assert (teacher.role, teacher.factory, teacher.parameters) == ("teacher", "tiny-teacher", 315_426)
    evaluation = load_evaluation(teacher)
    session = onnxruntime.InferenceSession(teacher.files["onnx"], providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": evaluation.inputs[0]})
    assert np.abs(logits - evaluation.logits).max() <= 1e-3
    row = next(row for row in run.card.ladder if row.row == "teacher-fine-tuned")
    assert int((logits.argmax(1) == evaluation.labels).sum()) == row.correct[0]
    assert run.card.teacher is not None
    assert run.card.teacher.sha256 == run.card.files["teacher-weights"].sha256
    assert run.card.teacher.bytes == run.card.files["teacher-weights"].bytes


def test_the_onnx_file_is_folded_and_tells_nothing_of_its_maker(run: Run) -> None:
    import onnx

    model = onnx.load(run.outcome.student.files["onnx"])
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Sub", "Div", "Conv", "Relu", "ReduceMean", "Gemm"}
    assert model.opset_import[0].version == 20
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_does_not(run: Run, tmp_path: Path) -> None:
    again = distill(run.recipe, Wish(directory=tmp_path / "again"), quiet)
    assert again is not None
    for path in run.outcome.student.root.iterdir():
        assert path.read_bytes() == (again.student.root / path.name).read_bytes(), path.name
    assert again.picture is not None
    assert run.outcome.picture is not None
    assert again.picture.read_bytes() == run.outcome.picture.read_bytes()
    other = distill(
        msgspec.structs.replace(run.recipe, seed=1, seeds=1),
        Wish(directory=tmp_path / "other", controls=False),
        quiet,
    )
    assert other is not None
    assert [row.row for row in other.card.ladder] == [
        "teacher-source",
        "teacher-zero-shot",
        "teacher-fine-tuned",
        "student-distilled",
    ]
    assert other.student.files["weights"].read_bytes() != again.student.files["weights"].read_bytes()
    assert other.card.ladder[-1].correct[0] == again.card.ladder[-2].correct[1]


def test_progress_tells_every_step_of_every_stage_of_every_seed(run: Run) -> None:
    stages = [
        ("pretrain", 20),
        ("finetune", 4),
        ("scratch", 4),
        ("student-pretrain", 4),
        ("student-finetune", 4),
        ("self-training", 6),
        ("distill", 6),
        ("oracle", 4),
    ]
    told = [(update.seed, update.stage, update.step) for update in run.updates]
    assert told == [
        (seed, stage, step) for seed in (0, 1) for stage, steps in stages for step in range(1, steps + 1)
    ]
    assert all(update.loss is not None and math.isfinite(update.loss) for update in run.updates)
    assert list(run.outcome.stage_s[0]) == [stage for stage, _ in stages]
    ((forecast, kept),) = run.announced
    assert forecast.recipe_s > 0
    assert forecast.controls_s > 0
    assert kept == ()


def test_interrupted_work_is_kept_and_taken_up_to_the_same_bundle(run: Run, tmp_path: Path) -> None:
    wish = Wish(directory=tmp_path / "bundle")

    def stop(update: Update) -> None:
        if (update.seed, update.stage, update.step) == (1, "distill", 3):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="kept in") as caught:
        distill(run.recipe, wish, stop)
    assert "same command goes on" in caught.value.hint
    assert not wish.directory.exists()
    seen: list[Update] = []
    outcome = distill(run.recipe, wish, seen.append)
    assert outcome is not None
    assert outcome.student.sha256 == run.outcome.student.sha256
    assert {update.stage for update in seen if update.loss is not None} == {"distill", "oracle"}
    assert not partial_folder(wish.directory).exists()


def test_another_recipe_takes_up_nothing_of_it(run: Run, tmp_path: Path) -> None:
    wish = Wish(directory=tmp_path / "bundle", controls=False)

    def stop(update: Update) -> None:
        if update.stage == "distill":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        distill(run.recipe, wish, stop)
    seen: list[Update] = []

    def look(update: Update) -> None:
        seen.append(update)
        if update.stage == "distill":
            raise KeyboardInterrupt

    optimiser = msgspec.structs.replace(run.recipe.optimiser, weight_decay=0.5)
    with pytest.raises(Interrupted):
        distill(msgspec.structs.replace(run.recipe, optimiser=optimiser), wish, look)
    assert all(update.loss is not None for update in seen)


def test_every_method_has_its_row_in_the_full_ablation(tmp_path: Path) -> None:
    outcome = distill(
        parse_recipe(brief(), "brief.toml"),
        Wish(directory=tmp_path / "bundle", controls=False, ablation="full"),
        quiet,
    )
    assert outcome is not None
    assert [row.row for row in outcome.card.ladder[4:]] == [
        "teacher-scratch",
        "student-from-unadapted",
        "student-labelled-only",
        "student-kd-t1",
        *(f"student-{name}" for name in ("kd", "hard", "hint", "attention", "relational", "dist", "dkd")),
    ]


def test_a_student_of_random_weights_is_called_untrained(tmp_path: Path) -> None:
    from kdbench.card import unjudged

    outcome = distill(
        parse_recipe(brief(), "brief.toml"), Wish(directory=tmp_path / "bundle", weights="random"), quiet
    )
    assert outcome is not None
    assert unjudged(outcome.card) == "untrained"
    assert outcome.card.ladder == ()
    evaluation = load_evaluation(outcome.student)
    assert evaluation.labels is None
    assert 1e-2 < evaluation.logits.std() < 1e2


def write_toml(path: Path, table: dict[str, Any]) -> Path:
    """Write a recipe's table as TOML, its inner tables by dotted keys."""

    def lines(inner: dict[str, Any], prefix: str = "") -> list[str]:
        told = []
        for key, value in inner.items():
            if isinstance(value, dict):
                told += lines(value, f"{prefix}{key}.")
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                items = ", ".join(
                    "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in item.items()) + "}"
                    for item in value
                )
                told.append(f"{prefix}{key} = [{items}]")
            else:
                told.append(f"{prefix}{key} = {_toml(value)}")
        return told

    path.write_text("\n".join(lines(table)))
    return path


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    return json.dumps(value)


def test_the_command_shows_the_ladder_and_where_things_are(tmp_path: Path) -> None:
    recipe = write_toml(tmp_path / "mine.toml", brief())
    output = tmp_path / "bundle"
    result = CliRunner().invoke(command, [str(recipe), "--no-controls", "--output", str(output)])
    assert result.exit_code == 0, result.exception
    assert "A seed takes about" in result.stderr
    assert "student, distilled" in result.stdout
    assert f"Next:    kdbench run {output}" in result.stdout
    assert (tmp_path / "bundle.png").is_file()
    refused = CliRunner().invoke(command, [str(recipe), "--output", str(output)])
    assert isinstance(refused.exception, StudentError)


def test_the_command_distils_pictures_of_the_users_own(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for domain, offset in (("photos", 0), ("camera", 90)):
        for name, level in (("cat", 40), ("dog", 120)):
            folder = tmp_path / domain / name
            folder.mkdir(parents=True)
            for number in range(30):
                pixels = rng.integers(level + offset, level + offset + 40, (20, 20, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    short = [f"--set={stage}.steps=4" for stage in ("pretrain", "finetune", "distill")]
    arguments = [
        "--source-data",
        str(tmp_path / "photos"),
        "--target-data",
        str(tmp_path / "camera"),
        "--no-controls",
        "--quiet",
        *short,
        "--output",
        str(tmp_path / "bundle"),
    ]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.exception
    card = read_card(open_student(tmp_path / "bundle"))
    assert card.classes == ("cat", "dog")
    assert (card.name, card.title) == ("photos", "photos, then camera")
    assert card.data.splits == {
        "source_train": 48,
        "source_test": 12,
        "test": 18,
        "labelled": 12,
        "unlabelled": 30,
    }
    assert str(tmp_path) not in (tmp_path / "bundle" / "card.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "fault", "told"),
    [
        (["--target-data", "x"], UsageError, "needs --source-data"),
        (["--source-data", "x", "--target-data", "y.npz"], UsageError, "two kinds"),
        (["--source-data", "no-such"], RecipeError, "does not exist"),
        (["--set", "steps"], UsageError, "not KEY=VALUE"),
        (["--set", "distill.stepz=3"], RecipeError, "did you mean steps"),
        (["--method", "kdd"], RecipeError, "kdd"),
        (["--method", "dkd"], RecipeError, "beta"),
        (["--labels", "2000"], RecipeError, "There are 1797 pictures"),
        (["--method", ""], UsageError, "not NAME[,NAME]"),
        (["--method", "kd,"], UsageError, "not NAME[,NAME]"),
        (["--quiet", "--method", "dkd"], RecipeError, "beta"),
        (["--set", "base=digits-10"], RecipeError, "base cannot be replaced"),
        (["--set", "seed=1\nseeds=2"], RecipeError, "seed: Expected"),
        (["--set", "student.arguments.classes=3"], RecipeError, "the data say how many"),
        (["--set", "distill.terms.0.method=kd"], RecipeError, "distill.terms is no table"),
        (["--set", "distill.terms=[1]"], RecipeError, "distill.terms"),
        (["--set", "engine.precision=fp16"], UsageError, "fp16"),
        (["--threads", "4000"], RecipeError, "4000 threads"),
        (["--weights", "random", "--seeds", "2"], UsageError, "does not"),
    ],
)
def test_the_command_refuses_before_it_trains(
    arguments: list[str],
    fault: type[Exception],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, [*arguments, "--set", "pretrain.steps=2", "--no-controls"])
    assert isinstance(result.exception, fault), result.exception
    assert told in str(result.exception)
    assert "pretrain  " not in result.stderr
    assert list(tmp_path.glob("*")) == []


def test_the_command_lists_recipes_methods_networks_and_sources() -> None:
    result = CliRunner().invoke(command, ["--list"])
    assert result.exit_code == 0
    for name in ("digits-2x5", "mobilenet64", "hint", "resnet18", "folder"):
        assert name in result.output


def test_ctrl_c_keeps_the_work_and_exits_with_130(tmp_path: Path) -> None:
    table = brief()
    table["distill"]["steps"] = 1_000_000
    recipe = write_toml(tmp_path / "long.toml", table)
    arguments = ["distill", str(recipe), "--no-controls", "--output", str(tmp_path / "bundle")]
    with subprocess.Popen(
        [sys.executable, "-m", "kdbench", *arguments], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("finetune"):
                process.send_signal(signal.SIGINT)
                break
        told = process.stderr.read()
        assert process.wait() == 130
    assert "The same command goes on from there" in told
    assert "Traceback" not in told
    assert not (tmp_path / "bundle").exists()
    assert partial_folder(tmp_path / "bundle").is_dir()


def test_two_processes_train_one_student(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    recipe = write_toml(tmp_path / "mine.toml", brief())
    arguments = ["distill", str(recipe), "--no-controls", "--output", str(tmp_path / "two")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*launcher, "-m", "kdbench", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("student, distilled") == 1
    two = load_evaluation(open_student(tmp_path / "two"))
    alone = distill(parse_recipe(brief(), "mine"), Wish(directory=tmp_path / "one", controls=False), quiet)
    assert alone is not None
    one = load_evaluation(alone.student)
    # The same images in the same batches; the statistics of batch normalisation are those of half of each.
    assert np.corrcoef(one.logits.ravel(), two.logits.ravel())[0, 1] > 0.8


NETWORKS = """
import torch
from torch import nn

def plain(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(768, classes))

def unheeding():
    return plain(2)

def poisoned(classes):
    network = plain(classes)
    nn.init.constant_(network[1].bias, float("nan"))
    return network

def fixed(classes):
    return plain(classes).requires_grad_(False)

def judged(classes):
    return nn.Sequential(plain(classes), nn.Softmax(1))

def ending(classes):
    raise SystemExit("bye")

class Tied(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.one, self.head = nn.Linear(768, 768), nn.Linear(768, classes)
        self.other = nn.Linear(768, 768)
        self.other.weight = self.one.weight

    def forward(self, images):
        return self.head(self.other(self.one(images.flatten(1)).relu()))

class Wrapped(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.inner = plain(classes)

class Pair(Wrapped):
    def forward(self, images):
        return self.inner(images), images

class Moody(Wrapped):
    def forward(self, images):
        return self.inner(images) + torch.rand(len(images), 1)

class Deciding(Wrapped):
    def forward(self, images):
        return self.inner(images) if images.sum() > 1 else -self.inner(images)

class Lacking(Wrapped):
    def forward(self, images):
        return {}["inner"]
"""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with networks of the user's own, in a module that only it has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange_nets.py").write_text(NETWORKS)
    yield tmp_path
    sys.modules.pop("strange_nets", None)


def strange_recipe(name: str) -> Recipe:
    return parse_recipe(brief(student={"network": f"strange_nets:{name}"}), "strange.toml")


@pytest.mark.parametrize("name", ["plain", "Tied"])
def test_a_trusted_network_of_the_working_folder_is_found_and_distilled(name: str, strange: Path) -> None:
    before = list(sys.path)
    wish = Wish(directory=strange / "bundle", controls=False, trust_code=True)
    outcome = distill(strange_recipe(name), wish, quiet)
    assert outcome is not None
    assert outcome.card.network.factory is None
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("unheeding", "unexpected keyword argument 'classes'"),
        ("poisoned", "begins with NaN or infinity in 1.bias"),
        ("fixed", "no weights that can be trained"),
        ("judged", "answers probabilities"),
        ("ending", "SystemExit: bye"),
        ("Pair", "with tuple"),
        ("Moody", "differently each time"),
        ("Deciding", "cannot be exported to ONNX"),
        ("Lacking", "KeyError: 'inner'"),
    ],
)
def test_a_network_that_cannot_be_distilled_is_refused_before_training(
    name: str, told: str, strange: Path
) -> None:
    seen: list[Update] = []
    wish = Wish(directory=strange / "bundle", controls=False, trust_code=True)
    with pytest.raises(RecipeError) as caught:
        distill(strange_recipe(name), wish, seen.append)
    assert told in str(caught.value)
    assert seen == []
    assert [path.name for path in strange.iterdir() if path.name != "__pycache__"] == ["strange_nets.py"]


def test_training_that_diverges_leaves_nothing_behind(tmp_path: Path) -> None:
    table = brief()
    table["teacher"]["arguments"]["std"] = 1e-45
    with pytest.raises(RecipeError, match="stage pretrain is nan at step 1 of 20"):
        distill(parse_recipe(table, "nan.toml"), Wish(directory=tmp_path / "bundle", controls=False), quiet)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_kdbenchs_beside_the_bundle_stays(tmp_path: Path) -> None:
    recipe, wish = parse_recipe(brief(), "mine"), Wish(directory=tmp_path / "bundle", controls=False)
    work, picture = partial_folder(wish.directory), tmp_path / "bundle.png"
    work.write_text("mine")
    with pytest.raises(StudentError, match="in the way"):
        distill(recipe, wish, quiet)
    work.unlink()
    work.symlink_to(tmp_path)
    with pytest.raises(StudentError, match="in the way"):
        distill(recipe, wish, quiet)
    work.unlink()
    picture.write_text("mine")
    with pytest.raises(StudentError, match=r"bundle\.png exists already.*--overwrite"):
        distill(recipe, wish, quiet)
    picture.unlink()
    picture.mkdir()
    with pytest.raises(StudentError, match=r"bundle\.png exists already.*Move it away"):
        distill(recipe, dataclasses.replace(wish, overwrite=True), quiet)
    picture.rmdir()
    (work / "seed-of-mine").mkdir(parents=True)
    assert distill(recipe, wish, quiet) is not None
    assert [path.name for path in work.iterdir()] == ["seed-of-mine"]


def test_a_bundle_is_not_written_among_the_pictures_it_is_made_of(tmp_path: Path) -> None:
    table = brief()
    table["data"] |= {"source": "folder", "arguments": {"familiar": "photos"}}
    (tmp_path / "photos").mkdir()
    wish = Wish(directory=tmp_path / "photos" / "bundle", base=tmp_path)
    with pytest.raises(UsageError, match="among the pictures of photos"):
        distill(parse_recipe(table, "mine"), wish, quiet)


def test_a_title_in_any_script_is_drawn_as_text(tmp_path: Path) -> None:
    table = brief(title="漢字 $_{$ [bold]" + "x" * 200)
    outcome = distill(parse_recipe(table, "mine"), Wish(directory=tmp_path / "b", controls=False), quiet)
    assert outcome is not None
    assert outcome.picture is not None
    assert outcome.picture.is_file()


def test_a_request_to_terminate_keeps_the_work_too(tmp_path: Path) -> None:
    wish = Wish(directory=tmp_path / "bundle", controls=False)

    def stop(update: Update) -> None:
        if update.stage == "finetune":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="kept in"):
        distill(parse_recipe(brief(), "mine"), wish, stop)
    assert partial_folder(wish.directory).is_dir()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def stop_at_once(update: Update) -> None:
        raise KeyboardInterrupt

    other = Wish(directory=tmp_path / "other", controls=False)
    with pytest.raises(Interrupted, match="nothing is left behind"):
        distill(parse_recipe(brief(), "mine"), other, stop_at_once)


def test_only_the_first_process_of_a_machine_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = CliRunner().invoke(command, ["no-such-recipe"])
    assert (result.exit_code, result.output) == (2, "")


def test_an_untrained_student_is_written_by_the_first_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second:
        rank, processes, device = 1, 2, torch.device("cpu")

    monkeypatch.setattr("kdbench.distill.engine.start", lambda plan: Second())
    wish = Wish(directory=tmp_path / "bundle", weights="random")
    assert distill(parse_recipe(brief(), "mine"), wish, quiet) is None
    assert list(tmp_path.iterdir()) == []


def test_want_of_memory_and_a_lost_process_have_sentences_of_their_own(tmp_path: Path) -> None:
    from kdbench.distill.checkpoint import Store

    for told, fault in (
        ("DefaultCPUAllocator: can't allocate memory", RecipeError),
        ("CUDA out of memory. Tried to allocate 2 GiB", RecipeError),
        ("gloo: Connection closed by peer [127.0.0.1]", UsageError),
    ):
        with pytest.raises(fault), kdbench.distill._explained(Store(None), tmp_path):
            raise RuntimeError(told)
    with pytest.raises(RuntimeError, match="a bug"), kdbench.distill._explained(Store(None), tmp_path):
        raise RuntimeError("a bug")


def test_the_working_folder_of_pictures_gives_the_recipe_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Pets 2").mkdir()
    monkeypatch.chdir(tmp_path / "Pets 2")
    result = CliRunner().invoke(command, ["--source-data", "."])
    assert isinstance(result.exception, UsageError)
    assert "written to pets-2-seed0, among the pictures" in str(result.exception)
