"""Losses by hand, splits that share nothing, recipes read strictly, and a short real distillation."""

from __future__ import annotations

import math
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import kdbench.distill
from kdbench.card import Card, LadderRow
from kdbench.cli.distill import command, ladder_table
from kdbench.distill import Outcome, distill
from kdbench.distill.data import SPLITS, check_disjoint, make_splits
from kdbench.distill.export import check_agreement
from kdbench.distill.ladder import account, resolution
from kdbench.distill.losses import cross_entropy, soft_targets
from kdbench.distill.nets import build, count_macs, count_parameters
from kdbench.distill.recipe import Recipe, parse_recipe, read_recipe, recipe_path
from kdbench.distill.train import Update, augment, deterministic, predict
from kdbench.errors import RecipeError, StudentError, UsageError
from kdbench.problems import TOML_LIMIT_BYTES
from kdbench.student import check_writable, load_calibration, load_evaluation, open_student, read_card

torch = pytest.importorskip("torch")


@pytest.fixture
def table() -> dict[str, Any]:
    return tomllib.loads(recipe_path("digits-2x5").read_text())


def brief() -> dict[str, Any]:
    """Give the embedded recipe with hardly any steps and few images."""
    table = tomllib.loads(recipe_path("digits-2x5").read_text())
    table["data"] |= {"source_train": 60, "source_test": 20, "unlabelled": 64, "test": 50, "calibration": 16}
    for stage, steps in (("pretrain", 20), ("finetune", 4), ("distill", 6)):
        table[stage]["steps"] = steps
    return table


def quiet(update: Update) -> None:
    """Tell nothing."""


def test_cross_entropy_is_the_mean_of_minus_log_probability() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    expected = (math.log(2.0) + math.log(4.0)) / 2
    assert cross_entropy(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_soft_targets_is_the_divergence_at_the_temperature_times_its_square() -> None:
    # At T = 2 the teacher says 3/4, 1/4 and the student 1/2, 1/2.
    teacher, student = torch.tensor([[2 * math.log(3.0), 0.0]]), torch.tensor([[1.0, 1.0]])
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_targets(student, teacher, temperature=2.0).item() == pytest.approx(4 * divergence)
    assert soft_targets(teacher, teacher, temperature=2.0).item() == 0.0


def test_the_gradient_of_soft_targets_keeps_its_size_when_the_temperature_grows() -> None:
    sizes = []
    for temperature in (50.0, 100.0):
        student = torch.zeros(1, 2, requires_grad=True)
        soft_targets(student, torch.tensor([[1.0, -1.0]]), temperature=temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-3)


@pytest.mark.parametrize(
    ("factory", "parameters", "macs"),
    [("tiny-student", 6_186, 186_368), ("tiny-teacher", 315_426, 3_299_712)],
)
def test_networks_have_the_size_that_is_written_of_them(factory: str, parameters: int, macs: int) -> None:
    network = build(factory, {})
    assert count_parameters(network) == parameters
    assert count_macs(network, (3, 16, 16)) == macs
    assert network.training
    network.eval()
    count_macs(network, (3, 16, 16))
    assert not network.training


def test_macs_of_one_convolution_by_hand() -> None:
    layer = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    # 6 maps of 4x4, each point 3x3 over the 2 channels of its group
    assert count_macs(layer, (4, 8, 8)) == 6 * 4 * 4 * 3 * 3 * 2


def test_a_network_is_drawn_from_its_seed_and_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (build("tiny-student", {}, seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_network_that_cannot_be_built_is_a_sentence() -> None:
    with pytest.raises(RecipeError, match=r"'no-such' is not installed.*tiny-student"):
        build("no-such", {})
    with pytest.raises(RecipeError, match="cannot be built as asked"):
        build("tiny-student", {"chanels": [1]})


def test_splits_share_no_picture_and_are_drawn_from_the_seed() -> None:
    plan = read_recipe().data
    splits = make_splits(plan, 0)
    parts = [getattr(splits, name) for name in SPLITS]
    digests = [digest for part in parts for digest in part.digests]
    assert len(digests) == len(set(digests)) == 1797
    assert [len(part) for part in parts] == [600, 100, 500, 120, 477]
    again, other = make_splits(plan, 0), make_splits(plan, 1)
    assert np.array_equal(splits.test.images, again.test.images)
    assert splits.test.digests != other.test.digests
    assert splits.sha256 == other.sha256


def test_fewer_labels_leave_more_unlabelled_but_no_more_than_asked_for_and_the_same_test_split() -> None:
    few, many = make_splits(read_recipe(labels=60).data, 0), make_splits(read_recipe().data, 0)
    assert len(few.unlabelled) == 500
    assert np.array_equal(few.test.images, many.test.images)


def test_splits_that_share_a_picture_are_refused() -> None:
    splits = make_splits(read_recipe().data, 0)
    with pytest.raises(RecipeError, match="source_train and test share"):
        check_disjoint({"source_train": splits.source_train, "test": splits.source_train})


def test_too_many_labels_are_refused_with_the_number_that_mends_it() -> None:
    with pytest.raises(RecipeError, match="by 31"):
        make_splits(read_recipe(labels=500).data, 0)


def test_the_clean_domain_is_grey_and_the_shifted_one_is_not() -> None:
    splits = make_splits(read_recipe().data, 0)
    clean, shifted = splits.source_train.images, splits.test.images
    assert clean.dtype == shifted.dtype == np.uint8
    assert (clean[:, 0] == clean[:, 2]).all()
    assert not (shifted[:, 0] == shifted[:, 2]).all(axis=(1, 2)).any()


def test_a_quarter_turn_without_colours_is_a_quarter_turn(table: dict[str, Any]) -> None:
    plain = {"contrast": [1.0, 1.0], "background": [0.0, 0.0], "texture": 0.0, "noise": 0.0}
    upright, turned = (
        make_splits(parse_recipe(replaced(table, degrees, plain), "r").data, 0).test.images
        for degrees in (0.0, 90.0)
    )
    difference = turned.astype(int) - np.rot90(upright, k=1, axes=(2, 3))
    assert np.abs(difference).max() <= 1


def replaced(table: dict[str, Any], degrees: float, shift: dict[str, Any]) -> dict[str, Any]:
    shift = {**table["data"]["shift"], **shift, "rotation_degrees": degrees}
    return {**table, "data": {**table["data"], "shift": shift}}


def test_augmentation_moves_each_image_by_what_is_allowed() -> None:
    plan = msgspec.structs.replace(read_recipe().augmentation, brightness=0.0, contrast=0.0)
    images = torch.zeros(64, 3, 5, 5)
    images[:, :, 2, 2] = 1.0
    moved = augment(images, plan, np.random.default_rng(0))
    assert (moved.sum((1, 2, 3)) == 3.0).all()
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}


def test_all_that_is_wrong_in_a_recipe_is_told_at_once(table: dict[str, Any]) -> None:
    table["sead"] = table.pop("seed")
    table["pretrain"]["step"] = table["pretrain"].pop("steps")
    table["distill"]["temperature"] = "hot"
    table["data"]["shift"]["rotation_degrees"] = math.nan
    with pytest.raises(RecipeError) as caught:
        parse_recipe(table, "mine.toml")
    for problem in (
        "sead: unknown key; did you mean seed?",
        "seed: missing",
        "pretrain.step: unknown key; did you mean steps?",
        "pretrain.steps: missing",
        "distill.temperature: Expected `float`, got `str`",
        "data.shift.rotation_degrees: not a finite number",
    ):
        assert f"\n  {problem}" in caught.value.message


def test_contradictions_in_a_recipe_are_told_at_once(table: dict[str, Any]) -> None:
    table["data"] |= {"calibration": 501, "classes": ["low", "low"]}
    table["data"]["shift"]["contrast"] = [0.9, 0.5]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(table, "mine.toml")
    for problem in ("data.calibration", "data.classes", "data.shift.contrast"):
        assert f"\n  {problem}" in caught.value.message


@pytest.mark.parametrize(
    "text", ["= 1", "seed = 'zero", "\x00", "seed = " + "[" * 5000, "seed = " + "9" * 5000]
)
def test_a_recipe_that_is_no_toml_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"mine\.toml"):
        read_recipe(path, seed=3, labels=5)


def test_a_recipe_that_is_no_file_or_endless_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "big.toml").write_text("#" * (TOML_LIMIT_BYTES + 1))
    for path, told in (
        ("pipe.toml", "is not a file"),
        ("big.toml", "is larger than"),
        ("/dev/zero", "not a"),
    ):
        with pytest.raises(RecipeError, match=told):
            read_recipe(tmp_path / path)


def test_a_place_that_takes_no_bundle_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "bundle", Path("/proc/bundle")):
        with pytest.raises(StudentError, match="cannot be written"):
            check_writable(place)
    check_writable(tmp_path / "new" / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_recipe_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(RecipeError, match="Embedded recipes: digits-2x5"):
        read_recipe("digits-2x6")


def test_options_replace_what_the_recipe_says() -> None:
    recipe = read_recipe(seed=7, labels=60, threads=2)
    assert (recipe.seed, recipe.data.labelled, recipe.threads) == (7, 60, 2)
    with pytest.raises(RecipeError, match="seed"):
        read_recipe(seed=-1)


def test_torch_is_left_as_it_was() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic(before[0] + 1):
        assert torch.get_num_threads() == before[0] + 1
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize(
    "found", [[[1.01, 0.0]], [[1.0, math.nan]], [[0.99999, 1.0]]], ids=["far", "not a number", "flipped"]
)
def test_an_exported_form_that_answers_otherwise_is_refused(found: list[list[float]]) -> None:
    with pytest.raises(StudentError, match="not the network that was trained"):
        check_agreement("ONNX", np.array(found), np.array([[1.0, 0.99999]]))
    check_agreement("ONNX", np.array([[1.0005, 0.0]]), np.array([[1.0, 0.0]]))


def test_libraries_that_lack_are_named_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        kdbench.distill, "find_spec", lambda name: None if name in ("torch", "sklearn") else name
    )
    with pytest.raises(UsageError, match=r"scikit-learn, torch\. .*requirements-dev\.txt"):
        distill(read_recipe(), tmp_path / "never", quiet)
    assert not (tmp_path / "never").exists()


class Run:
    """A short distillation that several tests look at."""

    def __init__(self, directory: Path) -> None:
        self.recipe: Recipe = parse_recipe(brief(), "brief.toml")
        self.updates: list[Update] = []
        self.outcome: Outcome = distill(self.recipe, directory, self.updates.append)
        self.card: Card = read_card(self.outcome.student)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("distill") / "bundle")


def test_a_distillation_leaves_a_bundle_that_opens(run: Run) -> None:
    student = open_student(run.outcome.student.root)
    evaluation = load_evaluation(student)
    assert len(evaluation.labels) == 50
    assert load_calibration(student)[0].shape == (16, 3, 16, 16)
    assert (student.parameters, student.macs) == (6_186, 186_368)
    assert run.card.teacher is not None
    assert (run.card.teacher.parameters, run.card.teacher.macs) == (315_426, 3_299_712)
    assert run.card.recipe["data.shift"] == msgspec.to_builtins(run.recipe.data.shift)


def test_the_rows_of_the_ladder_say_what_each_network_was_given(run: Run) -> None:
    rows = [(row.row, row.domain, row.labels, row.images) for row in run.card.ladder]
    assert rows == [
        ("teacher-source", "source", 0, 20),
        ("teacher-zero-shot", "target", 0, 50),
        ("teacher-fine-tuned", "target", 120, 50),
        ("student-distilled", "target", 120, 50),
    ]


def test_weights_and_onnx_answer_as_the_reference_at_any_batch(run: Run) -> None:
    import onnxruntime
    from safetensors.torch import load_file

    student = run.outcome.student
    evaluation = load_evaluation(student)
    network = build("tiny-student", student.arguments, seed=5)
    network.load_state_dict(load_file(student.files["weights"]))
    stored = np.rint(evaluation.inputs[0] * 255).astype(np.uint8)
    assert np.abs(predict(network, stored) - evaluation.logits).max() <= 1e-3
    session = onnxruntime.InferenceSession(student.files["onnx"], providers=["CPUExecutionProvider"])
    for batch in (1, 3, 50):
        (logits,) = session.run(["logits"], {"images": evaluation.inputs[0][:batch]})
        assert np.abs(logits - evaluation.logits[:batch]).max() <= 1e-3


def test_the_onnx_file_is_folded_and_tells_nothing_of_its_maker(run: Run) -> None:
    import onnx

    model = onnx.load(run.outcome.student.files["onnx"])
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Sub", "Div", "Conv", "Relu", "ReduceMean", "Gemm"}
    assert model.opset_import[0].version == 20
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_does_not(run: Run, tmp_path: Path) -> None:
    again = distill(run.recipe, tmp_path / "again", quiet).student
    for path in run.outcome.student.root.iterdir():
        assert path.read_bytes() == (again.root / path.name).read_bytes(), path.name
    other = distill(msgspec.structs.replace(run.recipe, seed=1), tmp_path / "other", quiet).student
    assert other.files["weights"].read_bytes() != again.files["weights"].read_bytes()


def test_progress_tells_every_step_of_every_stage(run: Run) -> None:
    stages = [("pretrain", 20), ("finetune", 4), ("distill", 6)]
    told = [(update.stage, update.step) for update in run.updates]
    assert told == [(stage, step) for stage, steps in stages for step in range(1, steps + 1)]
    assert all(math.isfinite(update.loss) and update.left_s >= 0 for update in run.updates)
    assert list(run.outcome.stage_s) == [stage for stage, _ in stages]


def test_the_command_keeps_the_teacher_where_the_recipe_says_so(tmp_path: Path) -> None:
    text = recipe_path("digits-2x5").read_text().replace("teacher = false", "teacher = true")
    for steps in (200, 100, 500):
        text = text.replace(f"steps = {steps}\n", "steps = 2\n")
    (tmp_path / "mine.toml").write_text(text)
    output = tmp_path / "bundle"
    result = CliRunner().invoke(command, [str(tmp_path / "mine.toml"), "--output", str(output)])
    assert result.exit_code == 0, result.exception
    assert result.stderr.count("\n") == 3
    assert "student, distilled from it" in result.stdout
    student = open_student(output)
    assert {"teacher-weights", "teacher-onnx"} <= set(student.files)
    teacher = read_card(student).teacher
    assert teacher is not None
    assert teacher.sha256 == read_card(student).files["teacher-weights"].sha256
    refused = CliRunner().invoke(command, ["--output", str(output)])
    assert isinstance(refused.exception, StudentError)


def test_the_command_lists_the_recipes() -> None:
    result = CliRunner().invoke(command, ["--list"])
    assert result.exit_code == 0
    assert "digits-2x5" in result.output


def row(name: str, *correct: int, labels: int = 0) -> LadderRow:
    return LadderRow(
        row=name,
        title=name,
        network="student" if name.startswith("student") else "teacher",
        domain="target",
        labels=labels,
        images=100,
        seeds=tuple(range(len(correct))),
        correct=correct,
    )


def test_the_account_claims_only_what_the_rows_show() -> None:
    card = read_card(open_student("digits-2x5"))
    ladder = (
        row("teacher-zero-shot", 60),
        row("teacher-fine-tuned", 90, labels=7),
        row("student-distilled", 88),
    )
    words = " ".join(account(msgspec.structs.replace(card, ladder=ladder)))
    assert "+28.0 points from the unadapted teacher" in words
    assert "7 labels move the teacher itself by +30.0 points" in words
    assert "the fine-tuned teacher: -2.0 points" in words
    assert "51 times fewer" in words
    assert account(msgspec.structs.replace(card, ladder=ladder[:2])) == ()
    assert 100 * resolution(row("student-distilled", 50)) == pytest.approx(9.8)


def test_the_table_shows_a_spread_where_there_are_several_seeds() -> None:
    table = ladder_table((row("teacher-zero-shot", 60), row("student-distilled", 88, 90)))
    assert "60.0 %\n" in table
    assert "89.0 % ± 1.4" in table
